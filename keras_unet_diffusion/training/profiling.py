"""Where the time of some batches goes, for TensorBoard."""

from pathlib import Path

import keras
import tensorflow as tf


class ProfileBatches(keras.callbacks.Callback):
    """Profiles some batches: where the time goes, on the host and the device.

    The trace lies in `log_dir/train/plugins/profile`; TensorBoard shows it
    where the package `xprof` is installed. Profiled batches are slower, and a
    trace of many is large: ten tell enough. Leave out the first, which
    compiles.

    Args:
        log_dir: folder for TensorBoard's files.
        first: int >= 1. First batch, counted from 1 at the first `fit`, not
            from the steps of a run that goes on. Of an execution of
            `steps_per_execution` batches, all are profiled or none.
        last: int >= first. Last of them.

    Raises:
        ValueError: the range is empty or begins before 1.

    Example:

    ```python
    profile = ProfileBatches("runs/photos/logs", first=10, last=20)
    model.fit(dataset, epochs=100, callbacks=[profile])
    ```
    """

    # Else Keras on JAX would wait for each step, and the profile would show
    # that. What is done after a batch is counting.
    async_safe = True

    def __init__(self, log_dir, first, last):
        if not 1 <= first <= last:
            raise ValueError(
                "Batches to profile are counted from 1, the first before the "
                f"last. Received: first={first}, last={last}. Pass, for "
                "example, first=10, last=20."
            )
        super().__init__()
        self.folder = str(Path(log_dir) / "train")
        self.first = first
        self.last = last
        self._num_batches = 0
        self._is_running = False
        self._is_done = False
        self._mark = None

    def on_epoch_begin(self, epoch, logs=None):
        self._before = self._num_batches

    def on_train_batch_begin(self, batch, logs=None):
        begins = self._before + batch + 1
        self._end_mark()
        if self._is_running and begins > self.last:
            self._finish()
        if self._is_done or begins < self.first:
            return
        if not self._is_running:
            _start(self.folder)
            self._is_running = True
        self._mark = _mark_of_step(begins)
        self._mark.__enter__()

    def on_train_batch_end(self, batch, logs=None):
        self._num_batches = max(self._num_batches, self._before + batch + 1)

    def on_epoch_end(self, epoch, logs=None):
        self._end_mark()
        if self._is_running and self._num_batches >= self.last:
            self._finish()

    def on_train_end(self, logs=None):
        if self._is_running:
            self._finish()

    def _end_mark(self):
        if self._mark is not None:
            self._mark.__exit__(None, None, None)
            self._mark = None

    def _finish(self):
        _stop()
        self._is_running, self._is_done = False, True


def _start(folder):
    if keras.backend.backend() == "jax":
        import jax

        jax.profiler.start_trace(folder)
    else:
        tf.profiler.experimental.start(folder)


def _stop():
    if keras.backend.backend() == "jax":
        import jax

        jax.profiler.stop_trace()
    else:
        tf.profiler.experimental.stop()


def _mark_of_step(step):
    """What makes a step a step in the profiler's tables."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.profiler.StepTraceAnnotation("train", step_num=step)
    return tf.profiler.experimental.Trace("train", step_num=step, _r=1)
