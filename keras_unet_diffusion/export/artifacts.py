"""One call that writes all artifacts of a model and proves them."""

import functools
import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_unet_diffusion.backends import is_jax
from keras_unet_diffusion.export.litert import PRECISIONS, write_litert
from keras_unet_diffusion.export.network import rebuild_in_float32
from keras_unet_diffusion.export.parity import (
    FLOAT32_TOLERANCE,
    compare,
    denoise_cases,
    expected_images,
    expected_prediction,
    float32_rounding,
    generate_cases,
    run_elsewhere,
)
from keras_unet_diffusion.export.saved_model import (
    LOW_RESOLUTION,
    write_saved_model,
)
from keras_unet_diffusion.files import check_new_folder, written_whole
from keras_unet_diffusion.generation import ImageGenerator
from keras_unet_diffusion.network_calls import has_null_label, takes_labels
from keras_unet_diffusion.samplers import make_sampler

# What an application can choose from unless told otherwise.
SAMPLERS = ("ddim", "ddpm", "dpm_solver_2", "heun")


def export_model(model, out, samplers=SAMPLERS, image_size=None):
    """Writes the files by which other applications use a model.

    `out` then holds `saved_model/`, `litert/denoise_float32.tflite`,
    `litert/denoise_float16.tflite`, `manifest.json` (shapes, ranges, noise
    schedule) and `parity.json` (how far each is from Keras, size, time). Each
    artifact is loaded in another process, where this package cannot be
    imported, and compared with the Keras model: a float32 artifact that is
    off by more than 1e-5 of the output's standard deviation fails the export,
    unless the Keras model itself is about as far from what float64 gives.
    The averaged weights are exported, in float32.

    Args:
        model: a `DiffusionModel`.
        out: folder to write, new or empty; it appears whole or not at all.
        samplers: what the signature `generate` can choose from: a sequence of
            names, see `samplers.SAMPLER_NAMES`, or a dict of `Sampler`s.
        image_size: int, height and width in pixels, only for a network of
            any size.

    Returns:
        List of the rows of the parity table, see `format_parity_table`.

    Raises:
        ValueError: Keras runs on JAX, the folder is not empty, or an artifact
            fails.

    Example:

    ```python
    rows = export_model(model, "exported")
    print(format_parity_table(rows))
    ```
    """
    if is_jax():
        raise ValueError(
            "TensorFlow makes the files for other applications. Received: a "
            "model on the backend 'jax'. Save it, and export it in a process "
            "with KERAS_BACKEND=tensorflow: the saved model is the same for "
            "both."
        )
    check_new_folder(out)
    # On the CPU: a GPU may round convolutions to 10 bits (TF32), which would
    # hide what the artifacts themselves do.
    with tf.device("CPU:0"):
        return _export_on_cpu(model, out, samplers, image_size)


def _export_on_cpu(model, out, samplers, image_size):
    network = rebuild_in_float32(model.ema_network)
    process = model.process
    if not isinstance(samplers, dict):
        samplers = {name: make_sampler(name) for name in samplers}
    generator = ImageGenerator(network, process)
    image_shape = generator.image_shape(image_size)
    with written_whole(out) as folder:
        folder.mkdir()
        write_saved_model(
            folder / "saved_model", network, process, samplers, image_shape
        )
        for precision in PRECISIONS:
            write_litert(
                folder / "litert" / f"denoise_{precision}.tflite",
                network,
                image_shape,
                precision,
            )
        rows = _parity(folder, generator, samplers, image_shape)
        manifest = _manifest(network, process, samplers, image_shape)
        _write_json(folder / "manifest.json", manifest)
        _write_json(folder / "parity.json", rows)
    return rows


def _parity(folder, generator, samplers, image_shape):
    network = generator.network
    denoise = denoise_cases(network, generator.process, image_shape)
    expected = expected_prediction(network, denoise)

    @functools.cache
    def rounding():
        return float32_rounding(network, denoise, expected)

    path = folder / "saved_model"

    def saved_model_row(signature, inputs, expected):
        result = run_elsewhere("saved_model", path, signature, inputs)
        name = inputs.get("sampler", np.array(b"")).item().decode()
        return compare(
            path.name,
            path,
            f"{signature} {name}".strip(),
            result,
            expected,
            FLOAT32_TOLERANCE,
            rounding,
        )

    rows = [saved_model_row("denoise", denoise, expected)]
    for name, sampler in samplers.items():
        cases = generate_cases(network, image_shape, name)
        images = expected_images(generator, sampler, cases, image_shape[0])
        rows.append(saved_model_row("generate", cases, images))
    for precision in PRECISIONS:
        path = folder / "litert" / f"denoise_{precision}.tflite"
        result = run_elsewhere("litert", path, "denoise", denoise)
        rows.append(
            compare(
                path.name,
                path,
                "denoise",
                result,
                expected,
                FLOAT32_TOLERANCE if precision == "float32" else None,
                rounding,
            )
        )
    return rows


def _manifest(network, process, samplers, image_shape):
    """What an application must know to use the artifacts."""
    serialize = keras.saving.serialize_keras_object
    inputs = ["num_images", "num_steps", "seed", "sampler"]
    inputs += ["labels"] * takes_labels(network)
    inputs += ["guidance_scale"] * has_null_label(network)
    inputs += [LOW_RESOLUTION] * (LOW_RESOLUTION in network.input)
    manifest = {
        "image_shape": image_shape,
        "pixel_range": [-1, 1],
        "num_classes": (
            getattr(network, "num_classes", None)
            if takes_labels(network)
            else None
        ),
        "prediction": type(process.prediction).__name__,
        # Twice as many as the images have: learned variances come last.
        "prediction_channels": network.output_shape[-1],
        # Its config holds sigma_data, sigma_min and the like.
        "process": serialize(process),
        "generate": {
            "inputs": inputs,
            # By what name the input `sampler` calls them; their options are
            # fixed, as are the image size and the noise schedule.
            "samplers": {name: serialize(x) for name, x in samplers.items()},
        },
        "num_timesteps": process.schedule.num_timesteps,
    }
    if process.schedule.num_timesteps is not None:
        # At step k: x_t = alpha[k] * image + sigma[k] * noise.
        manifest["alpha"] = process.schedule.alphas[1:].tolist()
        manifest["sigma"] = process.schedule.sigmas[1:].tolist()
    return manifest


def _write_json(path, content):
    Path(path).write_text(json.dumps(content, indent=1) + "\n")
