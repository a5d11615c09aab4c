"""What a run did and how long it took, over all processes that worked on it."""

import datetime
import json
import time
from pathlib import Path

import keras

from keras_unet_diffusion.files import written_whole
from keras_unet_diffusion.training.callbacks import check_count
from keras_unet_diffusion.training.hardware import (
    describe_hardware,
    describe_versions,
)

RECORD_FILE = "run.json"


class RunRecord(keras.callbacks.Callback):
    """Keeps the logs of all epochs and the time of each part, in `run.json`.

    A run that goes on from a checkpoint takes up the record at that step: what
    a process that was killed did after it is forgotten, as its weights are, so
    the times are of the work that is in the model. A record that is missing
    or damaged is begun anew. Put it after `ImagesPerSecond` and before what
    saves checkpoints.

    Time is charged to one part at once: `enter` says to which. Inside `fit`
    it enters "first step" (tracing and compiling), "training", "validation"
    and "other" itself; `timed` gives a callback a part of its own.

    Args:
        workdir: folder of the file.
        steps_done: int >= 0. Training steps before this process, those of the
            checkpoint.
        every_epochs: int >= 1. Epochs between two times that the file is
            written; make it those between two checkpoints or a part of them.

    Raises:
        ValueError: every_epochs is below 1.

    Example:

    ```python
    with RunRecord("runs/photos") as record:
        save = record.timed("checkpoints", SaveCheckpoints("runs/photos"))
        model.fit(dataset, epochs=100, callbacks=[record, *save])
    record.seconds()["training"]
    ```
    """

    # As with ImagesPerSecond: after a batch it only looks at the clock.
    async_safe = True

    def __init__(self, workdir, steps_done=0, every_epochs=1):
        super().__init__()
        check_count("every_epochs", every_epochs)
        self.every_epochs = every_epochs
        self.path = Path(workdir) / RECORD_FILE
        self.step = steps_done
        self.epochs, self.sessions = _read(self.path, steps_done)
        started = datetime.datetime.now(datetime.UTC)
        self.sessions.append(
            {
                "first_step": steps_done,
                "started": started.isoformat(timespec="seconds"),
                "hardware": describe_hardware(),
                "versions": describe_versions(),
            }
        )
        self._open = {}
        self._is_after_epoch = self._is_compiled = False
        self._trained_until = self._tested_until = None
        self._part, self._since = "start", time.perf_counter()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._end_training()
        self.save()

    def enter(self, part, since=None):
        """Charges time to another part.

        Args:
            part: str.
            since: float, of `time.perf_counter`; None for now.
        """
        since = time.perf_counter() if since is None else since
        spent = since - self._since
        self._open[self._part] = self._open.get(self._part, 0.0) + spent
        self._part, self._since = part, since

    def timed(self, part, callback):
        """Gives a callback's work at the end of epochs a part of its own.

        Args:
            part: str.
            callback: a `keras.callbacks.Callback`.

        Returns:
            List of two callbacks, in the order in which `fit` shall have them.
        """
        return [_Enter(self, part), callback, _Enter(self, "other")]

    def on_train_begin(self, logs=None):
        self.enter("first step")
        self._is_compiled = False

    def on_epoch_begin(self, epoch, logs=None):
        self._first_step = self.step
        self._trained_until = self._tested_until = None
        if self._is_compiled:
            self.enter("training")
        if self._is_after_epoch:
            # What was done at the end of an epoch is part of it.
            entry = self.epochs[-1]
            entry["seconds"] = _sum([entry["seconds"], self._open])
            self._open, self._is_after_epoch = {}, False

    def on_train_batch_end(self, batch, logs=None):
        now = time.perf_counter()
        self.step = max(self.step, self._first_step + batch + 1)
        if not self._is_compiled:
            self._is_compiled = True
            self.enter("training", now)
        self._trained_until = now

    def on_test_end(self, logs=None):
        self._tested_until = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self._end_training()
        self.epochs.append(self._entry(logs or {}))
        self._open, self._is_after_epoch = {}, True
        if (epoch + 1) % self.every_epochs == 0:
            # Before the checkpoint: else a kill between the two would leave
            # one whose last epochs are not in the record.
            self.save()

    def _end_training(self):
        # Not when validation begins: a device may then still be training.
        if self._tested_until is not None:
            self.enter("validation", self._trained_until)
            self.enter("other", self._tested_until)
            self._tested_until = None
        elif self._part == "training":
            self.enter("other", self._trained_until)

    def on_train_end(self, logs=None):
        self.enter("other")

    def _entry(self, logs):
        logs = {name: float(value) for name, value in logs.items()}
        return {"step": self.step, "logs": logs, "seconds": self._open}

    def save(self):
        """Writes the record, the time since the last epoch included."""
        self.enter(self._part)
        epochs = [*self.epochs, self._entry({})]
        content = {"sessions": self.sessions, "epochs": epochs}
        with written_whole(self.path) as temporary:
            temporary.write_text(json.dumps(content) + "\n")

    def seconds(self):
        """Returns a dict of seconds by part, of all processes together."""
        self.enter(self._part)
        entries = [*self.epochs, self._entry({})]
        return _sum(entry["seconds"] for entry in entries)

    def history(self, name):
        """Returns the steps and values of a log, two lists of equal length.

        Args:
            name: str, such as `loss` or `val_loss`.
        """
        found = [
            (entry["step"], entry["logs"][name])
            for entry in self.epochs
            if name in entry["logs"]
        ]
        return [step for step, _ in found], [value for _, value in found]


class _Enter(keras.callbacks.Callback):
    def __init__(self, record, part):
        super().__init__()
        self.record = record
        self.part = part

    def on_epoch_end(self, epoch, logs=None):
        self.record.enter(self.part)


def _sum(parts):
    """Adds dicts of seconds."""
    total = {}
    for seconds in parts:
        for part, spent in seconds.items():
            total[part] = total.get(part, 0.0) + spent
    return total


def _read(path, step):
    """Epochs and sessions of a record up to a step."""
    if step == 0:
        return [], []
    try:
        content = json.loads(path.read_text())
        epochs = [x for x in content["epochs"] if x["step"] <= step]
        # Of one that began there no work is left.
        sessions = [x for x in content["sessions"] if x["first_step"] < step]
    except (OSError, ValueError, KeyError, TypeError):
        return [], []
    return epochs, sessions
