"""Full and read-only disks, damaged files, signals amid a save: no checkpoint
is lost, and none is used that is not whole."""

import errno
import os
import signal
import sys
import tempfile
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from saved_models import largest_file, plain_model, value_of

from keras_unet_diffusion import files
from keras_unet_diffusion.training import (
    SaveCheckpoints,
    StopOnSignal,
    Stopped,
    best_checkpoint,
    load_model,
)
from keras_unet_diffusion.training.checkpoints import (
    FINAL_MODEL,
    checkpoint_path,
    list_checkpoints,
    newest_whole_checkpoint,
    save_checkpoint,
)
from keras_unet_diffusion.training.model_files import save_model


@pytest.fixture
def saved(tmp_path):
    """Path of a saved `plain_model`."""
    path = tmp_path / "a.keras"
    save_model(plain_model(), path)
    return path


def change_a_bit(path):
    """Changes one in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def assert_refused(path):
    with pytest.raises(ValueError, match="damaged") as refusal:
        load_model(path)
    assert str(path) in str(refusal.value)


def test_a_flipped_bit_in_the_middle_is_refused(saved):
    data = bytearray(saved.read_bytes())
    data[len(data) // 2] ^= 1
    saved.write_bytes(data)
    assert_refused(saved)


def test_a_flipped_bit_among_the_weights_is_refused(saved):
    data = bytearray(saved.read_bytes())
    # All weights are 0.5: this finds them inside of the file.
    weights = data.index(np.full(150, 0.5, "float32").tobytes())
    data[weights + 300] ^= 1
    saved.write_bytes(data)
    assert_refused(saved)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(saved, kept):
    data = saved.read_bytes()
    saved.write_bytes(data[: int(kept * len(data))])
    assert_refused(saved)


def test_damage_to_the_headers_is_refused_or_does_no_harm(saved):
    data = saved.read_bytes()
    with zipfile.ZipFile(saved) as archive:
        places = [
            entry.header_offset + k
            for entry in archive.infolist()
            for k in range(30 + len(entry.filename))
        ]
        places += range(archive.start_dir, len(data))
    refused = 0
    # This is a bit of flags, methods, lengths and offsets at once.
    for place in places[::3]:
        damaged = bytearray(data)
        damaged[place] ^= 0x81
        saved.write_bytes(damaged)
        try:
            assert value_of(saved) == 0.5
        except ValueError as error:
            assert str(saved) in str(error)
            refused += 1
    # Dates and file attributes may be anything.
    assert refused > len(places[::3]) / 4


def test_a_zip_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "a.keras"
    with open(path, "wb") as file:
        np.savez(file, images=np.zeros(3))
    assert_refused(path)


@pytest.mark.parametrize("lost", ["config.json", "model.weights.h5"])
def test_a_model_file_that_lacks_a_part_is_refused(saved, lost):
    with zipfile.ZipFile(saved) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    del parts[lost]
    with zipfile.ZipFile(saved, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    assert_refused(saved)


def test_a_text_file_is_refused(tmp_path):
    path = tmp_path / "a.keras"
    path.write_text("This is no model.")
    assert_refused(path)


def test_a_full_disk_keeps_the_old_model(saved):
    before = saved.read_bytes()
    with largest_file(len(before) // 2), pytest.raises(OSError):
        save_model(plain_model(2.0), saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_any_changed_byte_is_noticed_or_does_no_harm(saved):
    data = saved.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for place in random.choice(len(data), 100, replace=False):
        damaged = bytearray(data)
        damaged[place] ^= random.integers(1, 256)
        saved.write_bytes(damaged)
        try:
            assert value_of(saved) == 0.5
        except ValueError as error:
            assert str(saved) in str(error)
            refused += 1
    # All but 3% of the file are its members' contents, each with a checksum.
    assert refused > 90


def test_damage_that_changes_how_a_part_is_read_is_refused(saved):
    """Each kind of error that any change of any header's byte was seen to
    raise. Where all of a part is read, other lengths do no harm."""
    data = saved.read_bytes()
    with zipfile.ZipFile(saved) as archive:
        begin = archive.start_dir
    # Deflate, bzip2, LZMA, an unknown one; encrypted; a version to come.
    changes = [(10, 8), (10, 12), (10, 14), (10, 99), (8, 1), (6, 200)]
    # The offset of the first part.
    changes += [(42, 255), (45, 255)]
    for place, mask in changes:
        damaged = bytearray(data)
        damaged[begin + place] ^= mask
        saved.write_bytes(damaged)
        assert_refused(saved)
    # The offset of all of them, in the archive's last record.
    for place in (len(data) - 6, len(data) - 3):
        damaged = bytearray(data)
        damaged[place] ^= 255
        saved.write_bytes(damaged)
        assert_refused(saved)


def test_every_length_but_the_whole_is_refused(saved):
    data = saved.read_bytes()
    lengths = np.random.default_rng(0).choice(len(data), 50, replace=False)
    for length in [*lengths, len(data) - 1]:
        saved.write_bytes(data[:length])
        assert_refused(saved)


def test_a_final_model_that_is_damaged_is_reported_and_passed_over(
    tmp_path, caplog
):
    for step, value in [(1, 0.25), (2, 0.75)]:
        save_checkpoint(plain_model(value), tmp_path, step)
    final = tmp_path / FINAL_MODEL
    save_model(plain_model(0.5), final)
    assert value_of(tmp_path) == 0.5
    assert caplog.messages == []
    change_a_bit(final)
    assert value_of(tmp_path) == 0.75
    (warning,) = caplog.messages
    assert str(final) in warning and "step_00000002.keras" in warning
    change_a_bit(checkpoint_path(tmp_path, 2))
    assert value_of(tmp_path) == 0.25
    # Asked for by its name, it is refused.
    assert_refused(final)


def test_where_all_are_damaged_none_is_loaded(tmp_path):
    save_checkpoint(plain_model(), tmp_path, 1)
    save_model(plain_model(), tmp_path / FINAL_MODEL)
    for path in (tmp_path / FINAL_MODEL, checkpoint_path(tmp_path, 1)):
        change_a_bit(path)
    for find in (load_model, newest_whole_checkpoint):
        with pytest.raises(ValueError, match="All checkpoints") as refusal:
            find(tmp_path)
        assert str(checkpoint_path(tmp_path, 1)) in str(refusal.value)


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
