"""Where a sampler's steps are: the points at which a network is asked."""

import abc
import dataclasses

import keras
from keras import ops

from keras_unet_diffusion.diffusion.component import Component
from keras_unet_diffusion.diffusion.schedules import Point


class TimeGrid(Component, abc.ABC):
    """Some points of a schedule, from noise to image. Abstract."""

    @abc.abstractmethod
    def point(self, i, num_points, schedule, sampler):
        """The `Point` at which a network is asked the i-th time.

        Args:
            i: scalar, whole number from 0, the noisiest, to `num_points - 1`;
                float32 or float64, the dtype of the result.
            num_points: scalar >= 1, likewise.
            schedule: the `Schedule` that the network was trained with.
            sampler: the `Sampler`, whose compatibility decides about details.

        Returns:
            A `Point` of scalars.
        """


class _UniformGrid(TimeGrid):
    """Points that are evenly spaced in time, on whole steps if the schedule
    has steps. Abstract."""

    def point(self, i, num_points, schedule, sampler):
        if schedule.num_timesteps is None:
            return schedule.point(self._time(i, num_points, schedule))
        if sampler.compat == "diffusers":
            return self._as_diffusers(i, num_points, schedule, sampler)
        if sampler.compat == "openai":
            return self._as_openai(i, num_points, schedule)
        step = self._step(i, num_points, schedule.num_timesteps)
        return _at_step(ops.round(step), schedule)

    def _as_diffusers(self, i, num_points, schedule, sampler):
        step = self._step(i, num_points, schedule.num_timesteps)
        return _at_step(ops.round(step), schedule)

    def _as_openai(self, i, num_points, schedule):
        step = self._step(i, num_points, schedule.num_timesteps)
        return _at_step(ops.round(step), schedule)

    @abc.abstractmethod
    def _step(self, i, num_points, num_timesteps):
        """Number of the step from 0, clean, perhaps between two steps."""

    @abc.abstractmethod
    def _time(self, i, num_points, schedule):
        """Time in [min_time, max_time] of a continuous schedule."""


def _at_step(step, schedule):
    """The `Point` of a step's number, from 0."""
    return schedule.point((step + 1) / schedule.num_timesteps)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class TrailingGrid(_UniformGrid):
    """Even steps back from the noisiest time, which is included.

    Use it unless a published result asks for another.

    Example:

    ```python
    sampler = DDIM(grid=TrailingGrid())
    ```

    Reference:
        Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps
        are Flawed", table 2 ("trailing"). Differences: none. A point midway
        between two steps goes to either; diffusers may choose the other, and
        for some numbers of steps (61 is the first) takes one more, at -1.
    """

    def _step(self, i, num_points, num_timesteps):
        return ops.round(num_timesteps - i * (num_timesteps / num_points)) - 1

    def _time(self, i, num_points, schedule):
        return schedule.max_time * (1 - i / num_points)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class LeadingGrid(_UniformGrid):
    """Even steps up from the cleanest time; the noisiest is left out.

    The grid of DDIM's code and of diffusers. Sampling starts below the noise
    that it is given, so dark and bright images are out of reach.

    Args:
        offset: int >= 0. Added to the number of every step of a discrete
            schedule; not with compat="openai", which knows none.

    Raises:
        ValueError: `offset` is negative.

    Example:

    ```python
    sampler = DDIM(grid=LeadingGrid())
    ```

    Reference:
        Lin et al. 2023, table 2 ("leading"). Differences: none.
    """

    offset: int = 0

    def __post_init__(self):
        if self.offset < 0:
            raise ValueError(
                "An offset is added to the steps' numbers. Received: offset="
                f"{self.offset}. Pass 0 or a positive whole number."
            )

    def _as_diffusers(self, i, num_points, schedule, sampler):
        # diffusers' DPM-Solver and UniPC make a point more and leave out the
        # cleanest.
        num_points = num_points + int(sampler.drops_last)
        step = self._step(i, num_points, schedule.num_timesteps)
        return _at_step(step, schedule)

    def _as_openai(self, i, num_points, schedule):
        # "ddimN" of OpenAI's respacing takes the smallest stride that gives
        # just N steps, not the largest. Where there is none, it refuses; here
        # the first steps then coincide, which is refused before sampling.
        if self.offset:
            raise ValueError(
                "OpenAI's respacing knows no offset. Received: compat='openai' "
                f"with offset={self.offset}. Leave one out."
            )
        stride = ops.ceil(schedule.num_timesteps / num_points)
        step = (num_points - 1 - i) * stride
        return _at_step(ops.minimum(step, schedule.num_timesteps - 1), schedule)

    def _step(self, i, num_points, num_timesteps):
        step = (num_points - 1 - i) * ops.floor(num_timesteps / num_points)
        return ops.minimum(step + self.offset, num_timesteps - 1)

    def _time(self, i, num_points, schedule):
        span = schedule.max_time - schedule.min_time
        return schedule.min_time + span * (1 - (i + 1) / num_points)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class LinspaceGrid(_UniformGrid):
    """Even steps between the noisiest and the cleanest time, both included.

    Example:

    ```python
    sampler = Euler(grid=LinspaceGrid())
    ```

    Reference:
        Lin et al. 2023, table 2 ("linspace"); Nichol and Dhariwal 2021,
        section 4. Differences: none.
    """

    def _as_diffusers(self, i, num_points, schedule, sampler):
        num_timesteps = schedule.num_timesteps
        num_points = num_points + int(sampler.drops_last)
        # A single point is the cleanest in diffusers.
        step = self._even(i, num_points, num_timesteps)
        if not sampler.interpolates_ratio:
            return _at_step(ops.round(step), schedule)
        # diffusers' Euler, Heun and LMS stand between two steps and
        # interpolate sigma / alpha, not its logarithm.
        below = ops.minimum(ops.floor(step), num_timesteps - 2)
        share = step - below
        low = _at_step(below, schedule).noise_ratio
        high = _at_step(below + 1, schedule).noise_ratio
        ratio = low + share * (high - low)
        alpha = 1 / ops.sqrt(1 + ops.square(ratio))
        return Point((step + 1) / num_timesteps, alpha, ratio * alpha)

    def _step(self, i, num_points, num_timesteps):
        # A single point is the noisiest.
        step = self._even(i, num_points, num_timesteps)
        return ops.where(
            num_points > 1, step, ops.full_like(step, num_timesteps - 1)
        )

    def _even(self, i, num_points, num_timesteps):
        spacing = (num_timesteps - 1) / ops.maximum(num_points - 1, 1)
        return (num_points - 1 - i) * spacing

    def _time(self, i, num_points, schedule):
        share = i / ops.maximum(num_points - 1, 1)
        span = schedule.max_time - schedule.min_time
        return schedule.max_time - span * share


