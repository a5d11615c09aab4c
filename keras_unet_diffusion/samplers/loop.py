"""The abstract step and the one loop that all samplers share."""

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_unet_diffusion.diffusion.component import Component
from keras_unet_diffusion.samplers.grids import TimeGrid, TrailingGrid
from keras_unet_diffusion.samplers.path import Path
from keras_unet_diffusion.samplers.thresholding import (
    Thresholding,
    thresholded,
)

COMPATIBLE = ("paper", "diffusers", "openai")


def is_number(value):
    """Whether an argument is a number, bool: whoever knows samplers that take
    a schedule may pass one."""
    return isinstance(value, int | float | np.number)


class Estimate(NamedTuple):
    """What a network tells of a noisy image.

    Args:
        x_0: estimated images, `(batch, height, width, channels)`.
        noise: estimated noise, same shape; `x_t = alpha x_0 + sigma noise`.
        variance: what the network predicted of the step's variance, same
            shape; None if it predicts none.
    """

    x_0: Any
    noise: Any
    variance: Any = None


@dataclasses.dataclass(frozen=True)
class Sampler(Component, abc.ABC):
    """A way from noisier to cleaner images. Abstract: it is its `step`.

    Args:
        grid: a `TimeGrid`, where the steps are; None for the sampler's usual.
        thresholding: a `Thresholding` of the estimated images; None for none.
        final_denoising: bool. Whether the last step goes all the way to the
            clean image; otherwise to the grid's last point: next to the image
            on most grids, at t = 1 / (n + 1) on a `TrailingGrid`.
        compat: "paper" for what was published; "diffusers" or "openai" for
            what that code does where it differs.

    Raises:
        ValueError: an argument is of the wrong kind.
    """

    grid: TimeGrid | None = dataclasses.field(default=None, kw_only=True)
    thresholding: Thresholding | None = dataclasses.field(
        default=None, kw_only=True
    )
    final_denoising: bool = dataclasses.field(default=True, kw_only=True)
    compat: str = dataclasses.field(default="paper", kw_only=True)

    # What a sampler is to the grids and the path; see there.
    usual_grid: ClassVar[TimeGrid] = TrailingGrid()
    drops_last: ClassVar[bool] = False
    interpolates_ratio: ClassVar[bool] = False
    needs_image_share: ClassVar[bool] = False
    # Whether, as in diffusers, thresholding leaves the noise as it was.
    keeps_noise: ClassVar[bool] = False

    def __post_init__(self):
        for name, kind in (("grid", TimeGrid), ("thresholding", Thresholding)):
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                raise ValueError(
                    f"{name} must be a {kind.__name__} or None. Received: "
                    f"{name}={value!r}. Pass an object of keras_unet_diffusion."
                    "samplers."
                )
        if self.compat not in COMPATIBLE:
            raise ValueError(
                "There is nothing of that name to be compatible with. "
                f"Received: compat={self.compat!r}. Pass one of "
                f"{', '.join(COMPATIBLE)}."
            )

    @property
    def used_grid(self):
        """The grid given, or the sampler's usual one."""
        return self.grid or self.usual_grid

    @property
    @abc.abstractmethod
    def is_stochastic(self):
        """Whether `step` draws noise, bool."""

    def check_schedule(self, schedule):
        """Raises a `ValueError` for a `Schedule` that it cannot follow."""

    def init(self, x):
        """What the first step finds as its `state`.

        Args:
            x: noise, `(batch, height, width, channels)`.

        Returns:
            A flat tuple of tensors, each a scalar or of the shape of x; `step`
            returns the like. Samplers of one step keep nothing.
        """
        return ()

    @abc.abstractmethod
    def step(self, x_t, state, i, path, denoise, draw_noise):
        """Goes from boundary `i` of the path to the next.

        Args:
            x_t: noisy images, `(batch, height, width, channels)`, float32 or
                float64, the dtype of all numbers here.
            state: see `init`.
            i: number of the step, int32 scalar tensor from 0.
            path: a `Path`; `path(i)` is the `Point` of x_t.
            denoise: function `(x_t, point) -> Estimate`.
            draw_noise: function of k, an int: the k-th standard normal noise
                of this step, of the shape of x_t. Not to be called unless
                `is_stochastic`.

        Returns:
            Images at `path(i + 1)`, of the shape of x_t, and the new state.
        """

    def initial(self, noise, path):
        """Noisy images at the first point, of standard normal noise."""
        self.check_schedule(path.schedule)
        point = path(ops.cast(0, "int32"))
        return noise * path.schedule.prior_deviation(point)


