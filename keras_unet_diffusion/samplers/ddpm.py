"""Ancestral sampling of denoising diffusion probabilistic models."""

import dataclasses

import keras
from keras import ops

from keras_unet_diffusion.samplers.loop import Sampler
from keras_unet_diffusion.samplers.thresholding import (
    StaticThresholding,
    Thresholding,
)

_FIXED = ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log")
_LEARNED = ("learned", "learned_range")
VARIANCES = _FIXED + _LEARNED
# Below it a logarithm of a variance means nothing.
_LEAST_VARIANCE = 1e-20


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class DDPM(Sampler):
    """Draws each earlier image from its posterior given the estimate of x_0.

    Use it for the published behaviour, at 250 to 1,000 steps; with fewer,
    `DDIM` is better. One network call a step.

    Args:
        variance: of a step. "fixed_small": the posterior's, given x_0;
            "fixed_large": that of the step forwards, which suits the published
            CIFAR-10 network; "fixed_small_log" and "fixed_large_log" the same
            by way of their logarithm; "learned": the network predicts the
            logarithm; "learned_range": it predicts where the logarithm lies
            between small (-1) and large (1).
        grid: and the others, see `Sampler`. Images are clipped to [-1, 1]
            unless `thresholding` says otherwise.

    Raises:
        ValueError: there is no variance of that name, or the network predicts
            none where one is to be learned.

    Example:

    ```python
    sampler = DDPM(variance="fixed_large")
    ```

    Reference:
        Ho et al. 2020, Eqs. 6 and 7, algorithm 2; Nichol and Dhariwal 2021,
        Eq. 15 for the learned range and Eq. 19 for steps that skip times.
        Differences: none; `compat` at the lines below. OpenAI's code replaces
        the large variance of the first time by the small one of the second,
        which no sample can show, as the last step adds no noise.
    """

    variance: str = "fixed_small"
    thresholding: Thresholding | None = dataclasses.field(
        default=StaticThresholding(), kw_only=True
    )

    def __post_init__(self):
        super().__post_init__()
        if self.variance not in VARIANCES:
            raise ValueError(
                "There is no such variance. Received: variance="
                f"{self.variance!r}. Pass one of {', '.join(VARIANCES)}."
            )

    @property
    def is_stochastic(self):
        return True

    def step(self, x_t, state, i, path, denoise, draw_noise):
        now, after = path(i), path(i + 1)
        estimate = denoise(x_t, now)
        share = now.alpha / after.alpha
        total = ops.square(now.sigma)
        # Eq. 19 of Nichol and Dhariwal, 1 - share**2, for any schedule:
        # Kingma et al. 2021, Eq. 20.
        beta = total - ops.square(share * after.sigma)
        mean = (  # Eq. 7
            after.alpha * beta * estimate.x_0
            + share * ops.square(after.sigma) * x_t
        ) / total
        small = ops.square(after.sigma) / total * beta  # Eq. 7
        variance = self._variance(small, beta, estimate)
        # Algorithm 2, line 3: the last step adds no noise.
        adds_noise = after.sigma > 0
        if self.compat == "diffusers":
            # diffusers does add it if the last step begins above the first
            # time, as on trailing grids.
            adds_noise = now.t > 1.5 * path.schedule.min_time
        deviation = ops.where(adds_noise, ops.sqrt(variance), 0)
        return mean + deviation * draw_noise(), ()

    def _variance(self, small, large, estimate):
        if self.variance in _LEARNED and estimate.variance is None:
            raise ValueError(
                "The network predicts no variances. Received: variance="
                f"{self.variance!r}. Pass 'fixed_small' or 'fixed_large', or "
                "a network with twice as many output channels."
            )
        if self.variance == "learned":
            if self.compat == "diffusers":
                # diffusers takes what is predicted for the variance itself.
                return estimate.variance
            return ops.exp(estimate.variance)
        if self.variance == "learned_range":
            log_small = ops.log(ops.maximum(small, _LEAST_VARIANCE))
            share = (estimate.variance + 1) / 2  # Eq. 15
            log_large = ops.log(large)
            return ops.exp(log_small + share * (log_large - log_small))
        if self.compat == "diffusers" and self.variance == "fixed_large_log":
            # diffusers takes the logarithm itself for the deviation squared;
            # it is negative, and its samples are not numbers.
            return ops.log(large)
        return large if self.variance.startswith("fixed_large") else small
