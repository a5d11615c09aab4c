"""The loss over the time, for TensorBoard."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import one_block_network
from scalar_events import values_in

from keras_unet_diffusion import DiffusionModel
from keras_unet_diffusion.training.loss_by_time import LossByTime

IMAGES = np.linspace(-1, 1, 4 * 8 * 8).reshape(4, 8, 8, 1).astype("float32")
SHARES = np.array([0.2, 0.4, 1.2, 2.2], "float32")


class KnownLoss:
    """Has the loss f(t), unequally shared by four images."""

    def __init__(self, loss):
        self.loss = loss
        self.asked = []

    def losses_at(self, images, t, labels=None, seed=0):
        self.asked.append((images, t, labels, seed))
        return self.loss(t) * SHARES


def show(tmp_path, model, steps=(10,), **options):
    callback = LossByTime(tmp_path, IMAGES, **options)
    callback._model = model
    for step in steps:
        callback.act(0, step)
    callback.on_train_end()
    return callback


def found_in(folder, tag):
    return {
        step: tf.make_ndarray(value.tensor)
        for step, found, value in values_in(folder)
        if found == f"loss_by_time/{tag}"
    }


def test_the_histogram_has_the_loss_over_equal_parts_of_time(tmp_path):
    model = KnownLoss(lambda t: 1 + t**2)
    show(tmp_path, model, num_levels=5, steps=(10, 20))
    histograms = found_in(tmp_path, "histogram")
    assert sorted(histograms) == [10, 20]
    left, right, height = histograms[20].T
    np.testing.assert_allclose(left, [0, 0.2, 0.4, 0.6, 0.8], atol=1e-15)
    np.testing.assert_allclose(right, [0.2, 0.4, 0.6, 0.8, 1], atol=1e-15)
    # 1 + t^2 in the middles 0.1, 0.3, ...; the shares have a mean of 1.
    expected = [1.01, 1.09, 1.25, 1.49, 1.81]
    # A few roundings of float32.
    np.testing.assert_allclose(height, expected, rtol=1e-6)


def test_tensorboard_takes_it_for_a_histogram(tmp_path):
    show(tmp_path, KnownLoss(lambda t: t), num_levels=2)
    names = {
        tag: value.metadata.plugin_data.plugin_name
        for _, tag, value in values_in(tmp_path)
    }
    assert names == {
        "loss_by_time/histogram": "histograms",
        "loss_by_time/curve": "images",
    }


def test_every_level_has_the_same_images_and_the_same_noise(tmp_path):
    model = KnownLoss(lambda t: t)
    labels = np.array([3, 1, 2, 0])
    show(tmp_path, model, labels=labels, num_levels=3, seed=7, steps=(1, 2))
    assert len(model.asked) == 6
    for images, t, given, seed in model.asked:
        assert images is IMAGES and given is labels and seed == 7
        assert t.shape == (4,) and len(set(t.tolist())) == 1


@pytest.mark.parametrize(
    "loss, has_histogram, has_curve",
    [
        (lambda t: t - 0.5, False, True),
        (lambda t: np.where(t < 0.5, t, np.nan), False, True),
        (lambda t: np.full_like(t, np.nan), False, False),
    ],
)
def test_what_is_no_histogram_is_still_a_curve(
    tmp_path, loss, has_histogram, has_curve
):
    show(tmp_path, KnownLoss(loss), num_levels=4)
    assert bool(found_in(tmp_path, "histogram")) == has_histogram
    assert bool(found_in(tmp_path, "curve")) == has_curve


def test_a_network_that_predicts_nothing_misses_all_of_the_noise(tmp_path):
    network = one_block_network()
    last = network.layers[-1]
    last.set_weights([np.zeros_like(w) for w in last.get_weights()])
    model = DiffusionModel(network)
    callback = show(tmp_path, model, num_levels=3)
    callback._model = model
    times, losses = callback.losses()
    np.testing.assert_allclose(times, [1 / 6, 3 / 6, 5 / 6])
    # The mean square of n standard normals is 1 with deviation (2 / n)^0.5.
    assert np.abs(losses - 1).max() < 5 * np.sqrt(2 / IMAGES.size)
    # The same noise at each level.
    assert np.ptp(losses) < 1e-6
    (histogram,) = found_in(tmp_path, "histogram").values()
    np.testing.assert_array_equal(histogram[:, 2], losses)


def test_it_is_shown_every_so_many_epochs(tmp_path):
    callback = LossByTime(tmp_path, IMAGES, num_levels=2, every_epochs=2)
    callback._model = KnownLoss(lambda t: t)
    for epoch in range(4):
        callback.on_epoch_begin(epoch)
        callback.on_train_batch_end(4)
        callback.on_epoch_end(epoch)
    callback.on_train_end()
    assert sorted(found_in(tmp_path, "histogram")) == [10, 20]


def test_no_level_is_refused():
    with pytest.raises(ValueError, match="num_levels=0"):
        LossByTime("logs", IMAGES, num_levels=0)
