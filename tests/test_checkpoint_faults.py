"""Full and read-only disks, and signals amid a save, lose no checkpoint."""

import errno
import os
import signal
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
from saved_models import change_a_bit, largest_file, plain_model

from keras_unet_diffusion import files
from keras_unet_diffusion.training import (
    SaveCheckpoints,
    StopOnSignal,
    Stopped,
    best_checkpoint,
    load_model,
)
from keras_unet_diffusion.training.checkpoints import (
    checkpoint_path,
    list_checkpoints,
    newest_whole_checkpoint,
)
from keras_unet_diffusion.training.model_files import save_model


@pytest.fixture
def saved(tmp_path):
    """Path of a saved `plain_model`."""
    path = tmp_path / "a.keras"
    save_model(plain_model(), path)
    return path


def test_a_full_disk_keeps_the_old_model(saved):
    before = saved.read_bytes()
    with largest_file(len(before) // 2), pytest.raises(OSError):
        save_model(plain_model(2.0), saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_file_is_synced_and_checked_before_it_gets_its_name(
    tmp_path, monkeypatch
):
    order = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        order.append(("sync", path.name))
        fsync(descriptor)

    def note_replace(source, target):
        order.append(("rename", Path(target).name))
        replace(source, target)

    if not Path("/proc/self/fd").exists():
        pytest.skip("the system does not tell the names of open files")
    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)

    def check(path):
        order.append(("check", path.name))

    with files.written_whole(tmp_path / "a.txt", check) as temporary:
        temporary.write_text("all")
    assert order == [
        ("sync", "a.txt"),
        ("check", "a.txt"),
        ("rename", "a.txt"),
        ("sync", tmp_path.name),
    ]


def test_a_model_that_was_not_written_as_it_is_replaces_none(
    saved, monkeypatch
):
    save = keras.Model.save

    def save_badly(model, path):
        save(model, path)
        change_a_bit(path)

    before = saved.read_bytes()
    monkeypatch.setattr(keras.Model, "save", save_badly)
    with pytest.raises(OSError, match="not written as it is"):
        save_model(plain_model(2.0), saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_disk_that_fails_at_the_sync_loses_nothing(
    saved, monkeypatch, number
):
    """Network disks tell only then that they are full."""

    def fsync(descriptor):
        raise OSError(number, os.strerror(number))

    before = saved.read_bytes()
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match=os.strerror(number)):
        save_model(plain_model(2.0), saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


class Act(keras.callbacks.Callback):
    """Does something after an epoch, from 0."""

    def __init__(self, epoch, act):
        super().__init__()
        self.epoch, self.act = epoch, act

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            self.act()


def fit(model, workdir, *callbacks, begin=0, keep=2):
    """Trains for four epochs of one step each."""
    numbers = np.ones((4, 3), "float32")
    model.fit(
        numbers,
        np.ones((4, 50), "float32"),
        initial_epoch=begin,
        epochs=4,
        callbacks=[*callbacks, SaveCheckpoints(workdir, keep=keep)],
        verbose=0,
    )


def compiled_model():
    model = plain_model()
    model.compile(keras.optimizers.Adam(0.1), "mse", run_eagerly=True)
    return model


def test_a_run_on_a_full_disk_ends_and_goes_on_when_there_is_space(tmp_path):
    expected = compiled_model()
    fit(expected, tmp_path / "expected")
    workdir = tmp_path / "run"
    with largest_file(10**9):
        resource = pytest.importorskip("resource")
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        fill = Act(
            2,
            lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, hard)),
        )
        with pytest.raises(OSError, match="File too large"):
            fit(compiled_model(), workdir, fill)
    found = sorted((workdir / "checkpoints").iterdir())
    assert found == [checkpoint_path(workdir, step) for step in (1, 2)]
    step, path = newest_whole_checkpoint(workdir)
    model = load_model(path)
    model.run_eagerly = True
    fit(model, workdir, begin=step)
    for a, b in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [step for step, _ in list_checkpoints(workdir)] == [3, 4]


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs users")
def test_a_folder_that_became_read_only_ends_the_run_and_loses_nothing():
    user = os.geteuid()
    # Not tmp_path, which other users may not enter.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        checkpoints = Path(folder) / "checkpoints"

        def forbid():
            os.chmod(checkpoints, 0o555)
            if user == 0:
                # Nothing is read-only to root.
                os.seteuid(65534)

        try:
            with pytest.raises(PermissionError):
                fit(compiled_model(), folder, Act(2, forbid))
        finally:
            os.seteuid(user)
            os.chmod(checkpoints, 0o755)
        assert [step for step, _ in list_checkpoints(folder)] == [1, 2]
        assert newest_whole_checkpoint(folder)[0] == 2


def test_a_disk_that_is_mounted_read_only_loses_nothing(
    saved, monkeypatch, tmp_path
):
    def mkdtemp(**kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    before = saved.read_bytes()
    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    with pytest.raises(OSError, match="Read-only"):
        save_model(plain_model(2.0), saved)
    assert saved.read_bytes() == before


def save_amid_signals(monkeypatch, *numbers):
    """Makes signals come amid the next write of a model."""
    save = keras.Model.save
    left = list(numbers)

    def save_and_signal(model, path):
        save(model, path)
        while left:
            data = path.read_bytes()
            path.write_bytes(data[: len(data) // 2])
            os.kill(os.getpid(), left.pop(0))
            path.write_bytes(data)

    monkeypatch.setattr(keras.Model, "save", save_and_signal)


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_amid_a_save_waits_for_the_file(monkeypatch, tmp_path, number):
    save_amid_signals(monkeypatch, number)
    with pytest.raises(Stopped) as stopped:
        with StopOnSignal(tmp_path) as stop:
            fit(compiled_model(), tmp_path, stop)
    ((step, path),) = list_checkpoints(tmp_path)
    assert (step, path) == (1, stopped.value.path)
    assert load_model(path).optimizer.iterations == 1
    # Saved once more before the second step, it is still known as the best.
    assert best_checkpoint(tmp_path) == path


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_a_second_signal_amid_a_save_leaves_what_was_there(
    monkeypatch, tmp_path
):
    class Left(BaseException):
        pass

    def leave(status):
        raise Left(status)

    monkeypatch.setattr(os, "_exit", leave)
    send = Act(
        1,
        lambda: save_amid_signals(monkeypatch, signal.SIGTERM, signal.SIGTERM),
    )
    with pytest.raises(Left):
        with StopOnSignal(tmp_path) as stop:
            fit(compiled_model(), tmp_path, send, stop)
    assert list_checkpoints(tmp_path) == [(1, checkpoint_path(tmp_path, 1))]
    assert newest_whole_checkpoint(tmp_path)[0] == 1
