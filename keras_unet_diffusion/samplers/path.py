"""The path of a sampler: the points between noise and image it stops at."""

import dataclasses
from typing import Any

from keras import ops

from keras_unet_diffusion.diffusion.schedules import Point, Schedule

# Where there is no image at all, its share for samplers that divide by it:
# diffusers' Euler, DPM-Solver and UniPC put the same in alpha**2.
_LEAST_ALPHA = 2.0**-12


@dataclasses.dataclass(frozen=True)
class Path:
    """The boundaries of a sampler's steps, as functions of their number.

    Args:
        schedule: the `Schedule` that the network was trained with.
        sampler: the `Sampler`, whose grid and options decide.
        num_steps: int32 scalar tensor.
        dtype: of the numbers, "float32" or "float64".
    """

    schedule: Schedule
    sampler: Any
    num_steps: Any
    dtype: str

    def __call__(self, i):
        """The `Point` where step `i` begins and step `i - 1` ends.

        Args:
            i: int32 scalar from 0, noise, to `num_steps`, image.
        """
        sampler = self.sampler
        ends_clean = int(sampler.final_denoising)
        num_points = self.num_steps + 1 - ends_clean
        point = sampler.used_grid.point(
            self._cast(ops.minimum(i, num_points - 1)),
            self._cast(num_points),
            self.schedule,
            sampler,
        )
        point = self._with_image(point)
        if not ends_clean:
            return point
        is_clean = ops.equal(i, self.num_steps)
        return Point(
            *(
                ops.where(is_clean, self._cast(clean), value)
                for clean, value in zip((0, 1, 0), point, strict=True)
            )
        )

    def at_ratio(self, noise_ratio):
        """The `Point`, on the grid or not, where sigma / alpha is this."""
        return self._with_image(self.schedule.point_of_ratio(noise_ratio))

    def _with_image(self, point):
        if not self.sampler.needs_image_share:
            return point
        return point._replace(alpha=ops.maximum(point.alpha, _LEAST_ALPHA))

    @property
    def total_steps(self):
        """Steps of the whole path, also where some of them are left out."""
        return self.num_steps

    def _cast(self, number):
        return ops.cast(number, self.dtype)


@dataclasses.dataclass(frozen=True)
class ReversedPath:
    """A path from the image to the noise: inversion runs samplers along it.

    Args:
        path: the `Path` whose last boundary is not the clean image.
    """

    path: Path

    def __call__(self, i):
        return self.path(self.num_steps - i)

    @property
    def num_steps(self):
        return self.path.num_steps

    @property
    def total_steps(self):
        return self.path.total_steps

    @property
    def schedule(self):
        return self.path.schedule

    def at_ratio(self, noise_ratio):
        return self.path.at_ratio(noise_ratio)


@dataclasses.dataclass(frozen=True)
class RestOfPath:
    """A path without its first steps, for images that already are something.

    Samplers count steps from where they begin: those that remember earlier
    ones know of none there.

    Args:
        path: the whole `Path`.
        skipped_steps: int32 scalar tensor.
    """

    path: Path
    skipped_steps: Any

    def __call__(self, i):
        return self.path(self.skipped_steps + i)

    @property
    def num_steps(self):
        return self.path.num_steps - self.skipped_steps

    @property
    def total_steps(self):
        return self.path.total_steps

    @property
    def schedule(self):
        return self.path.schedule

    def at_ratio(self, noise_ratio):
        return self.path.at_ratio(noise_ratio)
