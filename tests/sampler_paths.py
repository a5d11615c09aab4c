"""Steps of samplers one by one, along times and estimates that a test sets."""

import dataclasses
from typing import Any

import numpy as np

from keras_unet_diffusion.samplers import Estimate


@dataclasses.dataclass(frozen=True)
class FixedPath:
    """A path through given times of a schedule, as part of a longer one."""

    schedule: Any
    times: tuple
    num_steps: int

    @property
    def total_steps(self):
        return self.num_steps

    def __call__(self, i):
        return self.schedule.point(np.float64(self.times[int(i)]))

    def at_ratio(self, noise_ratio):
        return self.schedule.point_of_ratio(noise_ratio)


def run_steps(sampler, path, num_steps, x, x_0_at, drawn=0.0):
    """Takes the first steps; x_0 is a function of the point, not of x."""

    def denoise(x_t, point):
        x_0 = x_0_at(point) + 0 * x_t
        return Estimate(x_0, (x_t - point.alpha * x_0) / point.sigma)

    noise = drawn + 0 * x
    state = sampler.init(x)
    for i in range(num_steps):
        x, state = sampler.step(
            x, state, np.int32(i), path, denoise, lambda k=0: noise
        )
    return np.asarray(x)
