"""What every block of a network makes of one image at some noise levels."""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_unet_diffusion import noise as random_numbers
from keras_unet_diffusion.diffusion.schedules import Point
from keras_unet_diffusion.network_calls import network_inputs

# Noise per image between which levels are chosen: below, an image looks
# clean; above, nothing of it is left to see.
LEAST_NOISE = 0.05
MOST_NOISE = 20.0


def noise_levels(schedule, num_levels=8):
    """Points of a schedule whose noise per image grows by equal factors.

    Args:
        schedule: a `Schedule`.
        num_levels: int >= 1.

    Returns:
        List of `Point`s of floats, from little noise to much: sigma / alpha
        from 0.05 to 20, or as far as the schedule goes. Levels of a schedule
        in steps lie on its steps.

    Raises:
        ValueError: there are to be no levels.

    Example:

    ```python
    [point.t for point in noise_levels(CosineSchedule(), 4)]
    ```
    """
    if num_levels < 1:
        raise ValueError(
            "An image is looked at in one noise level at least. Received: "
            f"num_levels={num_levels}. Pass 1 or more; 8 is usual."
        )
    ratios = np.geomspace(*noise_range(schedule), num_levels)
    times = _numbers(schedule.time(-2 * np.log(ratios)))
    if schedule.num_timesteps is not None:
        steps = np.round(times * schedule.num_timesteps)
        times = np.maximum(steps, 1) / schedule.num_timesteps
    return _points(schedule, times)


def noise_range(schedule):
    """Least and most noise per image of `noise_levels`.

    Args:
        schedule: a `Schedule`.

    Returns:
        Two floats, sigma / alpha: 0.05 and 20, or as far as the schedule goes.
    """
    ends = _points(schedule, [schedule.min_time, schedule.max_time])
    with np.errstate(divide="ignore"):
        least, most = (np.divide(point.sigma, point.alpha) for point in ends)
    return max(float(least), LEAST_NOISE), min(float(most), MOST_NOISE)


def _points(schedule, times):
    parts = [_numbers(x) for x in schedule.point(np.asarray(times, "float64"))]
    return [Point(*map(float, numbers)) for numbers in zip(*parts, strict=True)]


def _numbers(tensor):
    return ops.convert_to_numpy(tensor).astype("float64")


@dataclasses.dataclass(frozen=True)
class Subject:
    """One image on which a network is watched.

    Args:
        image: float32 `(height, width, channels)`, pixels in [-1, 1].
        label: int that the network is told, or None.
        seed: int, of the noise; the same noise at all levels.
    """

    image: np.ndarray
    label: int | None = None
    seed: int = 0

    def noisy(self, point):
        """The image at a `Point`, float32 `(1, height, width, channels)`."""
        noise = random_numbers.normal_images(self.seed, 0, 1, self.image.shape)
        noise = ops.convert_to_numpy(noise)
        return (point.alpha * self.image[None] + point.sigma * noise).astype(
            "float32"
        )


def inputs_at(network, process, subject, point):
    """What a network is called with to see an image at a noise level.

    A super-resolution network also gets the image made smaller, as in
    training; one that sees its own last estimate gets that which it makes
    without.

    Args:
        network: see `DiffusionModel`.
        process: the `DiffusionProcess` that it was trained with.
        subject: a `Subject`.
        point: a `Point` of floats, see `noise_levels`.

    Returns:
        A dict of tensors, batches of one.

    Example:

    ```python
    point = noise_levels(process.schedule)[3]
    inputs = inputs_at(network, process, Subject(image), point)
    prediction = network(inputs, training=False)
    ```
    """
    x_t = subject.noisy(point)
    tensors = Point(*(ops.convert_to_tensor(x, "float32") for x in point))
    inputs = network_inputs(
        network,
        process.network_input(x_t, tensors),
        ops.reshape(process.noise_level_at(tensors), (1,)),
        None if subject.label is None else np.array([subject.label], "int32"),
        low_resolution_images=low_resolution(network, subject.image),
    )
    if "previous_estimate" in network.input:
        prediction = network(inputs, training=False)
        # Channels beyond the images' are learned variances.
        prediction = prediction[..., : x_t.shape[-1]]
        estimate, _ = process.estimate(x_t, prediction, tensors)
        inputs["previous_estimate"] = ops.clip(estimate, -1.0, 1.0)
    return inputs


