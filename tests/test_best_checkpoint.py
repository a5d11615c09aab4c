"""The best checkpoint is kept beside the newest, also by a run in parts."""

import json
import zipfile
import zlib

import keras
import numpy as np
import pytest

from keras_unet_diffusion.training import (
    SaveCheckpoints,
    best_checkpoint,
    load_model,
)
from keras_unet_diffusion.training.checkpoints import (
    checkpoint_path,
    keep_newest,
    list_checkpoints,
    save_checkpoint,
)
from keras_unet_diffusion.training.model_files import read_losses, save_model


@pytest.fixture
def model():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])


def steps_of(workdir):
    return [step for step, _ in list_checkpoints(workdir)]


def save_all(model, workdir, losses, keep=2):
    """Saves checkpoints of steps 1, 2 ... with these logs; None for none."""
    for step, logs in enumerate(losses, 1):
        save_checkpoint(model, workdir, step, logs, keep)


@pytest.mark.parametrize(
    ("losses", "kept", "best"),
    [
        # The lowest loss, wherever it comes.
        ([0.5, 0.1, 0.4, 0.3, 0.2], [2, 4, 5], 2),
        ([0.1, 0.5, 0.4, 0.3, 0.2], [1, 4, 5], 1),
        ([0.5, 0.4, 0.3, 0.2, 0.1], [4, 5], 5),
        # Of equals the newest.
        ([0.5, 0.1, 0.1, 0.3, 0.2], [3, 4, 5], 3),
        # What is not finite is never the best.
        ([0.5, np.nan, -np.inf, 0.6, 0.7], [1, 4, 5], 1),
    ],
)
def test_the_newest_and_the_best_are_kept(model, tmp_path, losses, kept, best):
    save_all(model, tmp_path, [{"loss": loss} for loss in losses])
    assert steps_of(tmp_path) == kept
    assert best_checkpoint(tmp_path) == checkpoint_path(tmp_path, best)


def test_the_validation_loss_decides_where_there_is_one(model, tmp_path):
    validation = [0.3, 0.1, 0.2, 0.4, 0.5]
    save_all(
        model,
        tmp_path,
        [{"loss": 1 / k, "val_loss": x} for k, x in enumerate(validation, 1)],
    )
    assert steps_of(tmp_path) == [2, 4, 5]
    assert best_checkpoint(tmp_path) == checkpoint_path(tmp_path, 2)


def test_a_checkpoint_amid_an_epoch_is_never_the_best(model, tmp_path):
    save_all(model, tmp_path, [{"loss": 0.5}, None, None, None])
    assert steps_of(tmp_path) == [1, 3, 4]
    assert best_checkpoint(tmp_path) == checkpoint_path(tmp_path, 1)


def test_without_losses_none_is_the_best(model, tmp_path):
    assert best_checkpoint(tmp_path) is None
    save_all(model, tmp_path, [None, None, None])
    assert best_checkpoint(tmp_path) is None
    assert steps_of(tmp_path) == [2, 3]


def test_a_run_in_parts_keeps_the_best_of_all_parts(tmp_path):
    """Three processes' worth of callbacks on a loss that is set by hand."""

    class Loss(keras.callbacks.Callback):
        values = iter([0.9, 0.2, 0.5, 0.6, 0.1, 0.7, 0.8, 0.3])

        def on_epoch_end(self, epoch, logs=None):
            logs["loss"] = next(self.values)

    numbers = np.ones((4, 2), "float32")
    best_after = {}
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    for begin, end in [(0, 3), (3, 4), (4, 8)]:
        if begin:
            model = load_model(checkpoint_path(tmp_path, begin))
        model.fit(
            numbers,
            numbers[:, :1],
            initial_epoch=begin,
            epochs=end,
            callbacks=[Loss(), SaveCheckpoints(tmp_path, keep=1)],
            verbose=0,
        )
        best_after[end] = steps_of(tmp_path)
    # One step an epoch.
    assert best_after == {3: [2, 3], 4: [2, 4], 8: [5, 8]}


def test_the_losses_do_not_change_what_keras_loads(model, tmp_path):
    plain, told = tmp_path / "plain.keras", tmp_path / "told.keras"
    save_model(model, plain)
    save_model(model, told, {"loss": 0.25, "accuracy": 1.0})
    assert read_losses(told) == {"loss": 0.25}
    assert read_losses(plain) == {}
    with zipfile.ZipFile(plain) as one, zipfile.ZipFile(told) as other:
        # Keras unpacks archives of more members to the disk.
        assert one.namelist() == other.namelist()
    loaded = keras.saving.load_model(told)
    for a, b in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_changed_byte_of_the_losses_is_noticed(model, tmp_path):
    path = tmp_path / "a.keras"
    save_model(model, path, {"loss": 0.125, "val_loss": 0.5})
    data = path.read_bytes()
    text = json.dumps({"val_loss": 0.5, "loss": 0.125}).encode()
    comment = b"%08x %s" % (zlib.crc32(text), text)
    assert data.endswith(comment)
    for place in range(len(data) - len(comment), len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        # No loss is none to compare by; another one would keep the wrong file.
        assert read_losses(path) == {}


@pytest.mark.parametrize("kept", [0, 10, -1, -30, -200])
def test_a_truncated_file_knows_no_losses(model, tmp_path, kept):
    path = tmp_path / "a.keras"
    save_model(model, path, {"loss": 0.125})
    path.write_bytes(path.read_bytes()[:kept])
    assert read_losses(path) == {}


def test_a_best_checkpoint_that_is_damaged_is_passed_over(
    model, tmp_path, caplog
):
    save_all(model, tmp_path, [{"loss": x} for x in (0.1, 0.3, 0.2)], keep=3)
    best = checkpoint_path(tmp_path, 1)
    data = bytearray(best.read_bytes())
    data[len(data) // 2] ^= 1
    best.write_bytes(data)
    assert best_checkpoint(tmp_path) == checkpoint_path(tmp_path, 3)
    assert str(best) in caplog.text and "damaged" in caplog.text


def test_later_checkpoints_push_out_none_of_a_run_before_them(model, tmp_path):
    """Those that a run passed over as damaged, or another run's."""
    for step in (900, 1000):
        save_model(model, checkpoint_path(tmp_path, step), {"loss": 0.0})
    save_all(model, tmp_path, [{"loss": x} for x in (0.1, 0.3, 0.2)], keep=1)
    assert steps_of(tmp_path) == [1, 3, 900, 1000]
    keep_newest(tmp_path, 1)
    assert steps_of(tmp_path) == [1000]