@dataclasses.dataclass(frozen=True)
class _RatioGrid(TimeGrid):
    """Points given by their noise per image, sigma / alpha. Abstract."""

    # The cosine schedule and flows go on to noise alone; steps there would be
    # wasted. The linear schedule ends at 157, EDM's levels at 80.
    max_ratio: float = dataclasses.field(default=160.0, kw_only=True)

    def __post_init__(self):
        if self.max_ratio <= 0:
            raise ValueError(
                "max_ratio bounds the noise per image. Received: max_ratio="
                f"{self.max_ratio}. Pass a positive number, such as 160."
            )

    def point(self, i, num_points, schedule, sampler):
        share = i / ops.maximum(num_points - 1, 1)
        most = _ratio(schedule, schedule.max_time, share)
        most = ops.minimum(most, self.max_ratio)
        least = _ratio(schedule, schedule.min_time, share)
        ratio = self._between(most, least, share)
        point = schedule.point_of_ratio(ratio)
        is_whole = sampler.compat == "diffusers" and sampler.drops_last
        if not is_whole or schedule.num_timesteps is None:
            return point
        # diffusers' DPM-Solver and UniPC keep the noise but tell the network
        # the nearest whole step.
        steps = schedule.num_timesteps
        return point._replace(t=ops.round(point.t * steps) / steps)

    @abc.abstractmethod
    def _between(self, most, least, share):
        """The ratio after a share of the points."""


def _ratio(schedule, t, like):
    # Noise alone has no ratio: the least share of the image counts.
    point = schedule.point(ops.convert_to_tensor(t, like.dtype))
    return point.sigma / ops.maximum(point.alpha, 2.0**-12)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class KarrasGrid(_RatioGrid):
    """Steps that are short where there is little noise.

    Use it with solvers of second order and higher, at 10 to 40 steps.

    Args:
        rho: float > 0. 1 spaces sigma / alpha evenly; more puts more points
            at low noise.
        max_ratio: float > 0. Noise per image to begin with, at most; pass more
            for an `EDMSchedule` that goes on above it.

    Raises:
        ValueError: `rho` or `max_ratio` is not positive.

    Example:

    ```python
    sampler = Heun(grid=KarrasGrid(rho=7.0))
    ```

    Reference:
        Karras et al. 2022, Eq. 5. Differences: on schedules whose alpha is not
        1, sigma is the noise per image, sigma / alpha; `max_ratio`.
    """

    rho: float = 7.0

    def __post_init__(self):
        super().__post_init__()
        if self.rho <= 0:
            raise ValueError(
                "rho must be positive. Received: rho="
                f"{self.rho}. The published value is 7."
            )

    def _between(self, most, least, share):
        first, last = most ** (1 / self.rho), least ** (1 / self.rho)
        return (first + share * (last - first)) ** self.rho  # Eq. 5


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class ExponentialGrid(_RatioGrid):
    """Steps over which the log of the noise falls evenly.

    The limit of `KarrasGrid` for large rho: even in log-SNR.

    Args:
        max_ratio: float > 0. Noise per image to begin with, at most.

    Raises:
        ValueError: `max_ratio` is not positive.

    Example:

    ```python
    sampler = DPMSolverPP(grid=ExponentialGrid())
    ```

    Reference:
        Lu et al. 2022, "DPM-Solver", section 3.4 (uniform lambda).
        Differences: none.
    """

    def _between(self, most, least, share):
        return most * (least / most) ** share
