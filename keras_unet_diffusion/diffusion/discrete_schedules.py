"""Schedules that are a table: the variance of each of T steps."""

import abc
import dataclasses
import functools
import numbers

import keras
import numpy as np
from keras import ops

from keras_unet_diffusion.diffusion.schedules import (
    VariancePreserving,
    check_time_scale,
)

# Times this close to the grid, in steps, are meant to be on it: float32 times
# are off by up to 6e-5 of a thousand steps.
_ON_GRID_STEPS = 1e-3


@dataclasses.dataclass(frozen=True)
class DiscreteSchedule(VariancePreserving):
    """Alpha, sigma and log-SNR on a grid of `num_timesteps + 1` times.

    Abstract: such a schedule is its `betas`. Tables are made in float64 from
    `log1p` and `expm1`, so that `sigma` near t = 0 keeps all its digits (in
    float32, 1 - alpha**2 at the first step is off by 1.7e-4).

    The grid is `i / num_timesteps`; its first point is a clean image and its
    point `i` is step `i - 1` of the papers. Between two points the log-SNR is
    linear in time; there is nothing between the first two.

    Args:
        num_timesteps: int >= 2. Steps from clean image to noise.
        time_scale: float > 0. The network is told step numbers times
            `time_scale / num_timesteps`; None tells the step numbers.

    Raises:
        ValueError: fewer than two steps, no whole number of them, or no
            positive scale.
    """

    num_timesteps: int = 1000
    time_scale: float | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self):
        is_whole = isinstance(self.num_timesteps, numbers.Integral)
        if not is_whole or self.num_timesteps < 2:
            raise ValueError(
                "A schedule needs a whole number of steps, at least two. "
                f"Received: num_timesteps={self.num_timesteps!r}. The "
                "published value is 1000."
            )
        if self.time_scale is not None:
            check_time_scale(self.time_scale)

    @abc.abstractmethod
    def betas(self):
        """Returns the variance of each step, float64 `(num_timesteps,)`."""

    @property
    def min_time(self):
        return 1 / self.num_timesteps

    @property
    def ends_without_image(self):
        return not self.alphas[-1] > 0

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
        # Of a clean image: 0, not -0.
        return np.sqrt(np.abs(np.expm1(self._log_alpha_squared)))

    @functools.cached_property
    def log_snrs(self):
        """Log-SNR at each grid time, float64 numpy array, falling."""
        with np.errstate(divide="ignore"):
            return self._log_alpha_squared - 2 * np.log(self.sigmas)

    def log_snr(self, t):
        position = self._position(t)
        before = ops.floor(position)
        share = position - before
        index = ops.cast(before, "int32")
        table = ops.convert_to_tensor(self.log_snrs, position.dtype)
        left = ops.take(table, index)
        right = ops.take(table, ops.minimum(index + 1, self.num_timesteps))
        # On the grid the neighbour, perhaps infinite, does not count.
        between = left + share * (right - left)
        return ops.where(share > 0, between, left)

    def time(self, log_snr):
        log_snr = ops.convert_to_tensor(log_snr)
        # Rising, without the clean image: as `searchsorted` wants it.
        table = ops.convert_to_tensor(-self.log_snrs[1:], log_snr.dtype)
        bounded = ops.clip(-log_snr, table[0], table[-1])
        right = ops.searchsorted(table, ops.reshape(bounded, (-1,)))
        right = ops.clip(right, 1, self.num_timesteps - 1)
        right = ops.reshape(right, ops.shape(bounded))
        low, high = ops.take(table, right - 1), ops.take(table, right)
        # The last step may be infinitely far, if it is noise alone.
        share = (bounded - low) / (high - low)
        share = ops.where(bounded == high, ops.ones_like(share), share)
        position = ops.cast(right, log_snr.dtype) + share
        return position / self.num_timesteps

    def alpha(self, t):
        return self._look_up(self.alphas, t, super().alpha)

    def sigma(self, t):
        return self._look_up(self.sigmas, t, super().sigma)

    def noise_level(self, t):
        scale = (self.time_scale or self.num_timesteps) / self.num_timesteps
        return (self._position(t) - 1) * scale

    def _look_up(self, table, t, between):
        """The table on its grid, and another function between."""
        position = self._position(t)
        nearest = ops.round(position)
        table = ops.convert_to_tensor(table, position.dtype)
        on_grid = ops.take(table, ops.cast(nearest, "int32"))
        return ops.where(position == nearest, on_grid, between(t))

    def _position(self, t):
        """Times in steps; those all but on the grid are put onto it."""
        t = ops.convert_to_tensor(t)
        position = t * self.num_timesteps
        nearest = ops.round(position)
        is_near = ops.abs(position - nearest) < _ON_GRID_STEPS
        position = ops.where(is_near, nearest, position)
        # Below the first step there is the clean image alone.
        return ops.where(position > 0, ops.maximum(position, 1), position)


