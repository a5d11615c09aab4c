"""What a dataset yields, checked before a model trains on it."""

import keras
import tensorflow as tf
from keras import ops

from keras_unet_diffusion.backends import is_jax
from keras_unet_diffusion.network_calls import num_labels, takes_labels


def unpack_batch(data, network):
    """Checks a batch and takes it apart.

    Args:
        data: what a dataset yields: images, or (images, labels).
        network: the network that is to be trained on it.

    Returns:
        Images `(batch, height, width, channels)` and int32 labels `(batch,)`,
        None for a network without labels.

    Raises:
        ValueError: the batch is not what the network can be trained on.
    """
    images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    if weights is not None:
        raise ValueError(
            "A DiffusionModel weights noise levels, not images. Received: "
            "a dataset with sample weights. Yield images or (images, "
            "labels)."
        )
    dtype = getattr(images, "dtype", None)
    if dtype is None or len(images.shape) != 4 or not _is(dtype, "float"):
        received = (
            type(images).__name__
            if dtype is None
            else f"{dtype.name} of shape {images.shape}"
        )
        raise ValueError(
            "Images must be floats of shape (batch, height, width, "
            f"channels) with pixels in [-1, 1]. Received: {received}. Use "
            "keras_unet_diffusion.data.image_dataset, or to_model_range "
            "for bytes."
        )
    if None in images.shape[1:]:
        raise ValueError(
            "All images of a dataset must have one known size. Received: "
            f"images of shape {images.shape}. Resize them, or call "
            "set_shape on them."
        )
    if not takes_labels(network):
        return images, None
    dtype = getattr(labels, "dtype", None)
    if dtype is None or len(labels.shape) != 1 or not _is(dtype, "int"):
        received = (
            "none" if dtype is None else f"{dtype.name} of shape {labels.shape}"
        )
        raise ValueError(
            "The network takes labels, whole numbers of shape (batch,). "
            f"Received: {received}. Yield (images, labels), or build the "
            "network with num_classes=None."
        )
    labels = ops.cast(labels, "int32")
    if num_labels(network) is None:
        return images, labels
    if is_jax():
        return _without_unknown(images, labels, network), labels
    return images, _checked(labels, network)


def _is(dtype, kind):
    """Whether the dtype of a tensor or array is of a kind, bool."""
    return dtype.name.lstrip("bu").startswith(kind)


def _checked(labels, network):
    """Labels whose values raise an error when TensorFlow reads them.

    Without it a GPU reads zeros, and -1 is the last class everywhere. XLA
    leaves the checks out.
    """
    checks = [
        tf.debugging.assert_less(
            labels,
            num_labels(network),
            "Labels must be below the network's num_classes, "
            f"{network.num_classes}. Build it with as many as the data has.",
        ),
        tf.debugging.assert_non_negative(
            labels,
            "Labels must not be negative. Leave such images out, or give "
            "them the null label of a network that has one.",
        ),
    ]
    with tf.control_dependencies([x for x in checks if x is not None]):
        return tf.identity(labels)


def _without_unknown(images, labels, network):
    """Images that are no numbers where their label is unknown.

    A compiled step of JAX can raise no error, but a loss that is no number is
    noticed.
    """
    is_known = (labels >= 0) & (labels < num_labels(network))
    is_known = ops.reshape(is_known, (-1, 1, 1, 1))
    return ops.where(is_known, images, float("nan"))
