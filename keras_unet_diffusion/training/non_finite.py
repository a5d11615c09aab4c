"""Stopping a run that has nothing but steps without finite numbers left."""

import collections

import keras

from keras_unet_diffusion.training.callbacks import check_count
from keras_unet_diffusion.training.checkpoints import save_checkpoint

_EPOCHS_REPORTED = 5


class Diverged(Exception):
    """Too many updates in a row were skipped; the state before is saved.

    Args:
        first_step: int. The step, from 1, at which the row began.
        num_in_a_row: int. Updates of the row so far.
        num_skipped: int. Skipped updates of the whole run.
        losses: list of floats. Mean losses of the last whole epochs.
        path: `Path` of the checkpoint.
    """

    def __init__(self, first_step, num_in_a_row, num_skipped, losses, path):
        shown = ", ".join(f"{loss:.4g}" for loss in losses) or "none yet"
        super().__init__(
            "The loss or its gradients are not finite any more. Received: "
            f"{num_in_a_row:,} such updates in a row from step {first_step:,} "
            f"on ({num_skipped:,} in all; mean losses of the last epochs: "
            f"{shown}). None of them changed the weights: those before are "
            f"in {path}. Train with a lower learning rate, a smaller clip_norm "
            "or another precision."
        )
        self.first_step = first_step
        self.num_in_a_row = num_in_a_row
        self.num_skipped = num_skipped
        self.losses = losses
        self.path = path


class StopOnNonFinite(keras.callbacks.Callback):
    """Ends training after too many skipped updates in a row.

    `DiffusionModel` skips an update whose loss or gradients are not finite:
    weights, averages and optimizer stay as they are. A long row never ends.
    Then this saves a checkpoint, removes none of those before, and raises
    `Diverged` out of `fit`. Overflow by which float16 finds its loss scale
    belongs to no row.

    To look is to wait for the device, so it looks only once in
    `max_in_a_row` steps (or `steps_per_execution`, if that is more) and at the
    end of an epoch, which waits anyway. The model counts on the device, so
    nothing is missed in between but a row that has ended; a run stops at most
    `max_in_a_row` steps late.

    Args:
        workdir: the checkpoint goes to `workdir/checkpoints`.
        max_in_a_row: int >= 1. So many skipped updates in a row end the run.

    Raises:
        Diverged: from `fit`.

    Example:

    ```python
    model.fit(dataset, callbacks=[StopOnNonFinite("runs/photos")])
    ```
    """

    def __init__(self, workdir, max_in_a_row=10):
        super().__init__()
        check_count("max_in_a_row", max_in_a_row)
        self.workdir = workdir
        self.max_in_a_row = max_in_a_row
        self.losses = collections.deque(maxlen=_EPOCHS_REPORTED)

    def on_epoch_begin(self, epoch, logs=None):
        self.seen_batch = 0

    # Not on_train_batch_end, for which Keras on JAX would wait each time.
    def on_train_batch_begin(self, batch, logs=None):
        if batch - self.seen_batch >= self.max_in_a_row:
            self.seen_batch = batch
            self._look(losses=None)

    def on_epoch_end(self, epoch, logs=None):
        self._look(losses=logs)
        self.losses.append(logs["loss"])

    def _look(self, losses):
        # Once: under JAX it brings the state of the device to the model.
        model = self.model
        updates = model.updates
        num_in_a_row = int(updates.skipped_in_a_row.numpy())
        if num_in_a_row < self.max_in_a_row:
            return
        step = int(updates.steps_taken.numpy())
        path = save_checkpoint(model, self.workdir, step, losses, keep=None)
        raise Diverged(
            int(updates.first_skipped_step.numpy()) + 1,
            num_in_a_row,
            int(updates.skipped_steps.numpy()),
            list(self.losses),
            path,
        )
