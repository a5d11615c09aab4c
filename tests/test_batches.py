"""Batches: what a network can be trained on, and what is refused."""

import numpy as np
import pytest
import tensorflow as tf
from gaussian_networks import gaussian_network, gaussian_process

from keras_unet_diffusion import batches
from keras_unet_diffusion.batches import unpack_batch


@pytest.fixture(scope="module")
def labelled():
    """A network of two classes and a null label."""
    return gaussian_network(gaussian_process(), means=(0.2, -0.1))


def images(dtype="float32", shape=(3, 4, 4, 1)):
    return np.ones(shape, dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_floats_are_images_as_arrays_and_as_tensors(dtype):
    network = gaussian_network(gaussian_process())
    tensor = tf.cast(images(), dtype)
    for given in (tensor, tensor.numpy()):
        found, labels = unpack_batch((given, None), network)
        assert found is given and labels is None


@pytest.mark.parametrize(
    "data, message",
    [
        (images("uint8"), "uint8 of shape"),
        (images(shape=(4, 4, 1)), r"float32 of shape \(4, 4, 1\)"),
        (([1.0], None), "list"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(labelled, data, message):
    with pytest.raises(ValueError, match=message):
        unpack_batch(data, labelled)


@pytest.mark.parametrize("dtype", ["int64", "uint8"])
def test_whole_numbers_are_labels(labelled, dtype):
    given = np.array([0, 2, 1], dtype)
    _, labels = unpack_batch((images(), given), labelled)
    assert labels.dtype == "int32"
    np.testing.assert_array_equal(labels, given)


@pytest.mark.parametrize(
    "labels, message",
    [
        (None, "Received: none"),
        (np.zeros(3, "float32"), "float32 of shape"),
        (np.zeros((3, 1), "int32"), "int32 of shape"),
    ],
)
def test_labels_of_another_kind_are_refused(labelled, labels, message):
    with pytest.raises(ValueError, match=message):
        unpack_batch((images(), labels), labelled)


@pytest.mark.parametrize("label", [-1, 3])
def test_unknown_labels_are_an_error_on_tensorflow(labelled, label):
    unpack = tf.function(lambda *data: unpack_batch(data, labelled))
    with pytest.raises(tf.errors.InvalidArgumentError, match="Labels must"):
        unpack(images(), np.array([0, label, 1]))


@pytest.mark.parametrize("label", [-1, 3])
def test_images_of_unknown_labels_are_no_numbers_on_jax(
    labelled, label, monkeypatch
):
    # The arithmetic is of both backends.
    monkeypatch.setattr(batches, "is_jax", lambda: True)
    found, _ = unpack_batch((images(), np.array([0, label, 2])), labelled)
    is_number = np.isfinite(found).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(is_number, [True, False, True])