def start(sampler, x_t):
    """The loop's variables before its first step.

    Args:
        sampler: a `Sampler`.
        x_t: noisy images, `(batch, height, width, channels)`.

    Returns:
        `(x_t, x_0, state)`: the images, the last estimate of the clean images
        (zeros before the first) and the sampler's own state.
    """
    return x_t, ops.zeros_like(x_t), sampler.init(x_t)


def advance(sampler, denoise, variables, path, first, last, draw_noise=None):
    """Takes some steps of a sampler: the core of all sampling.

    One loop in the graph: traced once, whatever the number of steps. It can
    stop after any step and go on later, for a preview or a progress bar.

    Args:
        sampler: a `Sampler`, or what has its `step`.
        denoise: function `(x_t, point, x_0)`, the last argument the estimate
            of the step before; it returns an `Estimate` or `(x_0, noise)`.
        variables: what `start` or an earlier call returned.
        path: a `Path`.
        first: int32 scalar. Steps taken already.
        last: int32 scalar. Steps to have been taken in the end.
        draw_noise: function of the step's number and of k, see
            `Sampler.step`. Needed if `sampler.is_stochastic`.

    Returns:
        The variables, of the same structure.
    """

    def body(i, variables):
        x_t, x_0, state = variables
        estimates = []

        def plain(x_t, point):
            return Estimate(*denoise(x_t, point, x_0))

        keeps_noise = sampler.keeps_noise and sampler.compat == "diffusers"
        bounded = thresholded(plain, sampler.thresholding, keeps_noise)

        def remembered(x_t, point):
            estimates.append(bounded(x_t, point))
            return estimates[-1]

        x_t, state = sampler.step(
            x_t, state, i, path, remembered, lambda k=0: draw_noise(i, k)
        )
        # The first: later ones may lie in a branch of their own.
        return x_t, estimates[0].x_0, state

    return ops.fori_loop(first, last, body, variables)


def sample(sampler, denoise, x_1, schedule, num_steps, draw_noise=None):
    """Runs a sampler from pure noise to clean images.

    Args:
        sampler: a `Sampler`.
        denoise: function `(x_t, point) -> (x_0, noise)` or an `Estimate`.
        x_1: standard normal noise, `(batch, height, width, channels)`,
            float32 or float64, whose dtype all of the loop keeps.
        schedule: the `Schedule` that the network was trained with.
        num_steps: int >= 1, also as a scalar tensor.
        draw_noise: function of the step's number, from 0, and of k to the
            k-th standard normal noise of that step, of the shape of x_1.
            Needed if `sampler.is_stochastic`.

    Returns:
        Images of the shape of x_1.

    Example:

    ```python
    images = sample(DDIM(), denoise, noise, CosineSchedule(), num_steps=50)
    ```
    """
    num_steps = ops.cast(num_steps, "int32")
    x_1 = ops.convert_to_tensor(x_1)
    dtype = keras.backend.standardize_dtype(x_1.dtype)
    path = Path(schedule, sampler, num_steps, dtype)
    variables = start(sampler, sampler.initial(x_1, path))

    def forgetful(x_t, point, x_0):
        return denoise(x_t, point)

    first = ops.cast(0, "int32")
    return advance(
        sampler, forgetful, variables, path, first, num_steps, draw_noise
    )[0]
