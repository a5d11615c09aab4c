"""Damage to a checkpoint is noticed wherever it is, and the file not used."""

import zipfile

import numpy as np
import pytest
from saved_models import change_a_bit, plain_model, value_of

from keras_unet_diffusion.training.checkpoints import (
    FINAL_MODEL,
    checkpoint_path,
    load_model,
    newest_whole_checkpoint,
    save_checkpoint,
)
from keras_unet_diffusion.training.model_files import is_whole, save_model


@pytest.fixture
def saved(tmp_path):
    """Path of a saved `plain_model`."""
    path = tmp_path / "a.keras"
    save_model(plain_model(), path)
    return path


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


def test_a_file_is_whole_if_it_is_there_and_not_damaged(saved, caplog):
    assert is_whole(saved)
    assert not is_whole(saved.with_name("missing.keras"))
    assert caplog.messages == []
    change_a_bit(saved)
    assert not is_whole(saved)
    (warning,) = caplog.messages
    assert str(saved) in warning
