"""Signatures of exported files, as functions of tensors with names."""

import tensorflow as tf

from keras_unet_diffusion.network_calls import network_inputs, takes_labels

LOW_RESOLUTION = "low_resolution_images"


def denoise_function(network, batch_shape):
    """Makes the `tf.function` of the signature `denoise`.

    Args:
        network: a float32 `keras.Model`.
        batch_shape: `(batch, height, width, channels)`, None where dynamic.

    Returns:
        A `tf.function` of noisy_images, noise_level and, if the network takes
        them, labels, low_resolution_images and previous_estimate.
    """
    batch, *image_shape = batch_shape
    specs = {
        "noisy_images": tf.TensorSpec(batch_shape, tf.float32),
        "noise_level": tf.TensorSpec((batch,), tf.float32),
    }
    if takes_labels(network):
        specs["labels"] = tf.TensorSpec((batch,), tf.int32)
    for name, shape in further_images(network, image_shape).items():
        specs[name] = tf.TensorSpec((batch, *shape), tf.float32)

    @tf.function(input_signature=named(specs), autograph=False)
    def denoise(*values):
        inputs = network_inputs(
            network, **dict(zip(specs, values, strict=True))
        )
        return {"prediction": network(inputs, training=False)}

    return denoise


def further_images(network, image_shape):
    """What images a network takes beside the noisy ones.

    Args:
        network: a `keras.Model`.
        image_shape: `(height, width, channels)` of the noisy images, None
            where dynamic.

    Returns:
        Dict of their shapes by input name.
    """
    shapes = {}
    if LOW_RESOLUTION in network.input:
        factor = network.super_resolution_factor
        *sizes, channels = image_shape
        sizes = (None if size is None else size // factor for size in sizes)
        shapes[LOW_RESOLUTION] = (*sizes, channels)
    if "previous_estimate" in network.input:
        shapes["previous_estimate"] = tuple(image_shape)
    return shapes


def named(specs):
    """A dict of `tf.TensorSpec`s as a signature whose inputs have names."""
    return [
        tf.TensorSpec(spec.shape, spec.dtype, name)
        for name, spec in specs.items()
    ]


def encode_function(channels):
    """Makes the `tf.function` of the signature `encode_image`.

    Args:
        channels: int, of the images.

    Returns:
        A `tf.function` of pixels, uint8 `(batch, height, width, channels)`.
    """
    spec = tf.TensorSpec((None, None, None, channels), tf.uint8, "pixels")

    @tf.function(input_signature=[spec], autograph=False)
    def encode_image(pixels):
        return {"images": tf.cast(pixels, tf.float32) / 127.5 - 1.0}

    return encode_image


def decode_function(channels):
    """Makes the `tf.function` of the signature `decode_image`.

    Args:
        channels: int, of the images.

    Returns:
        A `tf.function` of images, float32 `(batch, height, width, channels)`,
        which are clipped to [-1, 1]. It refuses NaNs.
    """
    spec = tf.TensorSpec((None, None, None, channels), tf.float32, "images")

    @tf.function(input_signature=[spec], autograph=False)
    def decode_image(images):
        is_number = tf.debugging.assert_equal(
            tf.reduce_any(tf.math.is_nan(images)),
            False,
            "images must be numbers, not NaN.",
        )
        with tf.control_dependencies([is_number]):
            bounded = tf.clip_by_value(images, -1.0, 1.0)
        return {"pixels": tf.cast(tf.round((bounded + 1) * 127.5), tf.uint8)}

    return decode_image


class SharedNetwork:
    """A network that is called as one function, whoever calls it.

    All signatures of a file then hold its graph once.

    Args:
        network: a `keras.Model`, whose attributes this has too.
        function: function of the dict of its inputs, see `network_function`.
    """

    def __init__(self, network, function):
        self._network = network
        self._function = function

    def __getattr__(self, name):
        return getattr(self._network, name)

    def __call__(self, inputs, training=False):
        return self._function(inputs)
