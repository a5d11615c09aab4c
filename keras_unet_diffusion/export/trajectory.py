"""Whole sampling loops of artifacts beside Keras's: what small errors do."""

import numpy as np

from keras_unet_diffusion.export.signatures import (
    LOW_RESOLUTION,
    further_images,
)
from keras_unet_diffusion.export.step_table import most_steps
from keras_unet_diffusion.network_calls import has_null_label, takes_labels
from keras_unet_diffusion.samplers import DDIM

NUM_SAMPLES = 4
# As many as one takes for good images; a tenth of the errors of 200.
NUM_STEPS = 20
_SEED = 1
_GUIDANCE_SCALE = 1.5


def sample_cases(generator, image_shape):
    """Makes inputs of loops: the noise of a seed and what belongs to it.

    Args:
        generator: an `ImageGenerator`.
        image_shape: `(height, width, channels)`.

    Returns:
        Dict of noise `(num_samples, height, width, channels)`, num_steps and
        what else the network takes.
    """
    network, schedule = generator.network, generator.process.schedule
    noise = generator.noise(_SEED, image_shape, 0, NUM_SAMPLES)
    cases = {
        "noise": np.asarray(noise, "float32"),
        "num_steps": np.int32(min(NUM_STEPS, most_steps(schedule))),
    }
    if takes_labels(network):
        num_classes = getattr(network, "num_classes", None) or 1
        labels = np.arange(NUM_SAMPLES) % num_classes
        cases["labels"] = labels.astype("int32")
    if has_null_label(network):
        cases["guidance_scale"] = np.float32(_GUIDANCE_SCALE)
    shape = further_images(network, image_shape).get(LOW_RESOLUTION)
    if shape is not None:
        random = np.random.default_rng(_SEED)
        images = random.uniform(-1, 1, (NUM_SAMPLES, *shape))
        cases[LOW_RESOLUTION] = images.astype("float32")
    return cases


def expected_samples(generator, cases, noise_error=0.0):
    """What Keras makes of the cases by DDIM, in float64 but for the network.

    Args:
        generator: an `ImageGenerator`.
        cases: see `sample_cases`.
        noise_error: float. The noise is wrong by this share of itself, up
            here and down there.

    Returns:
        float32 array, the images.
    """
    options = {
        name: value.item() if value.ndim == 0 else value
        for name, value in cases.items()
        if name != "noise"
    }
    noise = cases["noise"].astype("float64")
    signs = np.random.default_rng(0).choice([-1.0, 1.0], noise.shape)
    noise = noise * (1 + noise_error * signs)
    request = generator.request(
        len(noise), seed=0, sampler=DDIM(), verbose=0, **options
    )

    def begin(first, count):
        return generator.scaled(request, noise[first : first + count])

    return generator.run(request, begin)


def samples_rounding(generator, cases, expected, error):
    """How far images go from noise that is a little wrong.

    Args:
        generator: an `ImageGenerator`.
        cases: see `sample_cases`.
        expected: images, see `expected_samples`.
        error: float, share of the noise.

    Returns:
        The largest difference, as a share of the images' standard deviation.
    """
    others = expected_samples(generator, cases, error)
    return float(np.abs(others - expected).max() / np.std(expected))


def describe_samples(images, expected):
    """Compares final images with those of Keras.

    Args:
        images: of the artifact, `(batch, height, width, channels)`.
        expected: of Keras.

    Returns:
        Dict of `psnr_db` (None if they are equal), `channel_means` and
        `channel_deviations` of both, and `statistics_difference`, the largest
        of the differences of these.
    """
    # As pixels: the range is 2.
    shown = np.clip(images, -1, 1), np.clip(expected, -1, 1)
    error = float(np.mean(np.square(shown[0] - shown[1], dtype="float64")))
    means, deviations = (
        np.array([measure(x, axis=(0, 1, 2), dtype="float64") for x in shown])
        for measure in (np.mean, np.std)
    )
    shifts = [np.abs(x[0] - x[1]).max() for x in (means, deviations)]
    return {
        "psnr_db": 10 * float(np.log10(4 / error)) if error else None,
        "channel_means": means[0].tolist(),
        "keras_channel_means": means[1].tolist(),
        "channel_deviations": deviations[0].tolist(),
        "keras_channel_deviations": deviations[1].tolist(),
        "statistics_difference": float(max(shifts)),
    }
