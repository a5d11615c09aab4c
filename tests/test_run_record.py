"""The record of a run: its time and its logs, over several processes."""

import json
import time

import pytest

from keras_unet_diffusion.training.run_record import RECORD_FILE, RunRecord


class Clock:
    """A clock that the test sets forward."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def pass_by(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def begin(clock, workdir, steps_done=0):
    """A process that starts in 2 s and reads data for 5 s."""
    record = RunRecord(workdir, steps_done)
    clock.pass_by(2)
    record.enter("data")
    clock.pass_by(5)
    record.on_train_begin()
    return record


def train_epoch(clock, record, epoch, loss, after=()):
    """Two executions of 5 steps, 3 s each, 4 s of validation; callbacks."""
    record.on_epoch_begin(epoch)
    for batch in (4, 9):
        clock.pass_by(3)
        record.on_train_batch_end(batch)
    record.on_test_begin()
    clock.pass_by(4)
    record.on_test_end()
    record.on_epoch_end(epoch, {"loss": loss, "val_loss": loss + 1})
    for callback, seconds in after:
        before, _, behind = record.timed(callback, None)
        before.on_epoch_end(epoch)
        clock.pass_by(seconds)
        behind.on_epoch_end(epoch)


def test_all_time_is_charged_to_the_part_that_it_was_spent_in(clock, tmp_path):
    record = begin(clock, tmp_path)
    saving = [("checkpoints", 0.5), ("samples", 7.0)]
    train_epoch(clock, record, 0, 0.5, saving)
    train_epoch(clock, record, 1, 0.4, saving)
    record.on_train_end()
    record.enter("final samples")
    clock.pass_by(11)
    seconds = {k: v for k, v in record.seconds().items() if v}
    assert seconds == {
        "start": 2,
        "data": 5,
        "first step": 3,
        "training": 3 + 6,
        "validation": 8,
        "checkpoints": 1,
        "samples": 14,
        "final samples": 11,
    }
    assert sum(seconds.values()) == clock.now - 1000


def test_validation_begins_where_the_last_step_ended(clock, tmp_path):
    # A device may still be training when Keras begins to validate.
    record = begin(clock, tmp_path)
    record.on_epoch_begin(0)
    clock.pass_by(3)
    record.on_train_batch_end(0)
    record.on_test_begin()
    clock.pass_by(2)
    record.on_train_batch_end(1)
    clock.pass_by(4)
    record.on_test_end()
    record.on_epoch_end(0, {})
    seconds = record.seconds()
    assert (seconds["training"], seconds["validation"]) == (2, 4)


def test_a_run_that_was_killed_goes_on_without_what_was_lost(clock, tmp_path):
    record = begin(clock, tmp_path)
    train_epoch(clock, record, 0, 0.5, [("checkpoints", 1.0)])
    train_epoch(clock, record, 1, 0.4, [("checkpoints", 1.0)])
    # Killed; of the second epoch there was no checkpoint.
    clock.pass_by(10_000)
    record = begin(clock, tmp_path, steps_done=10)
    assert record.history("loss") == ([10], [0.5])
    train_epoch(clock, record, 1, 0.3, [("checkpoints", 1.0)])
    assert record.history("loss") == ([10, 20], [0.5, 0.3])
    assert record.history("val_loss") == ([10, 20], [1.5, 1.3])
    assert [s["first_step"] for s in record.sessions] == [0, 10]
    assert {k: v for k, v in record.seconds().items() if v} == {
        "start": 4,
        "data": 10,
        "first step": 6,
        "training": 6,
        "validation": 8,
        "checkpoints": 2,
    }


def test_a_run_that_was_stopped_amid_an_epoch_keeps_its_time(clock, tmp_path):
    with pytest.raises(KeyError), begin(clock, tmp_path) as record:
        record.on_epoch_begin(0)
        clock.pass_by(3)
        record.on_train_batch_end(4)
        clock.pass_by(3)
        record.on_train_batch_end(6)
        raise KeyError
    record = begin(clock, tmp_path, steps_done=7)
    record.on_epoch_begin(0)
    clock.pass_by(9)
    record.on_train_batch_end(2)
    record.on_epoch_end(0, {"loss": 0.5})
    assert record.history("loss") == ([10], [0.5])
    seconds = record.seconds()
    assert (seconds["first step"], seconds["training"]) == (3 + 9, 3)


def test_a_process_without_a_step_that_is_left_is_forgotten(clock, tmp_path):
    train_epoch(clock, begin(clock, tmp_path), 0, 0.5)
    for _ in range(2):
        record = begin(clock, tmp_path, steps_done=10)
        record.save()
    assert [s["first_step"] for s in record.sessions] == [0, 10]


@pytest.mark.parametrize(
    "content", [None, "", "{", "[]", '{"epochs": 3}', '{"epochs": [{}]}']
)
def test_a_record_that_is_missing_or_damaged_is_begun_anew(tmp_path, content):
    if content is not None:
        (tmp_path / RECORD_FILE).write_text(content)
    record = RunRecord(tmp_path, steps_done=10)
    assert record.history("loss") == ([], [])
    assert [s["first_step"] for s in record.sessions] == [10]


def test_a_run_that_starts_afresh_takes_up_nothing(clock, tmp_path):
    train_epoch(clock, begin(clock, tmp_path), 0, 0.5)
    record = RunRecord(tmp_path)
    assert record.epochs == []
    assert len(record.sessions) == 1


def test_the_file_is_written_every_so_many_epochs(clock, tmp_path):
    record = RunRecord(tmp_path, every_epochs=2)
    record.on_train_begin()
    found = []
    for epoch in range(4):
        train_epoch(clock, record, epoch, 0.5)
        path = tmp_path / RECORD_FILE
        epochs = json.loads(path.read_text())["epochs"] if path.exists() else []
        found.append(max([entry["step"] for entry in epochs], default=0))
    assert found == [0, 20, 20, 40]


def test_no_epochs_between_two_writes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="every_epochs=0"):
        RunRecord(tmp_path, every_epochs=0)
