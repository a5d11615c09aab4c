"""What a run had logged when it was killed, and what it goes on from."""

import pytest
import tensorflow as tf

from keras_unet_diffusion.training.event_files import rewind_events


def write(folder, steps, tag="loss"):
    """One file with a scalar at each step, whose value is the step."""
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        for step in steps:
            tf.summary.scalar(tag, float(step), step=step)
    writer.close()


def files_in(folder):
    return sorted(folder.rglob("events.out.tfevents.*"))


def steps_in(folder):
    """Steps of all scalars under a folder, as TensorFlow reads them."""
    return [
        event.step
        for path in files_in(folder)
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for _ in event.summary.value
    ]


def test_what_was_logged_after_a_step_is_taken_back(tmp_path):
    write(tmp_path / "train", [10, 20, 30, 40])
    write(tmp_path / "validation", [20, 40])
    rewind_events(tmp_path, 20)
    assert steps_in(tmp_path / "train") == [10, 20]
    assert steps_in(tmp_path / "validation") == [20]


def test_a_file_of_later_steps_alone_is_removed(tmp_path):
    write(tmp_path, [30, 40])
    rewind_events(tmp_path, 20)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_earlier_steps_is_left_as_it_is(tmp_path):
    write(tmp_path, [0, 10, 20])
    (path,) = files_in(tmp_path)
    before = path.read_bytes(), path.stat().st_mtime_ns
    rewind_events(tmp_path, 20)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_records_that_stay_are_the_same_bytes(tmp_path):
    write(tmp_path, [10, 20, 30])
    (path,) = files_in(tmp_path)
    before = path.read_bytes()
    rewind_events(tmp_path, 20)
    after = path.read_bytes()
    assert before.startswith(after) and len(after) < len(before)


def test_a_run_that_starts_afresh_has_logged_nothing(tmp_path):
    write(tmp_path, [0, 10])
    rewind_events(tmp_path, 0)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("num_bytes", [1, 20])
def test_a_record_that_was_cut_off_is_removed_alone(tmp_path, num_bytes):
    write(tmp_path, [10, 20, 30])
    (path,) = files_in(tmp_path)
    path.write_bytes(path.read_bytes()[:-num_bytes])
    rewind_events(tmp_path, 30)
    assert steps_in(tmp_path) == [10, 20]
    # Whole again: what is read does not end in an error.
    rewind_events(tmp_path, 10)
    assert steps_in(tmp_path) == [10]


def test_the_mark_of_the_profiler_stays(tmp_path):
    mark = tmp_path / "events.out.tfevents.1.host.profile-empty"
    mark.write_bytes(b"")
    rewind_events(tmp_path, 10)
    assert mark.exists()


def test_there_may_be_no_folder_yet(tmp_path):
    rewind_events(tmp_path / "logs", 10)
    assert list(tmp_path.iterdir()) == []
