"""Files of stored averages: every kind of weight, and every damage."""

import keras
import numpy as np
import pytest
from absl import logging
from averaged_model import AveragedModel, names, stored_once
from keras import ops

from keras_unet_diffusion.training.post_hoc import (
    reconstruct,
    reconstruction_coefficients,
)
from keras_unet_diffusion.training.snapshots import (
    StoreSnapshots,
    list_snapshots,
    read_snapshot,
)


@pytest.fixture
def workdir(tmp_path):
    """Holds an average of a matrix and a bias, as after 3 and 60 updates."""
    random = np.random.default_rng(0)
    for step in (3, 60):
        shapes = {"kernel": (3, 2), "bias": (2,)}
        weights = [
            keras.Variable(random.normal(size=shape), name=name)
            for name, shape in shapes.items()
        ]
        stored_once(tmp_path / "whole", weights, step=step)
    return tmp_path / "whole"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_weights_of_every_kind_come_back(tmp_path, dtype):
    # More than ten: their numbers must not be sorted as text.
    values = [2.5, [1.5, -3], [[0.5], [0.25]], 0] + [float(k) for k in range(9)]
    weights = [keras.Variable(x, name="same", dtype="float32") for x in values]
    weights[3] = keras.Variable(100_000_001, dtype="int32")
    weights[4] = keras.Variable(-4.0, dtype="bfloat16")
    stored_once(tmp_path, weights, dtype)
    (snapshot,) = list_snapshots(tmp_path)
    found = read_snapshot(snapshot)
    assert [x.shape for x in found[:4]] == [(), (2,), (2, 1), ()]
    # All are exact in float16.
    for array, weight in zip(found, weights, strict=True):
        np.testing.assert_array_equal(
            array, ops.convert_to_numpy(weight).astype("float64")
        )
    assert found[3].dtype == "int32" and found[4].dtype == dtype
    for a, b in zip(reconstruct(tmp_path, 0.05), found, strict=True):
        np.testing.assert_array_equal(a, b.astype("float32"))


def test_float16_snapshots_differ_by_their_rounding_alone(tmp_path):
    folders = tmp_path / "float32", tmp_path / "float16"
    random = np.random.default_rng(0)
    for step in range(1, 9):
        weights = [keras.Variable(random.uniform(-1, 1, 100))]
        for folder in folders:
            stored_once(folder, weights, folder.name, 10 * step)
    for relative_deviation in (0.07, 0.15):
        coefficients, _ = reconstruction_coefficients(
            range(10, 81, 10), [0.05] * 8, 80, relative_deviation
        )
        (exact,), (rounded,) = (
            reconstruct(x, relative_deviation) for x in folders
        )
        assert exact.dtype == rounded.dtype == "float32"
        difference = np.max(np.abs(exact - rounded))
        # A number below 1 is rounded by up to 2**-12 in float16.
        assert 0 < difference <= np.sum(np.abs(coefficients)) * 2**-12


def test_a_weight_too_large_for_float16_is_refused(tmp_path):
    model = AveragedModel()
    callback = StoreSnapshots(tmp_path, dtype="float16")
    callback.set_model(model)
    model.optimizer.iterations.assign(1)
    weights = model.averaged_networks[1].weights
    weights[0].assign(np.full((3, 2), 7e4))
    with pytest.raises(ValueError, match="too large for float16"):
        callback.on_epoch_end(0)
    assert names(tmp_path) == ["step_00000001_deviation_0.05.safetensors"]


def test_too_few_snapshots_for_a_length_are_warned_of(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(
        logging, "warning", lambda text, *values: lines.append(text % values)
    )
    for step in (5, 10):
        stored_once(tmp_path, [keras.Variable(1.0)], step=step)
    reconstruct(tmp_path, 0.05)
    assert lines == []
    reconstruct(tmp_path, 0.02)
    (line,) = lines
    assert "deviation 0.02 at step 10" in line and "%" in line


def test_an_earlier_step_does_not_read_what_is_later(tmp_path):
    for step in (3, 6):
        stored_once(tmp_path, [keras.Variable(float(step))], step=step)
    path = list_snapshots(tmp_path)[-1].path
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert reconstruct(tmp_path, 0.05, step=3) == [3]
    with pytest.raises(ValueError, match="checksum"):
        reconstruct(tmp_path, 0.05)


def test_a_changed_byte_is_refused_or_changes_nothing(workdir, tmp_path):
    snapshot = list_snapshots(workdir)[-1]
    whole, expected = snapshot.path.read_bytes(), read_snapshot(snapshot)
    path = tmp_path / "snapshots" / snapshot.path.name
    path.parent.mkdir()
    harmless = 0
    for k in range(len(whole)):
        path.write_bytes(whole[:k] + bytes([whole[k] ^ 1]) + whole[k + 1 :])
        try:
            (found,) = list_snapshots(tmp_path)
            arrays = read_snapshot(found)
        except ValueError as error:
            assert str(path) in str(error)
            continue
        harmless += 1
        assert (found.step, found.relative_deviation) == (60, 0.05)
        for a, b in zip(arrays, expected, strict=True):
            np.testing.assert_array_equal(a, b)
    # Spaces that fill the header are the most that may change.
    assert harmless <= 8


@pytest.mark.parametrize("share", [0, 0.3, 0.99])
def test_a_truncated_file_is_refused_by_its_name(workdir, tmp_path, share):
    snapshot = list_snapshots(workdir)[0]
    path = tmp_path / "snapshots" / snapshot.path.name
    path.parent.mkdir()
    whole = snapshot.path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match="damaged") as refusal:
        reconstruct(tmp_path, 0.1)
    assert str(path) in str(refusal.value)


def test_snapshots_of_another_network_are_refused(workdir):
    stored_once(workdir, [keras.Variable(1.0)], step=7)
    with pytest.raises(ValueError, match="different networks"):
        reconstruct(workdir, 0.1)


def test_a_folder_without_snapshots_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no snapshots") as refusal:
        reconstruct(tmp_path, 0.1)
    assert str(tmp_path) in str(refusal.value)
