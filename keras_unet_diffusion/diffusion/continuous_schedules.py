"""Schedules that are a formula: any time between clean image and noise."""

import dataclasses
import math

import keras
from keras import ops

from keras_unet_diffusion.diffusion.schedules import (
    Schedule,
    VariancePreserving,
    check_order,
    check_time_scale,
    unless_clean,
)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class VPSchedule(VariancePreserving):
    """The linear schedule in continuous time: the "VP" process.

    Use it for networks of the score-based SDE family, whose noise levels are
    `999 t`.

    Args:
        beta_min: float > 0. Rate of noise at t = 0, per unit of time.
        beta_max: float > `beta_min`. Rate at t = 1.

    Raises:
        ValueError: the rates do not rise from above 0.

    Example:

    ```python
    VPSchedule().alpha(np.array([1.0]))  # 0.0066
    ```

    Reference:
        Song et al. 2021, "Score-Based Generative Modeling through Stochastic
        Differential Equations", Eq. 33; Karras et al. 2022, table 1, with
        beta_d = beta_max - beta_min. Differences: both training and sampling
        begin at t = 1e-3; published is that for sampling, 1e-5 for training.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self):
        check_order(beta_min=self.beta_min, beta_max=self.beta_max)

    def log_snr(self, t):
        t = ops.convert_to_tensor(t)
        rise = self.beta_max - self.beta_min
        # Eq. 33: alpha**2 = exp(-integral); SNR = 1 / (exp(integral) - 1).
        integral = rise * ops.square(t) / 2 + self.beta_min * t
        log_snr = -ops.log(ops.expm1(integral))
        return unless_clean(t, log_snr, math.inf)

    def time(self, log_snr):
        rise = self.beta_max - self.beta_min
        integral = ops.log1p(ops.exp(-ops.convert_to_tensor(log_snr)))
        # Positive root of rise / 2 t**2 + beta_min t = integral, in the form
        # that does not cancel where t is small.
        root = ops.sqrt(self.beta_min**2 + 2 * rise * integral)
        return 2 * integral / (root + self.beta_min)

    def noise_level(self, t):
        return 999.0 * t  # Karras et al. 2022, table 1: (M - 1) t


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class ContinuousCosineSchedule(VariancePreserving):
    """The cosine schedule in continuous time, its log-SNR kept in bounds.

    Use it with velocity prediction, and `ShiftedSchedule` around it above
    64x64 pixels.

    Args:
        max_log_snr: float. Log-SNR just after t = 0.
        min_log_snr: float < `max_log_snr`. Log-SNR at t = 1.
        time_scale: float > 0. The network is told `time_scale * t`.

    Raises:
        ValueError: the bounds are in the wrong order, or no positive scale.

    Example:

    ```python
    ContinuousCosineSchedule().log_snr(np.array([0.5]))  # 0
    ```

    Reference:
        Salimans and Ho 2022, section 2 and appendix; Hoogeboom et al. 2023,
        "simple diffusion", appendix A: log-SNR -2 log tan(pi t / 2) with t
        scaled so that both bounds are met. Differences: training and sampling
        begin at t = 1e-3, where theirs begin at 0.
    """

    max_log_snr: float = 15.0
    min_log_snr: float = -15.0
    time_scale: float = 1000.0

    def __post_init__(self):
        if not self.min_log_snr < self.max_log_snr:
            raise ValueError(
                "The log-SNR falls. Received: max_log_snr="
                f"{self.max_log_snr}, min_log_snr={self.min_log_snr}. Pass "
                "the larger as max_log_snr."
            )
        check_time_scale(self.time_scale)

    def _ends(self):
        return (
            math.atan(math.exp(-0.5 * self.max_log_snr)),
            math.atan(math.exp(-0.5 * self.min_log_snr)),
        )

    def log_snr(self, t):
        t = ops.convert_to_tensor(t)
        first, last = self._ends()
        log_snr = -2 * ops.log(ops.tan(first + t * (last - first)))
        return unless_clean(t, log_snr, math.inf)

    def time(self, log_snr):
        first, last = self._ends()
        angle = ops.arctan(ops.exp(-0.5 * ops.convert_to_tensor(log_snr)))
        return (angle - first) / (last - first)

    def noise_level(self, t):
        return self.time_scale * t


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class SigmoidSchedule(VariancePreserving):
    """The square of the share of the image falls along a sigmoid.

    Not "sigmoid" of diffusers, whose variances grow along one: that is
    `SigmoidBetaSchedule`. Use it at 64x64 pixels and above.

    Args:
        start: float. Argument of the sigmoid at t = 0.
        end: float > `start`. Argument at t = 1.
        temperature: float > 0. Divides the arguments.
        min_alpha_squared: float in (0, 0.5). Bound of alpha**2.
        time_scale: float > 0. The network is told `time_scale * t`.

    Raises:
        ValueError: an argument is out of range.

    Example:

    ```python
    SigmoidSchedule().alpha(np.array([0.5]))  # about 0.7
    ```

    Reference:
        Jabri et al. 2022, "Scalable Adaptive Computation for Iterative
        Generation", algorithm 2 ("sigmoid_schedule"). Differences: alpha**2
        is kept in [1e-5, 1 - 1e-5], theirs in [1e-9, 1].
    """

    start: float = -3.0
    end: float = 3.0
    temperature: float = 1.0
    min_alpha_squared: float = 1e-5
    time_scale: float = 1000.0

    def __post_init__(self):
        if not (self.start < self.end and self.temperature > 0):
            raise ValueError(
                "The sigmoid runs from start to end. Received: start="
                f"{self.start}, end={self.end}, temperature="
                f"{self.temperature}. The published values are -3, 3 and 1."
            )
        if not 0 < self.min_alpha_squared < 0.5:
            raise ValueError(
                "min_alpha_squared keeps a little of the image. Received: "
                f"min_alpha_squared={self.min_alpha_squared}. Pass a small "
                "positive number, such as 1e-5."
            )
        check_time_scale(self.time_scale)

    def _ends(self):
        def sigmoid(x):
            # Unlike that of exp, this form never overflows.
            return 0.5 * (1 + math.tanh(0.5 * x / self.temperature))

        return sigmoid(self.start), sigmoid(self.end)

    def log_snr(self, t):
        t = ops.convert_to_tensor(t)
        first, last = self._ends()
        argument = (self.start + t * (self.end - self.start)) / self.temperature
        alpha_squared = (last - ops.sigmoid(argument)) / (last - first)
        floor = self.min_alpha_squared
        alpha_squared = ops.clip(alpha_squared, floor, 1 - floor)
        log_snr = ops.log(alpha_squared) - ops.log1p(-alpha_squared)
        return unless_clean(t, log_snr, math.inf)

    def time(self, log_snr):
        first, last = self._ends()
        floor = self.min_alpha_squared
        alpha_squared = ops.sigmoid(ops.convert_to_tensor(log_snr))
        alpha_squared = ops.clip(alpha_squared, floor, 1 - floor)
        value = last - alpha_squared * (last - first)
        argument = self.temperature * (ops.log(value) - ops.log1p(-value))
        return (argument - self.start) / (self.end - self.start)

    def noise_level(self, t):
        return self.time_scale * t


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class ShiftedSchedule(VariancePreserving):
    """Another schedule with more noise at every time, for larger images.

    Neighbouring pixels of a large image are alike, so the same noise destroys
    less of it: its log-SNR is lowered by `2 log(image_size / base_size)`.

    Args:
        schedule: a variance-preserving schedule in continuous time, made for
            images of `base_size`.
        image_size: int > 0, pixels.
        base_size: int > 0, pixels.

    Raises:
        ValueError: the schedule is of another kind, or a size not positive.

    Example:

    ```python
    ShiftedSchedule(ContinuousCosineSchedule(), image_size=256)
    ```

    Reference:
        Hoogeboom et al. 2023, "simple diffusion", Eq. 4. Differences: none.
    """

    schedule: VariancePreserving = ContinuousCosineSchedule()
    image_size: int = 64
    base_size: int = 64

    def __post_init__(self):
        is_continuous = isinstance(self.schedule, VariancePreserving) and (
            self.schedule.num_timesteps is None
        )
        if not is_continuous:
            raise ValueError(
                "Only variance-preserving schedules in continuous time can be "
                f"shifted. Received: schedule={self.schedule!r}. Pass "
                "ContinuousCosineSchedule(), SigmoidSchedule() or VPSchedule()."
            )
        if not (self.image_size > 0 and self.base_size > 0):
            raise ValueError(
                "Sizes are positive numbers of pixels. Received: image_size="
                f"{self.image_size}, base_size={self.base_size}. Pass such as "
                "256 and 64."
            )

    def _shift(self):
        return 2 * math.log(self.image_size / self.base_size)

    def log_snr(self, t):
        return self.schedule.log_snr(t) - self._shift()

    def time(self, log_snr):
        return self.schedule.time(log_snr + self._shift())

    def noise_level(self, t):
        return self.schedule.noise_level(t)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class FlowSchedule(Schedule):
    """A straight line from image to noise: rectified flow, flow matching.

    Use it with `FlowPrediction`. At t = 1 there is noise alone, so
    `NoisePrediction` says nothing of the image there.

    Args:
        shift: float > 0. Times move to `shift t / (1 + (shift - 1) t)`: above
            1 there is more noise at every time, for larger images.
        time_scale: float > 0. The network is told `time_scale` times the
            share of the noise.

    Raises:
        ValueError: `shift` or `time_scale` is not positive.

    Example:

    ```python
    FlowSchedule(shift=3.0).sigma(np.array([0.5]))  # 0.75
    ```

    Reference:
        Liu et al. 2022, "Flow Straight and Fast"; Lipman et al. 2023, "Flow
        Matching for Generative Modeling"; Esser et al. 2024, "Scaling
        Rectified Flow Transformers", Eq. 23 for the shift. Differences: none.
    """

    shift: float = 1.0
    time_scale: float = 1000.0

    ends_without_image = True

    def __post_init__(self):
        if not self.shift > 0:
            raise ValueError(
                f"The shift must be positive. Received: shift={self.shift}. 1 "
                "is usual."
            )
        check_time_scale(self.time_scale)

    def alpha(self, t):
        t = ops.convert_to_tensor(t)
        return (1 - t) / (1 + (self.shift - 1) * t)

    def sigma(self, t):
        t = ops.convert_to_tensor(t)
        return self.shift * t / (1 + (self.shift - 1) * t)  # Eq. 23

    def log_snr(self, t):
        t = ops.convert_to_tensor(t)
        return 2 * (ops.log1p(-t) - ops.log(t) - math.log(self.shift))

    def time(self, log_snr):
        log_snr = ops.convert_to_tensor(log_snr)
        return ops.sigmoid(-0.5 * log_snr - math.log(self.shift))

    def noise_level(self, t):
        return self.time_scale * self.sigma(t)
