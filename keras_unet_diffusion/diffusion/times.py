"""How often training visits each time."""

import abc
import dataclasses
import math

import keras
from keras import ops

from keras_unet_diffusion.diffusion.component import Component

# The uniform numbers of float32 are multiples of this.
_UNIFORM_STEP = 2.0**-24
# Log-SNR that stands for "no image at all": alpha**2 of 2**-24.
_LEAST_LOG_SNR = -24 * math.log(2)


def _normal(uniform):
    """Uniform numbers in [0, 1) to standard normal ones."""
    uniform = ops.clip(uniform, _UNIFORM_STEP / 2, 1 - _UNIFORM_STEP)
    return math.sqrt(2) * ops.erfinv(2 * uniform - 1)


def _known_times(t, schedule):
    """The nearest times that a schedule knows and a network is asked."""
    if not schedule.is_bounded:
        return t
    t = ops.clip(t, schedule.min_time, schedule.max_time)
    num_timesteps = schedule.num_timesteps
    if num_timesteps is None:
        return t
    return ops.maximum(ops.round(t * num_timesteps), 1) / num_timesteps


class TrainingTimes(Component, abc.ABC):
    """A distribution of the times to train at. Abstract: its inverse."""

    @abc.abstractmethod
    def times(self, uniform, schedule):
        """Turns uniform numbers into times to train at.

        Args:
            uniform: numbers in [0, 1), `(batch,)`, float32 or float64.
            schedule: the `Schedule` to be trained with.

        Returns:
            Times in (0, 1], `(batch,)`: those of the grid alone if the
            schedule has one.
        """


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class UniformTimes(TrainingTimes):
    """Every time, or every step of the schedule, is equally likely.

    Reference:
        Ho et al. 2020, algorithm 1; Song et al. 2021, Eq. 7, for continuous
        time. Differences: none.
    """

    def times(self, uniform, schedule):
        steps = schedule.num_timesteps
        if steps is not None:
            return (ops.floor(uniform * steps) + 1) / steps
        low, high = schedule.min_time, schedule.max_time
        return low + (high - low) * uniform


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class StratifiedTimes(TrainingTimes):
    """One time from each of as many equal slices as the batch has images.

    Use it for a loss of less variance at no cost. The images of a batch must
    be in random order, because the first gets the first slice.

    Args:
        distribution: a `TrainingTimes`, which is cut into slices.

    Raises:
        ValueError: `distribution` is of another kind.

    Example:

    ```python
    StratifiedTimes(LogNormalTimes())
    ```

    Reference:
        Kingma et al. 2021, "Variational Diffusion Models", appendix I.1.
        Differences: each slice has a random number of its own, where theirs
        share one.
    """

    distribution: TrainingTimes = UniformTimes()

    def __post_init__(self):
        if not isinstance(self.distribution, TrainingTimes):
            raise ValueError(
                "distribution must be a TrainingTimes. Received: distribution="
                f"{self.distribution!r}. Pass an object, such as "
                "UniformTimes()."
            )

    def times(self, uniform, schedule):
        uniform = ops.convert_to_tensor(uniform)
        batch_size = ops.shape(uniform)[0]
        slices = ops.cast(ops.arange(batch_size), uniform.dtype)
        uniform = (slices + uniform) / ops.cast(batch_size, uniform.dtype)
        # The sum may round up to the next slice: the last has none.
        uniform = ops.minimum(uniform, 1 - _UNIFORM_STEP)
        return self.distribution.times(uniform, schedule)


