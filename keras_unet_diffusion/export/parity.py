"""Loads every artifact in another process and compares it with Keras."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from keras_unet_diffusion.export.network import rebuild_in_float64
from keras_unet_diffusion.export.signatures import (
    LOW_RESOLUTION,
    further_images,
)
from keras_unet_diffusion.network_calls import (
    has_null_label,
    network_inputs,
    takes_labels,
)

RUNNERS = Path(__file__).parent / "runners"
# Of the standard deviation of what the Keras model returns.
FLOAT32_TOLERANCE = 1e-5
# A network may amplify float32 rounding beyond that. Then no two programs
# agree better than each is exact: both are off by about as much, in any
# direction.
ROUNDING_FACTOR = 2


def denoise_cases(network, process, image_shape, num_cases=4, seed=0):
    """Makes inputs of `denoise` from no noise to pure noise.

    Returns:
        Dict of float32 noisy_images `(num_cases, height, width, channels)`,
        noise_level `(num_cases,)` and what else the network takes.
    """
    random = np.random.default_rng(seed)
    schedule = process.schedule
    times = np.linspace(schedule.min_time, schedule.max_time, num_cases)
    images = random.standard_normal((num_cases, *image_shape))
    if schedule.num_timesteps is not None:
        times = np.round(times * schedule.num_timesteps)
        times = times / schedule.num_timesteps
    levels = np.asarray(process.noise_level(times))
    cases = {
        "noisy_images": images.astype("float32"),
        "noise_level": levels.astype("float32"),
    }
    if takes_labels(network):
        num_classes = getattr(network, "num_classes", None) or 1
        labels = random.integers(0, num_classes, num_cases)
        cases["labels"] = labels.astype("int32")
    for name, shape in further_images(network, image_shape).items():
        images = random.standard_normal((num_cases, *shape))
        cases[name] = images.astype("float32")
    return cases


def generate_cases(
    network, image_shape, sampler, num_images=2, num_steps=4, seed=7
):
    """Makes inputs of `generate` for a sampler's name, a dict of arrays."""
    cases = {
        "sampler": np.array(sampler.encode()),
        "num_images": np.int32(num_images),
        "num_steps": np.int32(num_steps),
        "seed": np.int64(seed),
    }
    if takes_labels(network):
        cases["labels"] = np.zeros(num_images, "int32")
    if has_null_label(network):
        cases["guidance_scale"] = np.float32(1.5)
    shape = further_images(network, image_shape).get(LOW_RESOLUTION)
    if shape is not None:
        shape = (num_images, *shape)
        images = np.random.default_rng(seed).uniform(-1, 1, shape)
        cases[LOW_RESOLUTION] = images.astype("float32")
    return cases


def run_elsewhere(runner, artifact, calls):
    """Calls signatures of an artifact in a process without this package.

    Args:
        runner: "saved_model", "litert" or "onnx".
        artifact: path of the artifact.
        calls: list of pairs of a signature, str, and its inputs, a dict of
            arrays. Of "step" the whole loop is run, from `noise`.

    Returns:
        List of dicts with `output`, the array that the artifact returned,
        `milliseconds` per call and `peak_bytes` of memory of the process.

    Raises:
        ValueError: the artifact could not be loaded or run there.
    """
    with tempfile.TemporaryDirectory() as folder:
        arguments, results = [], []
        for k, (signature, inputs) in enumerate(calls):
            given, result = (Path(folder, f"{x}{k}.npz") for x in ("in", "out"))
            np.savez(given, **inputs)
            arguments += [signature, given, result]
            results.append(result)
        done = subprocess.run(
            [
                sys.executable,
                RUNNERS / f"run_{runner}.py",
                artifact,
                *arguments,
            ],
            capture_output=True,
            text=True,
            # Where the expected values come from too, and a GPU's memory may
            # be taken by this process.
            env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"},
        )
        if done.returncode:
            raise ValueError(
                f"The exported {Path(artifact).name} does not run in a "
                f"process of its own. Received: {done.stderr[-2000:]}. Check "
                "that the installed versions are those of setup.py."
            )
        return [_arrays(result) for result in results]


