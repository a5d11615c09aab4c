"""LiteRT (TFLite) files of the denoiser, from built-in operations alone."""

import tempfile
from pathlib import Path

import tensorflow as tf

from keras_unet_diffusion.export.network import weight_bytes
from keras_unet_diffusion.export.saved_model import denoise_function
from keras_unet_diffusion.files import written_whole

# Bytes that a weight takes in a file.
PRECISIONS = {"float32": 4, "float16": 2}


def write_litert(path, network, image_shape, precision="float32", batch=1):
    """Writes a LiteRT file with the signature `denoise`.

    Args:
        path: of the `.tflite` file; it appears whole or not at all.
        network: a float32 `keras.Model`, see `rebuild_in_float32`.
        image_shape: `(height, width, channels)`.
        precision: "float32" or "float16", of the stored weights; arithmetic
            is float32 in both.
        batch: int >= 1, images per call; None for any number, which the
            runtimes of web browsers do not take.

    Raises:
        ValueError: unknown precision, or the converter left weights out or
            used operations that are not built in.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"Weights are stored as {' or '.join(PRECISIONS)}. Received: "
            f"precision={precision!r}."
        )
    data = _convert(network, (batch, *image_shape), precision)
    least = weight_bytes(network) // 4 * PRECISIONS[precision]
    if len(data) < least:
        # Converting from concrete functions does this without a word.
        raise ValueError(
            "The converter left weights out of the file. Received: "
            f"{len(data):,} bytes, at least {least:,} expected. Check the "
            "TensorFlow version against CONTRIBUTING.md."
        )
    with written_whole(path) as temporary:
        temporary.write_bytes(data)


def _convert(network, batch_shape, precision):
    module = tf.Module()
    module.network_weights = [weight.value for weight in network.weights]
    module.denoise = denoise_function(network, batch_shape)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "saved_model")
        tf.saved_model.save(module, path, {"denoise": module.denoise})
        converter = tf.lite.TFLiteConverter.from_saved_model(
            path, signature_keys=["denoise"]
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if precision == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        try:
            return converter.convert()
        except Exception as error:
            raise ValueError(
                "The network cannot be written with LiteRT's built-in "
                f"operations. Received: {str(error).splitlines()[0]}"
            ) from error
