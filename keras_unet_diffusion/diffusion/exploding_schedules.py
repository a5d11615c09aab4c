"""Schedules that add noise to an unchanged image."""

import dataclasses
import math

import keras
from keras import ops

from keras_unet_diffusion.diffusion.schedules import (
    Schedule,
    check_order,
    unless_clean,
)


class _Exploding(Schedule):
    """Noise is added to an unchanged image, up to `sigma_max`. Abstract."""

    def alpha(self, t):
        return ops.ones_like(ops.convert_to_tensor(t))

    def log_snr(self, t):
        return -2 * ops.log(self.sigma(t))


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class EDMSchedule(_Exploding):
    """Noise of any deviation sigma on an unchanged image: `x_0 + sigma noise`.

    Use it with `EDMPrediction` and `LogNormalTimes`. Time is only a name for
    sigma here: `t = sigma / (1 + sigma)`, which also names the levels beyond
    both ends that training draws now and then.

    Args:
        sigma_min: float > 0. The last noise level of sampling.
        sigma_max: float > `sigma_min`. The first.

    Raises:
        ValueError: the levels do not rise from above 0.

    Example:

    ```python
    EDMSchedule().sigma(np.array([0.5]))  # 1
    ```

    Reference:
        Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based
        Generative Models", table 1, last column. Differences: none.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    is_bounded = False

    def __post_init__(self):
        check_order(sigma_min=self.sigma_min, sigma_max=self.sigma_max)

    @property
    def min_time(self):
        return self.sigma_min / (1 + self.sigma_min)

    @property
    def max_time(self):
        return self.sigma_max / (1 + self.sigma_max)

    def sigma(self, t):
        t = ops.convert_to_tensor(t)
        return t / (1 - t)

    def time(self, log_snr):
        return ops.sigmoid(-0.5 * ops.convert_to_tensor(log_snr))

    def noise_level(self, t):
        return ops.log(self.sigma(t)) / 4  # table 1


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class VESchedule(_Exploding):
    """Noise whose deviation grows geometrically: the "VE" process.

    Use it with `ScorePrediction` for networks of the score-based SDE family.

    Args:
        sigma_min: float > 0. The smallest noise level.
        sigma_max: float > `sigma_min`. The largest.

    Raises:
        ValueError: the levels do not rise from above 0.

    Example:

    ```python
    VESchedule().sigma(np.array([1.0]))  # 100
    ```

    Reference:
        Song et al. 2021, section 3.4 and appendix C, with the range of Karras
        et al. 2022, table 1. Differences: `sigma_min` is reached at t = 0.001,
        so that t = 0 is the clean image.
    """

    sigma_min: float = 0.02
    sigma_max: float = 100.0

    def __post_init__(self):
        check_order(sigma_min=self.sigma_min, sigma_max=self.sigma_max)

    def _rate(self):
        return math.log(self.sigma_max / self.sigma_min) / (1 - self.min_time)

    def sigma(self, t):
        t = ops.convert_to_tensor(t)
        sigma = self.sigma_max * ops.exp((t - 1) * self._rate())
        return unless_clean(t, sigma, 0.0)

    def time(self, log_snr):
        log_sigma = -0.5 * ops.convert_to_tensor(log_snr)
        return 1 + (log_sigma - math.log(self.sigma_max)) / self._rate()

    def noise_level(self, t):
        return ops.log(0.5 * self.sigma(t))  # Karras et al. 2022, table 1
