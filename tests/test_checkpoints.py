"""Models are saved whole, found again, and refused when damaged."""

import keras
import numpy as np
import pytest
from conftest import one_block_network
from saved_models import plain_model, value_of

from keras_unet_diffusion import DiffusionModel
from keras_unet_diffusion.training.checkpoints import (
    CHECKPOINT_FOLDER,
    FINAL_MODEL,
    checkpoint_path,
    find_model,
    list_checkpoints,
    load_model,
)
from keras_unet_diffusion.training.model_files import save_model


@pytest.fixture
def saved(tmp_path):
    """Path of a saved `plain_model`."""
    path = tmp_path / "a.keras"
    save_model(plain_model(), path)
    return path


def test_a_loaded_model_is_the_saved_one_and_trains_on_like_it(
    digits, tmp_path
):
    images = digits[0][:16]
    model = DiffusionModel(one_block_network(), seed=0)
    options = {"batch_size": 8, "verbose": 0, "shuffle": False}
    # Not traced: that takes longer than four steps.
    model.compile(keras.optimizers.Adam(1e-3), run_eagerly=True)
    model.fit(images, **options)
    save_model(model, tmp_path / FINAL_MODEL)
    loaded = load_model(tmp_path)
    loaded.run_eagerly = True

    def state(either):
        return [
            *either.get_weights(),
            *(v.numpy() for v in either.optimizer.variables),
        ]

    for a, b in zip(state(model), state(loaded), strict=True):
        np.testing.assert_array_equal(a, b)
    samples = model.generate(2, num_steps=2, seed=1)
    np.testing.assert_array_equal(
        loaded.generate(2, num_steps=2, seed=1), samples
    )
    model.fit(images, **options)
    loaded.fit(images, **options)
    for a, b in zip(state(model), state(loaded), strict=True):
        # Sums of two runs may be taken in another order: a few units in the
        # last place of numbers near 1, scaled up by Adam's division.
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    # It did train: the test would otherwise say nothing.
    assert model.optimizer.iterations == 4


def test_saving_replaces_the_old_model(saved):
    save_model(plain_model(2.0), saved)
    assert value_of(saved) == 2.0
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
