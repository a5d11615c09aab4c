"""Stopping a run by a signal so that it can go on where it was."""

import os
import signal
import threading

import keras

from keras_unet_diffusion.training.checkpoints import (
    checkpoint_path,
    save_checkpoint,
)
from keras_unet_diffusion.training.model_files import read_losses

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_NOTICE = b"\nStopping after this step; once more to leave at once.\n"


class Stopped(Exception):
    """A run was asked to stop, and its state is saved.

    Args:
        step: int. Training steps that were taken.
        path: `Path` of the checkpoint.
    """

    def __init__(self, step, path):
        super().__init__(f"Stopped after step {step:,}; saved {path}.")
        self.step = step
        self.path = path


class RestoreMetrics(keras.callbacks.Callback):
    """Goes on with the means of an epoch that was stopped amid it.

    Args:
        model: a `DiffusionModel` that was loaded from the checkpoint.
    """

    def __init__(self, model):
        super().__init__()
        self.state = [variable.numpy() for variable in model.metrics_variables]

    def on_epoch_begin(self, epoch, logs=None):
        # After fit has reset it.
        for variable, value in zip(
            self.model.metrics_variables, self.state, strict=True
        ):
            variable.assign(value)


class StopOnSignal(keras.callbacks.Callback):
    """Ends training after the running step when the process is told to stop.

    Make it the last of the callbacks: what others do at the end of an epoch
    then is done before it saves.

    SIGTERM and SIGINT (Ctrl-C) save a checkpoint and raise `Stopped` out of
    `fit`; a second signal ends the process at once. Signals are caught only
    inside its `with` block, and only in the main thread. It waits for the
    step, of `steps_per_execution` steps for all of them, and for validation.

    Args:
        workdir: the checkpoint goes to `workdir/checkpoints`.
        steps_done: int >= 0. Training steps before `fit`.
        keep: int >= 1. Checkpoints that are kept.

    Raises:
        Stopped: from `fit`, after a signal.

    Example:

    ```python
    with StopOnSignal("runs/photos") as stop:
        model.fit(dataset, epochs=100, callbacks=[stop])
    ```
    """

    # Else Keras on JAX would wait for each step: all that is done after one
    # is counting.
    async_safe = True

    def __init__(self, workdir, steps_done=0, keep=2):
        super().__init__()
        self.workdir = workdir
        self.step = steps_done
        self.keep = keep
        self.is_asked = False
        self._handlers = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *error):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _on_signal(self, number, frame):
        if self.is_asked:
            os._exit(128 + number)
        self.is_asked = True
        # Not print: it may have been interrupted itself.
        os.write(2, _NOTICE)

    def on_epoch_begin(self, epoch, logs=None):
        self.num_batches = 0

    def on_train_batch_begin(self, batch, logs=None):
        # After an epoch's last step, the epoch is ended: nothing would do that
        # later.
        if self.is_asked:
            self._stop(batch, losses=None)

    def on_train_batch_end(self, batch, logs=None):
        # From other threads these calls may come in any order.
        self.num_batches = max(self.num_batches, batch + 1)

    def on_epoch_end(self, epoch, logs=None):
        if self.is_asked:
            self._stop(self.num_batches, losses=logs)
        self.step += self.num_batches

    def _stop(self, num_batches, losses):
        step = self.step + num_batches
        if not num_batches:
            # The checkpoint of the epoch before may be there already.
            losses = read_losses(checkpoint_path(self.workdir, step))
        path = save_checkpoint(
            self.model, self.workdir, step, losses, self.keep
        )
        raise Stopped(step, path)
