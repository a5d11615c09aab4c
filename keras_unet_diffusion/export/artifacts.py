"""One call that writes all artifacts of a model and proves them."""

import functools
import json
from pathlib import Path

import keras
import tensorflow as tf

from keras_unet_diffusion.export.litert import PRECISIONS, write_litert
from keras_unet_diffusion.export.network import rebuild_in_float32
from keras_unet_diffusion.export.parity import (
    FLOAT32_TOLERANCE,
    compare,
    denoise_cases,
    expected_outputs,
    float32_rounding,
    generate_cases,
    run_elsewhere,
)
from keras_unet_diffusion.export.saved_model import write_saved_model
from keras_unet_diffusion.files import check_new_folder, written_whole
from keras_unet_diffusion.generation import ImageGenerator
from keras_unet_diffusion.network_calls import (
    takes_labels,
)


def export_model(model, out, sampler="ddim", eta=0.0, image_size=None):
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
        sampler: "ddim", "ddpm" or a `Sampler`, of the signature `generate`.
        eta: float in [0, 1], of "ddim".
        image_size: int, height and width in pixels, only for a network of
            any size.

    Returns:
        List of the rows of the parity table, see `format_parity_table`.

    Raises:
        ValueError: the folder is not empty, or an artifact fails.

    Example:

    ```python
    rows = export_model(model, "exported")
    print(format_parity_table(rows))
    ```
    """
    check_new_folder(out)
    # On the CPU: a GPU may round convolutions to 10 bits (TF32), which would
    # hide what the artifacts themselves do.
    with tf.device("CPU:0"):
        return _export_on_cpu(model, out, sampler, eta, image_size)


def _export_on_cpu(model, out, sampler, eta, image_size):
    network = rebuild_in_float32(model.ema_network)
    process = model.process
    sampler = make_sampler(sampler, process.schedule, eta)
    image_shape = ImageGenerator(network, process).image_shape(image_size)
    with written_whole(out) as folder:
        folder.mkdir()
        write_saved_model(
            folder / "saved_model", network, process, sampler, image_shape
        )
        for precision in PRECISIONS:
            write_litert(
                folder / "litert" / f"denoise_{precision}.tflite",
                network,
                image_shape,
                precision,
            )
        rows = _parity(folder, network, process, sampler, image_shape)
        manifest = _manifest(network, process, sampler, image_shape)
        _write_json(folder / "manifest.json", manifest)
        _write_json(folder / "parity.json", rows)
    return rows


def _parity(folder, network, process, sampler, image_shape):
    denoise = denoise_cases(network, process, image_shape)
    generate = generate_cases(network)
    expected = expected_outputs(network, process, sampler, denoise, generate)

    @functools.cache
    def rounding():
        return float32_rounding(network, denoise, expected["denoise"])

    rows = []
    for signature, inputs in (("denoise", denoise), ("generate", generate)):
        path = folder / "saved_model"
        result = run_elsewhere("saved_model", path, signature, inputs)
        rows.append(
            compare(
                path.name,
                path,
                signature,
                result,
                expected[signature],
                FLOAT32_TOLERANCE,
                rounding,
            )
        )
    for precision in PRECISIONS:
        path = folder / "litert" / f"denoise_{precision}.tflite"
        result = run_elsewhere("litert", path, "denoise", denoise)
        rows.append(
            compare(
                path.name,
                path,
                "denoise",
                result,
                expected["denoise"],
                FLOAT32_TOLERANCE if precision == "float32" else None,
                rounding,
            )
        )
    return rows


def _manifest(network, process, sampler, image_shape):
    """What an application must know to use the artifacts."""
    schedule = process.schedule
    return {
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
        "sampler": keras.saving.serialize_keras_object(sampler),
        "num_timesteps": schedule.num_timesteps,
        # At noise level k: x_t = alpha[k] * image + sigma[k] * noise.
        "alpha": schedule.alphas[1:].tolist(),
        "sigma": schedule.sigmas[1:].tolist(),
    }


def _write_json(path, content):
    Path(path).write_text(json.dumps(content, indent=1) + "\n")
