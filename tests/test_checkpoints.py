"""Models are saved whole, found again, and refused when damaged."""

import contextlib
import zipfile

import keras
import numpy as np
import pytest

from keras_unet_diffusion.training.checkpoints import (
    CHECKPOINT_FOLDER,
    FINAL_MODEL,
    checkpoint_path,
    find_model,
    list_checkpoints,
    load_model,
    save_model,
)


def plain_model(value=0.5):
    """A model that is saved and loaded in milliseconds."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(50)])
    model.set_weights([np.full_like(w, value) for w in model.get_weights()])
    return model


def value_of(path):
    """The number that all weights of a saved `plain_model` have."""
    (value,) = np.unique(
        np.concatenate([w.ravel() for w in load_model(path).get_weights()])
    )
    return value


@pytest.fixture
def saved(tmp_path):
    """Path of a saved `plain_model`."""
    path = tmp_path / "a.keras"
    save_model(plain_model(), path)
    return path


@contextlib.contextmanager
def largest_file(num_bytes):
    """Makes writing more fail, as on a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_loaded_model_is_the_saved_one_and_trains_on_like_it(
    small_model, digits, tmp_path
):
    images, labels = (array[:16] for array in digits)
    options = {"batch_size": 8, "verbose": 0, "shuffle": False}
    # Not traced: that takes longer than four steps.
    small_model.compile(keras.optimizers.Adam(1e-3), run_eagerly=True)
    small_model.fit(images, labels, **options)
    save_model(small_model, tmp_path / FINAL_MODEL)
    loaded = load_model(tmp_path)
    loaded.run_eagerly = True

    def state(model):
        return [
            *model.get_weights(),
            *(v.numpy() for v in model.optimizer.variables),
        ]

    for a, b in zip(state(small_model), state(loaded), strict=True):
        np.testing.assert_array_equal(a, b)
    samples = small_model.generate(2, num_steps=2, seed=1)
    np.testing.assert_array_equal(
        loaded.generate(2, num_steps=2, seed=1), samples
    )
    small_model.fit(images, labels, **options)
    loaded.fit(images, labels, **options)
    for a, b in zip(state(small_model), state(loaded), strict=True):
        # Sums of two runs may be taken in another order: a few units in the
        # last place of numbers near 1, scaled up by Adam's division.
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    # It did train: the test would otherwise say nothing.
    assert small_model.optimizer.iterations == 4


def test_saving_replaces_the_old_model(saved):
    save_model(plain_model(2.0), saved)
    assert value_of(saved) == 2.0
    assert list(saved.parent.iterdir()) == [saved]


def test_a_full_disk_keeps_the_old_model(saved):
    before = saved.read_bytes()
    with largest_file(len(before) // 2), pytest.raises(OSError):
        save_model(plain_model(2.0), saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_save_that_fails_keeps_the_old_model(saved, monkeypatch):
    def save_half(self, path):
        path.write_bytes(b"half")
        raise RuntimeError("power cut")

    before = saved.read_bytes()
    monkeypatch.setattr(keras.Model, "save", save_half)
    with pytest.raises(RuntimeError, match="power cut"):
        save_model(keras.Model(), saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


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


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_the_final_model_is_found_before_any_checkpoint(tmp_path):
    newest = checkpoint_path(tmp_path, 300)
    touch(checkpoint_path(tmp_path, 20), newest)
    assert find_model(tmp_path) == newest
    touch(tmp_path / FINAL_MODEL)
    assert find_model(tmp_path) == tmp_path / FINAL_MODEL
    assert find_model(newest) == newest
    assert find_model(str(tmp_path)) == tmp_path / FINAL_MODEL


def test_the_newest_checkpoint_has_the_most_steps(tmp_path):
    # Sorted as text, the last two would be the other way round.
    steps = [7, 300, 99_999_999, 100_000_000]
    touch(*(checkpoint_path(tmp_path, step) for step in reversed(steps)))
    found = list_checkpoints(tmp_path)
    assert found == [(step, checkpoint_path(tmp_path, step)) for step in steps]
    assert find_model(tmp_path) == checkpoint_path(tmp_path, steps[-1])


def test_files_of_other_names_are_no_checkpoints(tmp_path):
    folder = tmp_path / CHECKPOINT_FOLDER
    touch(
        folder / "step_00000900_best.keras",
        folder / "step_.keras",
        folder / "step_00000900.keras.part",
        folder / ".writing-x" / "step_00000900.keras",
        folder / "notes.txt",
    )
    assert list_checkpoints(tmp_path) == []
    touch(checkpoint_path(tmp_path, 8))
    assert list_checkpoints(tmp_path) == [(8, checkpoint_path(tmp_path, 8))]


def test_there_are_no_checkpoints_in_a_missing_folder(tmp_path):
    assert list_checkpoints(tmp_path / "missing") == []


@pytest.mark.parametrize("find", [find_model, load_model])
def test_a_missing_model_is_refused_by_its_path(tmp_path, find):
    missing = tmp_path / "missing"
    with pytest.raises(ValueError, match="no such file") as refusal:
        find(missing)
    assert str(missing) in str(refusal.value)
    with pytest.raises(ValueError, match="neither") as refusal:
        find(tmp_path)
    assert str(tmp_path) in str(refusal.value)
