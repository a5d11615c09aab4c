"""Noise schedules: how much image and how much noise at a time t."""

import abc
import dataclasses
import functools

import keras
import numpy as np
from keras import ops

from keras_unet_diffusion.diffusion.component import Component


class Schedule(Component, abc.ABC):
    """Alpha, sigma and log-SNR on a grid of `num_timesteps + 1` times.

    Abstract: a schedule is its `betas`. Tables are made in float64 from
    `log1p` and `expm1`, so that `sigma` near t = 0 keeps all its digits (in
    float32, 1 - alpha**2 at the first step is off by 1.7e-4).

    Times lie in [0, 1] and are rounded to the grid `i / num_timesteps`, whose
    first point is a clean image and whose point `i` is step `i - 1` of the
    papers.
    """

    @abc.abstractmethod
    def betas(self):
        """Returns the variance of each step, float64 `(num_timesteps,)`."""

    @functools.cached_property
    def _log_alpha_squared(self):
        # Ho et al. 2020, below Eq. 3: alpha_bar_t = prod(1 - beta).
        return np.concatenate([[0.0], np.cumsum(np.log1p(-self.betas()))])

    @functools.cached_property
    def alphas(self):
        """Share of the image at each grid time, float64 numpy array."""
        return np.exp(0.5 * self._log_alpha_squared)

    @functools.cached_property
    def sigmas(self):
        """Share of the noise at each grid time, float64 numpy array."""
        return np.sqrt(-np.expm1(self._log_alpha_squared))

    def alpha(self, t):
        """Share of the image in x_t.

        Args:
            t: times in [0, 1], float32 or float64, of any shape.

        Returns:
            Numbers in (0, 1] of the shape and dtype of `t`.
        """
        return self._look_up(self.alphas, t)

    def sigma(self, t):
        """Share of the noise in x_t.

        Args:
            t: times in [0, 1], float32 or float64, of any shape.

        Returns:
            Numbers in [0, 1) of the shape and dtype of `t`.
        """
        return self._look_up(self.sigmas, t)

    def log_snr(self, t):
        """Log of the signal-to-noise ratio; infinite at t = 0.

        Args:
            t: times in [0, 1], float32 or float64, of any shape.

        Returns:
            Numbers of the shape and dtype of `t`.
        """
        with np.errstate(divide="ignore"):
            table = 2 * (np.log(self.alphas) - np.log(self.sigmas))
        return self._look_up(table, t)

    def _look_up(self, table, t):
        t = ops.convert_to_tensor(t)
        index = ops.cast(ops.round(t * self.num_timesteps), "int32")
        return ops.take(ops.convert_to_tensor(table, t.dtype), index)


def _check_num_timesteps(num_timesteps):
    if num_timesteps < 2:
        raise ValueError(
            "A schedule needs at least two steps. Received: num_timesteps="
            f"{num_timesteps}. The published value is 1000."
        )


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class LinearSchedule(Schedule):
    """The variance of the steps grows linearly.

    Use it for published DDPM networks, and at 32x32 pixels and above.

    Args:
        num_timesteps: int >= 2. Steps from clean image to noise.
        beta_start: float in (0, 1). Variance of the first step.
        beta_end: float in (0, 1). Variance of the last step.

    Raises:
        ValueError: fewer than two steps, or variances outside (0, 1).

    Example:

    ```python
    LinearSchedule().sigma(np.array([0.0, 1.0]))  # 0, almost 1
    ```

    Reference:
        Ho et al. 2020, section 4. Differences: none.
    """

    num_timesteps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02

    def __post_init__(self):
        _check_num_timesteps(self.num_timesteps)
        if not (0 < self.beta_start < 1 and 0 < self.beta_end < 1):
            raise ValueError(
                "The variances of a schedule lie between 0 and 1. Received: "
                f"beta_start={self.beta_start}, beta_end={self.beta_end}. The "
                "published values are 1e-4 and 0.02."
            )

    def betas(self):
        return np.linspace(
            self.beta_start, self.beta_end, self.num_timesteps, dtype="float64"
        )


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class CosineSchedule(Schedule):
    """The share of the image falls like a squared cosine.

    Use it for small images, which the linear schedule destroys too early.

    Args:
        num_timesteps: int >= 2. Steps from clean image to noise.
        offset: float > 0. Keeps the first step from being too small.
        max_beta: float in (0, 1). Bound of a step's variance, so that alpha
            never reaches 0.

    Raises:
        ValueError: fewer than two steps, or numbers out of range.

    Example:

    ```python
    CosineSchedule().alpha(np.array([0.0, 0.5]))  # 1, about 0.7
    ```

    Reference:
        Nichol and Dhariwal 2021, Eq. 17. Differences: none.
    """

    num_timesteps: int = 1000
    offset: float = 0.008
    max_beta: float = 0.999

    def __post_init__(self):
        _check_num_timesteps(self.num_timesteps)
        if self.offset <= 0 or not 0 < self.max_beta < 1:
            raise ValueError(
                "offset must be positive and max_beta between 0 and 1. "
                f"Received: offset={self.offset}, max_beta={self.max_beta}. "
                "The published values are 0.008 and 0.999."
            )

    def betas(self):
        t = np.linspace(0, 1, self.num_timesteps + 1, dtype="float64")
        angle = (t + self.offset) / (1 + self.offset) * np.pi / 2  # Eq. 17
        alpha_squared = np.cos(angle) ** 2
        betas = 1 - alpha_squared[1:] / alpha_squared[:-1]
        return np.minimum(betas, self.max_beta)
