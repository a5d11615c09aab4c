"""TensorBoard's files: what a run had logged when a checkpoint was saved."""

from pathlib import Path

import tensorflow as tf

from keras_unet_diffusion.files import written_whole

_NAMES = "events.out.tfevents.*"
# The profiler's, an empty file that marks a run.
_PROFILE_MARK = ".profile-empty"


def rewind_events(log_dir, step):
    """Takes back what was logged after a step.

    A run that was killed has logged more than its newest checkpoint knows.
    Going on from there it logs those steps again: without this, TensorBoard
    would have them twice. Call it before the run's own writers are opened, and
    only where no other process is writing.

    Args:
        log_dir: folder with TensorBoard's files, at any depth; one that does
            not exist is left so.
        step: int >= 0, of the checkpoint. At 0 all is taken back, also what
            is logged when a run begins.

    Example:

    ```python
    rewind_events("runs/photos/logs", step=2000)
    ```
    """
    for path in sorted(Path(log_dir).rglob(_NAMES)):
        if path.name.endswith(_PROFILE_MARK):
            continue
        keeps, is_whole = [], True
        for record in _records(path):
            if record is None:
                is_whole = False
                continue
            event = tf.compat.v1.Event.FromString(record)
            is_version = event.HasField("file_version")
            keeps.append(is_version or (step > 0 and event.step <= step))
        if is_whole and all(keeps):
            continue
        # The first is the version of the file.
        if not any(keeps[1:]):
            path.unlink()
            continue
        with (
            written_whole(path) as temporary,
            tf.io.TFRecordWriter(str(temporary)) as writer,
        ):
            for record, is_kept in zip(_records(path), keeps, strict=False):
                if is_kept:
                    writer.write(record)


def _records(path):
    """Yields the records of a file, and None where its end is damaged."""
    records = iter(tf.data.TFRecordDataset(str(path)))
    while True:
        try:
            yield next(records).numpy()
        except StopIteration:
            return
        except tf.errors.DataLossError:
            yield None
            return
