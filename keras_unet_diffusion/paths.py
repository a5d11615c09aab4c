"""Where the steps of a sampler are, as numbers on the host.

Each is a hundred small operations on the device, and is asked for again with
every call of `generate`: what was computed is kept.
"""

import functools

import numpy as np
from keras import ops

from keras_unet_diffusion.backends import in_float64
from keras_unet_diffusion.diffusion import Point
from keras_unet_diffusion.samplers import Path

_MOST_KEPT = 64


@functools.lru_cache(maxsize=_MOST_KEPT)
@in_float64
def path_ratios(schedule, sampler, num_steps):
    """Noise per image, sigma / alpha, where steps begin and the last ends.

    Args:
        schedule: a `Schedule`.
        sampler: a `Sampler`.
        num_steps: int.

    Returns:
        float64 array `(num_steps + 1,)`, not to be written to; infinite where
        there is no image.
    """
    path = _path(schedule, sampler, num_steps)
    boundaries = ops.arange(num_steps + 1, dtype="int32")
    ratios = np.array(ops.convert_to_numpy(path(boundaries).noise_ratio))
    ratios.flags.writeable = False
    return ratios


@functools.lru_cache(maxsize=_MOST_KEPT)
@in_float64
def path_point(schedule, sampler, num_steps, i):
    """The `Point` where step `i` begins, its numbers float64.

    Args:
        schedule: a `Schedule`.
        sampler: a `Sampler`.
        num_steps: int.
        i: int.
    """
    point = _path(schedule, sampler, num_steps)(ops.cast(i, "int32"))
    return Point(*(np.float64(ops.convert_to_numpy(x)) for x in point))


@functools.lru_cache(maxsize=_MOST_KEPT)
@in_float64
def first_deviation(schedule, sampler, num_steps):
    """Deviation of the noisy images at the first point, a float.

    Raises:
        ValueError: the sampler cannot follow the schedule.
    """
    one = ops.ones((1, 1, 1, 1), "float64")
    scaled = sampler.initial(one, _path(schedule, sampler, num_steps))
    return float(ops.convert_to_numpy(scaled)[0, 0, 0, 0])


def _path(schedule, sampler, num_steps):
    return Path(schedule, sampler, ops.cast(num_steps, "int32"), "float64")