def low_resolution(network, image):
    """What a super-resolution network is to enlarge to an image.

    Args:
        network: see `DiffusionModel`.
        image: `(height, width, channels)`.

    Returns:
        float32 array of one smaller image, or None for other networks.
    """
    if "low_resolution_images" not in network.input:
        return None
    factor = network.super_resolution_factor
    batch = ops.convert_to_tensor(image[None], "float32")
    return ops.convert_to_numpy(
        ops.average_pool(batch, factor, factor, "valid")
    )


def block_outputs(network, inputs, names):
    """What layers of a network put out, in one pass.

    All of them are in memory at once: 1.6 GB for one image of 256 pixels in
    the largest networks.

    Args:
        network: a functional `keras.Model`.
        inputs: dict of the network's inputs.
        names: names of layers, each of one output.

    Returns:
        dict of float32 arrays by name, batch first.

    Example:

    ```python
    block_outputs(network, inputs, ["stem"])["stem"].shape
    ```
    """
    outputs = {name: network.get_layer(name).output for name in names}
    probe = keras.Model(network.input, outputs)
    return {
        name: ops.convert_to_numpy(ops.cast(output, "float32"))
        for name, output in probe(inputs, training=False).items()
    }


@dataclasses.dataclass(frozen=True)
class Features:
    """A few channels of one block at all noise levels, made small.

    Args:
        channels: tuple of int, which channels are shown.
        values: float32 `(levels, height, width, shown channels)`, or
            `(levels, numbers)` of a block whose output is a vector.
        rms: tuple of float, one per level: root mean square of all channels.
    """

    channels: tuple
    values: Any
    rms: tuple


def watch(network, process, subject, points, names, most_pixels=32):
    """Follows one image through a network at several noise levels.

    Args:
        network: see `DiffusionModel`.
        process: its `DiffusionProcess`.
        subject: a `Subject`.
        points: `Point`s, see `noise_levels`.
        names: names of layers.
        most_pixels: int. Larger feature maps are made smaller, by means.

    Returns:
        dict of `Features` by name: of images up to 16 channels, evenly chosen.
    """
    found = {name: [] for name in names}
    for point in points:
        inputs = inputs_at(network, process, subject, point)
        for name, output in block_outputs(network, inputs, names).items():
            found[name].append(_reduced(output[0], most_pixels))
    return {name: _features(parts) for name, parts in found.items()}


def shown_channels(num_channels, most=16):
    """Numbers of up to `most` channels, evenly spaced from the first."""
    count = min(num_channels, most)
    return tuple(k * num_channels // count for k in range(count))


def _reduced(output, most_pixels):
    """The channels that are shown, made small, and the RMS of all."""
    rms = float(np.sqrt(np.mean(np.square(output, dtype="float64"))))
    if output.ndim != 3:
        return tuple(range(output.size)), output.reshape(-1), rms
    channels = shown_channels(output.shape[-1])
    return channels, shrunk(output[..., list(channels)], most_pixels), rms


def shrunk(image, most_pixels):
    """Means over equal squares, so that no side is longer than asked.

    Args:
        image: `(height, width, channels)`.
        most_pixels: int.
    """
    factor = -(-max(image.shape[:2]) // most_pixels)
    height, width = (size // factor for size in image.shape[:2])
    cut = image[: height * factor, : width * factor]
    blocks = cut.reshape(height, factor, width, factor, -1)
    return blocks.mean(axis=(1, 3), dtype="float32")


def _features(parts):
    channels, values, rms = zip(*parts, strict=True)
    return Features(channels[0], np.stack(values), rms)