def _arrays(path):
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays}


def float32_rounding(network, denoise, expected):
    """How far the Keras network itself is off by rounding.

    Args:
        network: float32 `keras.Model`.
        denoise: inputs, see `denoise_cases`.
        expected: what it returned for them.

    Returns:
        Largest difference from the same network in float64, as a share of
        the expected standard deviation.
    """
    exact = rebuild_in_float64(network)
    prediction = exact(network_inputs(exact, **denoise), training=False)
    return float(np.abs(prediction - expected).max() / np.std(expected))


def compare(
    name, artifact, signature, result, expected, tolerance=None, rounding=None
):
    """Makes one row of the parity table.

    Args:
        name: str, of the artifact.
        artifact: path; its size is measured.
        signature: str.
        result: what `run_elsewhere` returned.
        expected: array that Keras returned.
        tolerance: bound of the largest difference, as a share of the
            expected standard deviation; None for none.
        rounding: function that returns how far the Keras network itself is
            off by rounding, as a share of that; only called where the
            tolerance is missed, which is then `ROUNDING_FACTOR` times that.

    Returns:
        Dict of the row, ready for JSON.

    Raises:
        ValueError: the artifact is off by more than the tolerance, or
            returned what is no number.
    """
    difference = np.abs(result["output"] - expected)
    spread = float(np.std(expected))
    if not spread:
        raise ValueError(
            "The network's output is constant, so no artifact can be compared "
            f"with it. Received: {signature} with {expected.flat[0]} in every "
            "pixel, as from a network that was never trained. Train it first."
        )
    row = {
        "artifact": name,
        "signature": signature,
        "max_difference": float(difference.max()),
        "mean_difference": float(difference.mean()),
        "spread": spread,
        "max_difference_of_spread": float(difference.max()) / spread,
        "tolerance_of_spread": tolerance,
        "size_bytes": _size_bytes(Path(artifact)),
        "milliseconds_per_call": float(result["milliseconds"]),
        # Of the process that ran it, up to the end of this call.
        "peak_bytes": int(result.get("peak_bytes", 0)) or None,
    }
    is_finite = np.isfinite(result["output"]).all()
    off = row["max_difference_of_spread"]
    misses = tolerance is not None and not off <= tolerance
    if is_finite and misses and rounding is not None:
        row["keras_rounding_of_spread"] = rounding()
        tolerance = max(tolerance, ROUNDING_FACTOR * rounding())
        row["tolerance_of_spread"] = tolerance
        misses = not off <= tolerance
    if not is_finite or misses:
        raise ValueError(
            f"The exported {name} does not compute what the Keras model "
            f"does. Received: {signature} is off by {off:.2e} of the "
            f"output's standard deviation, {tolerance or 'any number'} is "
            "allowed. Nothing was exported; check the installed versions."
        )
    return row


def _size_bytes(path):
    if path.is_file():
        return path.stat().st_size
    return sum(x.stat().st_size for x in path.rglob("*") if x.is_file())


def expected_prediction(network, denoise):
    """What the Keras network returns for the cases of `denoise`."""
    inputs = network_inputs(network, **denoise)
    return np.asarray(network(inputs, training=False))


def expected_images(generator, sampler, cases, image_size):
    """What Keras generates for the cases of `generate`.

    Args:
        generator: an `ImageGenerator`.
        sampler: the `Sampler` that the cases name.
        cases: see `generate_cases`.
        image_size: int.
    """
    cases = {k: v for k, v in cases.items() if k != "sampler"}
    arguments = {
        name: value if value.ndim else value.item()
        for name, value in cases.items()
    }
    return generator.generate(
        **arguments, sampler=sampler, image_size=image_size
    )