def _check_betas(beta_start, beta_end):
    if not 0 < beta_start <= beta_end < 1:
        raise ValueError(
            "The variances of a schedule lie between 0 and 1 and do not fall. "
            f"Received: beta_start={beta_start}, beta_end={beta_end}. The "
            "published values are 1e-4 and 0.02."
        )


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class LinearSchedule(DiscreteSchedule):
    """The variance of the steps grows linearly.

    Use it for published DDPM networks, and at 32x32 pixels and above.

    Args:
        num_timesteps: int >= 2. Steps from clean image to noise.
        beta_start: float in (0, 1). Variance of the first step.
        beta_end: float in [`beta_start`, 1). Variance of the last step.
        scale_betas: bool. Whether both variances are multiplied by
            `1000 / num_timesteps`, so that the noise at the end is about the
            same for any number of steps.
        time_scale: float or None, see `DiscreteSchedule`.

    Raises:
        ValueError: fewer than two steps, or variances outside (0, 1) or
            falling.

    Example:

    ```python
    LinearSchedule().sigma(np.array([0.0, 1.0]))  # 0, almost 1
    ```

    Reference:
        Ho et al. 2020, section 4; `scale_betas` is the choice of OpenAI's
        improved-diffusion. Differences: none.
    """

    beta_start: float = 1e-4
    beta_end: float = 0.02
    scale_betas: bool = False

    def __post_init__(self):
        super().__post_init__()
        _check_betas(*self._ends())

    def _ends(self):
        scale = 1000 / self.num_timesteps if self.scale_betas else 1.0
        return self.beta_start * scale, self.beta_end * scale

    def betas(self):
        return np.linspace(*self._ends(), self.num_timesteps, dtype="float64")


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class ScaledLinearSchedule(DiscreteSchedule):
    """The square root of the steps' variance grows linearly.

    Use it for networks of latent diffusion.

    Args:
        num_timesteps: int >= 2. Steps from clean image to noise.
        beta_start: float in (0, 1). Variance of the first step.
        beta_end: float in [`beta_start`, 1). Variance of the last step.
        time_scale: float or None, see `DiscreteSchedule`.

    Raises:
        ValueError: fewer than two steps, or variances outside (0, 1) or
            falling.

    Example:

    ```python
    ScaledLinearSchedule().betas()[[0, -1]]  # 0.00085 and 0.012
    ```

    Reference:
        Rombach et al. 2022, "High-Resolution Image Synthesis with Latent
        Diffusion Models", and its code. Differences: none.
    """

    beta_start: float = 0.00085
    beta_end: float = 0.012

    def __post_init__(self):
        super().__post_init__()
        _check_betas(self.beta_start, self.beta_end)

    def betas(self):
        roots = np.sqrt([self.beta_start, self.beta_end])
        return np.linspace(*roots, self.num_timesteps, dtype="float64") ** 2


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class SigmoidBetaSchedule(DiscreteSchedule):
    """The variance of the steps grows along a sigmoid.

    Not the schedule of Jabri et al., which is `SigmoidSchedule`: two
    functions share the name. This is "sigmoid" of diffusers.

    Args:
        num_timesteps: int >= 2. Steps from clean image to noise.
        beta_start: float in (0, 1). Variance at the foot of the sigmoid.
        beta_end: float in [`beta_start`, 1). Variance at its head.
        time_scale: float or None, see `DiscreteSchedule`.

    Raises:
        ValueError: fewer than two steps, or variances outside (0, 1) or
            falling.

    Example:

    ```python
    SigmoidBetaSchedule().betas()[500]  # about half of 0.02
    ```

    Reference:
        Xu et al. 2022, "GeoDiff", and its code: sigmoid from -6 to 6.
        Differences: none.
    """

    beta_start: float = 1e-4
    beta_end: float = 0.02

    def __post_init__(self):
        super().__post_init__()
        _check_betas(self.beta_start, self.beta_end)

    def betas(self):
        x = np.linspace(-6, 6, self.num_timesteps, dtype="float64")
        rise = self.beta_end - self.beta_start
        return self.beta_start + rise / (1 + np.exp(-x))


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class CosineSchedule(DiscreteSchedule):
    """The share of the image falls like a squared cosine.

    Use it for small images, which the linear schedule destroys too early.

    Args:
        num_timesteps: int >= 2. Steps from clean image to noise.
        offset: float > 0. Keeps the first step from being too small.
        max_beta: float in (0, 1). Bound of a step's variance, so that alpha
            never reaches 0.
        time_scale: float or None, see `DiscreteSchedule`.

    Raises:
        ValueError: fewer than two steps, or numbers out of range.

    Example:

    ```python
    CosineSchedule().alpha(np.array([0.0, 0.5]))  # 1, about 0.7
    ```

    Reference:
        Nichol and Dhariwal 2021, Eq. 17. Differences: none.
    """

    offset: float = 0.008
    max_beta: float = 0.999

    def __post_init__(self):
        super().__post_init__()
        if not (self.offset > 0 and 0 < self.max_beta < 1):
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