def _check_deviation(deviation):
    if not deviation > 0:
        raise ValueError(
            "The deviation of a distribution must be positive. Received: "
            f"deviation={deviation}. The published values are 1.2 of "
            "log-normal and 1 of logit-normal times."
        )


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class LogNormalTimes(TrainingTimes):
    """The log of `sigma / alpha` is normally distributed.

    Use it with `EDMPrediction` and `EDMWeighting`: training goes where the
    loss can still fall.

    Args:
        mean: float. Mean of the log.
        deviation: float > 0. Standard deviation of the log.

    Raises:
        ValueError: `deviation <= 0`.

    Reference:
        Karras et al. 2022, table 1, "noise distribution". Differences:
        schedules other than `EDMSchedule` bound the noise, and the nearest
        time that they know is taken.
    """

    mean: float = -1.2
    deviation: float = 1.2

    def __post_init__(self):
        _check_deviation(self.deviation)

    def times(self, uniform, schedule):
        log_noise_ratio = self.mean + self.deviation * _normal(uniform)
        return _known_times(schedule.time(-2 * log_noise_ratio), schedule)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class LogitNormalTimes(TrainingTimes):
    """The log of `t / (1 - t)` is normally distributed.

    Use it with `FlowSchedule` and `FlowPrediction`: times near both ends, the
    easy ones, are rare.

    Args:
        mean: float. Below 0 prefers images, above 0 noise.
        deviation: float > 0. Spread over the times.

    Raises:
        ValueError: `deviation <= 0`.

    Reference:
        Esser et al. 2024, "Scaling Rectified Flow Transformers", Eq. 19,
        "rf/lognorm(0.00, 1.00)". Differences: times are kept between
        `min_time` and `max_time` of the schedule.
    """

    mean: float = 0.0
    deviation: float = 1.0

    def __post_init__(self):
        _check_deviation(self.deviation)

    def times(self, uniform, schedule):
        t = ops.sigmoid(self.mean + self.deviation * _normal(uniform))
        return _known_times(t, schedule)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class LogUniformTimes(TrainingTimes):
    """The log of `sigma / alpha` is uniform between the schedule's ends.

    Use it with schedules whose own time favours some noise levels.

    Reference:
        Karras et al. 2022, table 1, column "VE", "noise distribution".
        Differences: an end without any image counts as one of
        alpha**2 = 2**-24.
    """

    def times(self, uniform, schedule):
        uniform = ops.convert_to_tensor(uniform)
        ends = [schedule.min_time, schedule.max_time]
        ends = ops.convert_to_tensor(ends, uniform.dtype)
        log_snr = ops.maximum(schedule.log_snr(ends), _LEAST_LOG_SNR)
        between = log_snr[0] + uniform * (log_snr[1] - log_snr[0])
        return _known_times(schedule.time(between), schedule)


def second_moment_probabilities(squared_losses, uniform_share=0.001):
    """How likely each step ought to be for a loss of little variance.

    Args:
        squared_losses: squares of past losses of each step,
            `(num_timesteps, num_losses)`.
        uniform_share: float in [0, 1]. Share of the probability that is the
            same for all steps, so that none is forgotten.

    Returns:
        Probabilities, `(num_timesteps,)`, summing to one. A loss divided by
        `num_timesteps` times its step's probability keeps its expectation.

    Reference:
        Nichol and Dhariwal 2021, Eq. 18, with the last 10 losses of each
        step; `uniform_share` is the choice of OpenAI's improved-diffusion.
        Differences: none.
    """
    squared_losses = ops.convert_to_tensor(squared_losses)
    sizes = ops.sqrt(ops.mean(squared_losses, axis=-1))
    share = uniform_share / sizes.shape[0]
    return sizes / ops.sum(sizes) * (1 - uniform_share) + share


def times_by_probability(uniform, cumulative):
    """Turns uniform numbers into times that are not equally likely.

    Args:
        uniform: numbers in [0, 1), `(batch,)`.
        cumulative: cumulative sum of the steps' probabilities,
            `(num_timesteps,)`, of the same dtype.

    Returns:
        Times on the grid of that many steps, `(batch,)`.
    """
    uniform = ops.convert_to_tensor(uniform)
    steps = ops.searchsorted(cumulative, uniform, side="right")
    num_timesteps = cumulative.shape[0]
    # A sum that was rounded to below one leaves no step beyond the last.
    steps = ops.minimum(ops.cast(steps, uniform.dtype), num_timesteps - 1)
    return (steps + 1) / num_timesteps
