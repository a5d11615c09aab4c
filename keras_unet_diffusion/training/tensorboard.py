"""TensorBoard: what `fit` logs, and the flags of the run."""

from pathlib import Path

import keras
import tensorflow as tf

from keras_unet_diffusion.training.event_files import rewind_events

# All diagrams of a run stand under one heading.
_HEADING = "fit/"


class LogScalars(keras.callbacks.Callback):
    """Writes the logs of each epoch, and its learning rate, for TensorBoard.

    `loss` is written as `fit/loss`, into the run `train`; `val_loss` too, into
    the run `validation`, so that both are in one diagram. The x is the number
    of training steps that the model has taken, in this `fit` and before: what
    an earlier process logged after that is taken back first, so that a run
    that goes on from a checkpoint leaves neither gaps nor the same step twice.
    (`keras.callbacks.TensorBoard` counts epochs, keeps up to two minutes of
    them unwritten, and logs those twice that a killed run had logged already.)
    An epoch is written to the file at its end: put this before the callback
    that saves checkpoints.

    Args:
        log_dir: folder for TensorBoard's files.
        hparams: dict of bool, numbers, str, sequences of those, or None, by
            name, for TensorBoard's HParams; what is None or empty is left out.
            Written when the first step has yet to be taken.

    Example:

    ```python
    log = LogScalars("runs/photos/logs", {"learning_rate": 1e-3})
    model.fit(dataset, epochs=100, callbacks=[log])
    ```
    """

    def __init__(self, log_dir, hparams=None):
        super().__init__()
        self.log_dir = Path(log_dir)
        self.hparams = hparams
        self._writers = {}

    def on_train_begin(self, logs=None):
        step = int(self.model.updates.steps_taken.numpy())
        rewind_events(self.log_dir, step)
        if self.hparams and step == 0:
            write_hparams(self.log_dir, self.hparams)

    def on_epoch_end(self, epoch, logs=None):
        step = int(self.model.updates.steps_taken.numpy())
        runs = {"train": {"learning_rate": _learning_rate(self.model)}}
        for name, value in (logs or {}).items():
            run = "validation" if name.startswith("val_") else "train"
            tag = name.removeprefix("val_")
            runs.setdefault(run, {})[tag] = value
            if name == "val_loss":
                # HParams finds metrics in the run of the flags alone.
                runs["train"][name] = value
        for run, scalars in runs.items():
            if run not in self._writers:
                folder = str(self.log_dir / run)
                self._writers[run] = tf.summary.create_file_writer(folder)
            with self._writers[run].as_default(step=step):
                for tag, value in scalars.items():
                    tf.summary.scalar(_HEADING + tag, value)
            self._writers[run].flush()

    def on_train_end(self, logs=None):
        for writer in self._writers.values():
            writer.close()
        self._writers = {}


def _learning_rate(model):
    optimizer = model.optimizer
    # Without loss scaling around it.
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def write_hparams(log_dir, hparams):
    """Writes what a run was started with, for TensorBoard's HParams.

    The table shows it beside the last loss and rate, those of `LogScalars`.

    Args:
        log_dir: folder for TensorBoard's files.
        hparams: see `LogScalars`.
    """
    # Not above: it takes half a second to import.
    from tensorboard.plugins.hparams import api

    known = {}
    for name, value in hparams.items():
        if isinstance(value, list | tuple):
            value = ",".join(map(str, value))
        if value is not None and value != "":
            known[name] = value
    names = ("loss", "val_loss", "images_per_second")
    metrics = [api.Metric(_HEADING + name, display_name=name) for name in names]
    # Not log_dir itself: TensorBoard started there would find no metrics.
    writer = tf.summary.create_file_writer(str(Path(log_dir) / "train"))
    with writer.as_default(step=0):
        # All names, also of those left out here: the table of several runs
        # has the columns of the first.
        api.hparams_config([api.HParam(name) for name in hparams], metrics)
        api.hparams(known)
    writer.close()
