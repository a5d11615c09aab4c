"""LiteRT (TFLite) files of a model, from built-in operations alone."""

import contextlib
import functools
import re
import tempfile
from pathlib import Path

import tensorflow as tf

from keras_unet_diffusion.export.network import weight_bytes
from keras_unet_diffusion.export.plain_gradients import (
    save_with_plain_gradients,
)
from keras_unet_diffusion.export.quantize import quantize_weights
from keras_unet_diffusion.export.seeded_noise import seeded_noise
from keras_unet_diffusion.export.signatures import denoise_function
from keras_unet_diffusion.export.step import generate_function, step_function
from keras_unet_diffusion.export.stopwatch import Stopwatch
from keras_unet_diffusion.files import written_whole

# Bytes that a weight takes in a file.
PRECISIONS = {"float32": 4, "float16": 2}
# Bytes that most weights take in a file: vectors stay float32 in those of
# int8.
LITERT_PRECISIONS = PRECISIONS | {"dynamic_int8": 1, "weight_int8": 1}


def write_litert_models(
    paths, network, process, image_shape, batch=1, stopwatch=None
):
    """Writes LiteRT files with the signatures of one model.

    They are `denoise`, `step`, `generate` and, unless a size is dynamic,
    `generate_seeded`; all read one copy of the weights. See
    `denoise_function`, `step_function` and `generate_function`.

    Args:
        paths: dict of the `.tflite` files by precision: "float32"; "float16",
            weights alone; "weight_int8", the same of 8 bits with a scale for
            each channel; and "dynamic_int8", where 8-bit weights meet images
            that are rounded to 8 bits too, for speed. Each file appears whole
            or not at all.
        network: a float32 `keras.Model`, see `rebuild_in_float32`.
        process: the `DiffusionProcess` that it was trained with.
        image_shape: `(height, width, channels)`; None for a height and width
            that are dynamic, if the network is of any size.
        batch: int >= 1, images per call; None for any number, which the
            runtimes of web browsers do not take.
        stopwatch: a `Stopwatch` that tells of each file; None for none.

    Raises:
        ValueError: unknown precision, or the converter left weights out or
            used operations that are not built in.
    """
    stopwatch = Stopwatch() if stopwatch is None else stopwatch
    unknown = set(paths) - set(LITERT_PRECISIONS)
    if unknown:
        raise ValueError(
            f"Weights are stored as {' or '.join(LITERT_PRECISIONS)}. "
            f"Received: precision={unknown.pop()!r}."
        )
    signatures = _signatures(network, process, (batch, *image_shape))
    with _convertible(network, signatures) as convert:
        # Made once, and what others are made of.
        float32 = functools.cache(lambda: convert("float32"))
        for precision, path in paths.items():
            with stopwatch(f"litert/{Path(path).name} written"):
                if precision == "float32":
                    data = float32()
                elif precision == "weight_int8":
                    data = quantize_weights(float32())
                else:
                    data = convert(precision)
                _write(path, data, network, precision)


def write_litert_model(
    path, network, process, image_shape, precision="float32", batch=1
):
    """Writes one such file; see `write_litert_models`."""
    write_litert_models({precision: path}, network, process, image_shape, batch)


def _signatures(network, process, batch_shape):
    """The `tf.function`s of a file by name."""
    signatures = {
        "denoise": denoise_function(network, batch_shape),
        "step": step_function(network, process, batch_shape),
        "generate": generate_function(network, process, batch_shape),
    }
    if None not in batch_shape:
        make_noise = functools.partial(seeded_noise, batch_shape=batch_shape)
        signatures["generate_seeded"] = generate_function(
            network, process, batch_shape, make_noise
        )
    return signatures


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
    function = denoise_function(network, (batch, *image_shape))
    with _convertible(network, {"denoise": function}) as convert:
        _write(path, convert(precision), network, precision)


def _write(path, data, network, precision):
    least = weight_bytes(network) // 4 * LITERT_PRECISIONS[precision]
    if len(data) < least:
        # Converting from concrete functions does this without a word.
        raise ValueError(
            "The converter left weights out of the file. Received: "
            f"{len(data):,} bytes, at least {least:,} expected. Check the "
            "TensorFlow version against CONTRIBUTING.md."
        )
    with written_whole(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def _convertible(network, signatures):
    """Gives a function of a precision to the bytes of a LiteRT file."""
    module = tf.Module()
    module.network_weights = [weight.value for weight in network.weights]
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "saved_model")
        save_with_plain_gradients(module, path, signatures)
        yield lambda precision: _convert(path, list(signatures), precision)


def _convert(path, signatures, precision):
    converter = tf.lite.TFLiteConverter.from_saved_model(
        path, signature_keys=signatures
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    try:
        return converter.convert()
    except Exception as error:
        names = re.findall(r"'tf\.(\w+)' op is neither", str(error))
        received = ", ".join(sorted(set(names))) or str(error).splitlines()[0]
        raise ValueError(
            "The network cannot be written with LiteRT's built-in "
            f"operations. Received: a network with {received}. Leave out the "
            "layers that need what LiteRT lacks."
        ) from error
