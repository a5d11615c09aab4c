"""The manifest: what an application must know of exported files."""

import hashlib
import json
import math
from pathlib import Path

import keras
import numpy as np

from keras_unet_diffusion.export.step_table import most_steps
from keras_unet_diffusion.network_calls import num_labels, takes_labels

MANIFEST_FILE = "manifest.json"
# Raised when a reader of an older one would misunderstand the files.
FORMAT_VERSION = 1


def describe_model(network, process, samplers, image_shape):
    """Describes a model for the manifest.

    Args:
        network: the `keras.Model` that was exported.
        process: the `DiffusionProcess` that it was trained with.
        samplers: dict of the `Sampler`s of `generate`, by name.
        image_shape: `(height, width, channels)` of what `generate` makes.

    Returns:
        Dict, ready for JSON.
    """
    schedule = process.schedule
    facts = {
        "format_version": FORMAT_VERSION,
        "image_shape": list(image_shape),
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
        "process": _config(process),
        # By what name the input `sampler` calls them; their options are
        # fixed, as are the image size and the noise schedule.
        "generate": {
            "samplers": {name: _config(x) for name, x in samplers.items()}
        },
        "num_timesteps": schedule.num_timesteps,
    }
    if schedule.num_timesteps is not None:
        # At step k: x_t = alpha[k] * image + sigma[k] * noise.
        facts["alpha"] = schedule.alphas[1:].tolist()
        facts["sigma"] = schedule.sigmas[1:].tolist()
    return facts


def _config(component):
    return _as_json(keras.saving.serialize_keras_object(component))


def _as_json(value):
    """The same without infinity, which JSON lacks: its name is text."""
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def write_manifest(folder, facts):
    """Writes `manifest.json` into a folder with all other files in it.

    Args:
        folder: the folder; the hash of every file in it is written down.
        facts: dict, see `describe_model`, with what was added to it.
    """
    manifest = facts | {"files": describe_files(folder)}
    write_json(Path(folder) / MANIFEST_FILE, manifest)


def describe_signature(inputs, outputs, network, process):
    """Describes a signature for the manifest.

    Args:
        inputs: dict of pairs of a shape (None where dynamic) and the name of
            a dtype, by name.
        outputs: likewise.
        network: the `keras.Model` that was exported.
        process: the `DiffusionProcess` that it was trained with.

    Returns:
        Dict of `inputs` and `outputs`: dicts by name of `shape`, `dtype` and,
        where numbers are bounded, `range`: the least and the largest, None
        where there is none.
    """
    ranges = _input_ranges(network, process)
    if "sampler" not in inputs:
        # Only that of the SavedModel has no table of steps.
        ranges["num_steps"] = (1, most_steps(process.schedule))
    bounds = {"seed": {"int32": 2**31 - 1, "int64": 2**63 - 1}}

    def described(name, shape, dtype, ranges):
        facts = {"shape": list(shape), "dtype": dtype}
        if name in ranges:
            least, most = ranges[name]
            if name in bounds:
                most = bounds[name].get(dtype)
            facts["range"] = [least, most]
        return facts

    def all_of(tensors, ranges):
        return {
            name: described(name, *tensor, ranges)
            for name, tensor in tensors.items()
        }

    return {
        "inputs": all_of(inputs, ranges),
        "outputs": all_of(outputs, {"pixels": (0, 255), "x_0": (-1, 1)}),
    }


def _input_ranges(network, process):
    """Least and largest values of inputs, by name; None where unbounded."""
    schedule = process.schedule
    ends = np.array([schedule.min_time, schedule.max_time])
    levels = np.asarray(process.noise_level(ends), "float64")
    labels = num_labels(network)
    return {
        "noise_level": (float(levels.min()), float(levels.max())),
        "labels": (0, None if labels is None else labels - 1),
        "guidance_scale": (0, None),
        "num_images": (1, None),
        "num_steps": (1, schedule.num_timesteps),
        # Also below num_steps.
        "step": (0, None),
        "seed": (0, None),
        "pixels": (0, 255),
        "low_resolution_images": (-1, 1),
        "previous_estimate": (-1, 1),
    }


def describe_files(folder):
    """Bytes and SHA-256 of every file in a folder, by path with slashes."""
    folder = Path(folder)
    return {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": file_sha256(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def file_sha256(path):
    """SHA-256 of a file, str of 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path, content):
    """Writes JSON, which knows no NaN and no infinity."""
    text = json.dumps(content, indent=1, allow_nan=False)
    Path(path).write_text(text + "\n", encoding="utf-8")
