"""Rectified flow: straight paths, followed by Euler's or Heun's method."""

import abc
import dataclasses

import keras
from keras import ops

from keras_unet_diffusion.diffusion.continuous_schedules import FlowSchedule
from keras_unet_diffusion.samplers.grids import TimeGrid
from keras_unet_diffusion.samplers.loop import Sampler


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class TwiceShiftedGrid(TimeGrid):
    """The grid of diffusers' FlowMatchEulerDiscreteScheduler.

    Even steps down to the share of noise at the first of `time_scale` steps,
    shifted already when the scheduler is made; then all are shifted again.
    With shift 1 it is `LinspaceGrid`. For schedules of the kind
    `FlowSchedule`.

    Raises:
        ValueError: when sampling, for any other schedule.

    Example:

    ```python
    sampler = FlowHeun(grid=TwiceShiftedGrid())
    ```

    Reference:
        diffusers 0.42.1. Differences: none.
    """

    def point(self, i, num_points, schedule, sampler):
        if not isinstance(schedule, FlowSchedule):
            raise ValueError(
                "Only the times of a FlowSchedule are shifted. Received: "
                f"TwiceShiftedGrid() with {schedule!r}. Pass TrailingGrid()."
            )
        first_step = ops.full_like(num_points, 1 / schedule.time_scale)
        last = schedule.sigma(first_step)
        share = i / ops.maximum(num_points - 1, 1)
        return schedule.point(1 + share * (last - 1))


@dataclasses.dataclass(frozen=True)
class _FlowSampler(Sampler):
    """A method in the share of the noise, whose slope is the velocity
    `noise - x_0`. Abstract."""

    @property
    def is_stochastic(self):
        return False

    def init(self, x):
        return ()

    def _velocity(self, x, point, denoise):
        estimate = denoise(x, point)
        return estimate.noise - estimate.x_0

    def check_schedule(self, schedule):
        if not isinstance(schedule, FlowSchedule):
            raise ValueError(
                "Flow samplers follow the straight paths of a FlowSchedule. "
                f"Received: a model with {schedule!r}. Pass Euler() or "
                "Heun(), which follow any schedule."
            )

    @abc.abstractmethod
    def step(self, x_t, state, i, path, denoise, draw_noise):
        """See `Sampler`."""


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class FlowEuler(_FlowSampler):
    """Euler's method along the velocity of a rectified flow.

    For models with a `FlowSchedule`. One network call a step.

    Args:
        grid: and the others, see `Sampler`.

    Example:

    ```python
    model.generate(8, sampler=FlowEuler(), num_steps=28)
    ```

    Reference:
        Liu et al. 2022, "Flow Straight and Fast", section 2. Differences:
        none; with compat="diffusers", the usual grid is
        `TwiceShiftedGrid()`.
    """

    @property
    def used_grid(self):
        if self.grid is None and self.compat == "diffusers":
            return TwiceShiftedGrid()
        return super().used_grid

    def step(self, x_t, state, i, path, denoise, draw_noise):
        now, after = path(i), path(i + 1)
        velocity = self._velocity(x_t, now, denoise)
        return x_t + (after.sigma - now.sigma) * velocity, ()


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class FlowHeun(_FlowSampler):
    """Heun's method along the velocity of a rectified flow: second order.

    For models with a `FlowSchedule`. Two network calls a step, one in the
    last.

    Args:
        grid: and the others, see `Sampler`.

    Example:

    ```python
    model.generate(8, sampler=FlowHeun(), num_steps=14)
    ```

    Reference:
        Liu et al. 2022, section 2, with the second-order method of Karras et
        al. 2022, algorithm 1. Differences: none.
    """

    def step(self, x_t, state, i, path, denoise, draw_noise):
        now, after = path(i), path(i + 1)
        length = after.sigma - now.sigma
        velocity = self._velocity(x_t, now, denoise)
        end = x_t + length * velocity

        def corrected():
            end_velocity = self._velocity(end, after, denoise)
            return x_t + length * (velocity + end_velocity) / 2

        # Where no noise is left, a network is not asked.
        return ops.cond(after.sigma > 0, corrected, lambda: end), ()
