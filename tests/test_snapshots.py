"""Averages stored while a model trains, and what is made of them."""

import keras
import numpy as np
import pytest
from absl import logging
from averaged_model import (
    AveragedModel,
    names,
    small_network,
    stored_once,
    train,
)
from keras import ops

from keras_unet_diffusion.training.averaging import (
    ExponentialMovingAverage,
    PowerFunctionAverage,
)
from keras_unet_diffusion.training.post_hoc import (
    power_function_profile,
    reconstruct,
)
from keras_unet_diffusion.training.snapshots import (
    StoreSnapshots,
    list_snapshots,
    read_snapshot,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A model after 12 epochs of 5 updates, and its work directory."""
    keras.utils.set_random_seed(0)
    workdir = tmp_path_factory.mktemp("run")
    return train(AveragedModel(), StoreSnapshots(workdir), 12), workdir


def test_a_file_holds_an_average_and_says_which(run):
    model, workdir = run
    snapshots = list_snapshots(workdir)
    assert [(x.step, x.relative_deviation) for x in snapshots] == [
        (step, deviation)
        for step in range(5, 61, 5)
        for deviation in (0.05, 0.1)
    ]
    assert snapshots[1].path.name == "step_00000005_deviation_0.1.safetensors"
    for snapshot, network in zip(
        snapshots[-2:], model.averaged_networks, strict=True
    ):
        for found, kept in zip(
            read_snapshot(snapshot), network.get_weights(), strict=True
        ):
            np.testing.assert_array_equal(found, kept)


def brute_force(model, relative_deviation, step):
    """Every update's weights times their shares."""
    shares = power_function_profile(relative_deviation, step)
    return [
        np.tensordot(shares, np.array(values, "float64"), 1)
        for values in zip(*model.seen[:step], strict=True)
    ]


@pytest.mark.parametrize("step", [30, 60])
@pytest.mark.parametrize("relative_deviation", [0.07, 0.12, 0.2])
def test_a_reconstruction_is_the_average_of_all_updates(
    run, step, relative_deviation
):
    model, workdir = run
    found = reconstruct(workdir, relative_deviation, step)
    spread = np.std([weights[0] for weights in model.seen])
    for array, expected, weight in zip(
        found,
        brute_force(model, relative_deviation, step),
        model.network.get_weights(),
        strict=True,
    ):
        assert array.dtype == "float32" and array.shape == weight.shape
        # Few times and updates: the profiles differ by up to 6%.
        assert np.max(np.abs(array - expected)) < 0.06 * spread


def test_the_last_step_is_reconstructed_unless_told_otherwise(run):
    _, workdir = run
    for a, b in zip(
        reconstruct(workdir, 0.2), reconstruct(workdir, 0.2, 60), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("step", [5, 35, 60])
@pytest.mark.parametrize("deviation", [0.05, 0.1])
def test_a_stored_average_is_reconstructed_to_rounding(run, step, deviation):
    _, workdir = run
    (stored,) = [
        x
        for x in list_snapshots(workdir)
        if (x.step, x.relative_deviation) == (step, deviation)
    ]
    found = reconstruct(workdir, deviation, step)
    for array, expected in zip(found, read_snapshot(stored), strict=True):
        # One rounding to float32, of numbers of size 1.
        np.testing.assert_allclose(array, expected, atol=1.2e-7)


def test_a_reconstruction_goes_into_the_network(run):
    model, workdir = run
    network = small_network()
    network.set_weights(reconstruct(workdir, 0.05))
    inputs = np.eye(3)
    # Weights that differ by a rounding.
    np.testing.assert_allclose(
        ops.convert_to_numpy(network(inputs)),
        ops.convert_to_numpy(model.averaged_networks[0](inputs)),
        atol=1e-6,
    )


def test_snapshots_are_stored_every_so_many_epochs(tmp_path):
    for epoch in range(7):
        stored_once(
            tmp_path,
            [keras.Variable(1.0)],
            step=5 * (epoch + 1),
            epoch=epoch,
            every_epochs=3,
        )
    assert [x.step for x in list_snapshots(tmp_path)] == [15, 30]


def test_other_averages_are_not_stored(tmp_path):
    averages = (ExponentialMovingAverage(0.9), PowerFunctionAverage(0.2))
    model = train(AveragedModel(averages), StoreSnapshots(tmp_path), 1)
    (snapshot,) = list_snapshots(tmp_path)
    assert snapshot.relative_deviation == 0.2
    np.testing.assert_array_equal(
        read_snapshot(snapshot)[0], model.averaged_networks[1].get_weights()[0]
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_snapshots_take_on_disk_is_said_beforehand(
    tmp_path, monkeypatch, dtype
):
    lines = []
    monkeypatch.setattr(
        logging, "info", lambda text, *values: lines.append(text % values)
    )
    callback = StoreSnapshots(tmp_path, every_epochs=2, dtype=dtype)
    train(AveragedModel(), callback, 5)
    # Two averages of 3 * 2 weights and 2 biases.
    assert callback.bytes_each_time == 16 * (4 if dtype == "float32" else 2)
    assert lines[0].startswith("Snapshots") and str(tmp_path) in lines[0]
    paths = list((tmp_path / "snapshots").iterdir())
    size = sum(path.stat().st_size for path in paths)
    # Two times; a header is less than 500 bytes here.
    assert 0 < size - 2 * callback.bytes_each_time < 4 * 500


def test_a_damaged_snapshot_does_not_keep_a_run_from_going_on(tmp_path):
    stored_once(tmp_path, [keras.Variable(1.0)])
    _files(tmp_path)[0].write_bytes(b"damaged")
    callback = StoreSnapshots(tmp_path)
    callback.set_model(AveragedModel())
    callback.on_train_begin()
    assert names(tmp_path)[0].endswith(".set_aside")


def test_before_the_first_update_nothing_is_stored(tmp_path):
    callback = StoreSnapshots(tmp_path)
    callback.set_model(AveragedModel())
    callback.on_epoch_end(0)
    assert not (tmp_path / "snapshots").exists()


def test_a_run_that_goes_on_ends_with_the_snapshots_of_its_own_path(tmp_path):
    # Seven epochs, of which the last checkpoint knows three.
    train(AveragedModel(), StoreSnapshots(tmp_path), 7)
    early = [path.read_bytes() for path in _files(tmp_path)[:6]]
    model = AveragedModel()
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(15)
    train(model, StoreSnapshots(tmp_path), 2, initial_epoch=3)
    found = names(tmp_path)
    # Steps 20 and 25 are new; 30 and 35 of the other path are put aside.
    assert {x.step for x in list_snapshots(tmp_path)} == {5, 10, 15, 20, 25}
    assert [x for x in found if x.endswith(".set_aside")] == [
        f"step_000000{step}_deviation_{deviation}.safetensors.set_aside"
        for step in (30, 35)
        for deviation in (0.05, 0.1)
    ]
    assert [path.read_bytes() for path in _files(tmp_path)[:6]] == early
    np.testing.assert_array_equal(
        read_snapshot(list_snapshots(tmp_path)[-1])[0],
        model.averaged_networks[1].get_weights()[0],
    )


def _files(workdir):
    return [snapshot.path for snapshot in list_snapshots(workdir)]


def test_what_a_killed_writer_left_is_removed(tmp_path):
    half = tmp_path / "snapshots" / ".writing-abc" / "half"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    train(AveragedModel(), StoreSnapshots(tmp_path), 1)
    assert not half.parent.exists()
    assert len(names(tmp_path)) == 2


def test_a_step_that_was_not_stored_is_refused(run):
    with pytest.raises(ValueError, match="step=7; stored are 5, 10, 15"):
        reconstruct(run[1], 0.1, step=7)


@pytest.mark.parametrize(
    "averages",
    [(ExponentialMovingAverage(),), (PowerFunctionAverage(0.1),) * 2],
)
def test_a_model_without_averages_to_store_is_refused(tmp_path, averages):
    with pytest.raises(ValueError, match="averages="):
        train(AveragedModel(averages), StoreSnapshots(tmp_path), 1)


@pytest.mark.parametrize(
    "arguments", [{"every_epochs": 0}, {"dtype": "bfloat16"}]
)
def test_arguments_out_of_range_are_refused(arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"{name}='?{value}"):
        StoreSnapshots("run", **arguments)
