"""Denoising diffusion implicit models."""

import dataclasses

import keras
from keras import ops

from keras_unet_diffusion.diffusion.schedules import Point
from keras_unet_diffusion.samplers.loop import Sampler, is_number
from keras_unet_diffusion.samplers.thresholding import (
    StaticThresholding,
    Thresholding,
)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class DDIM(Sampler):
    """Steps along the estimated noise; deterministic at eta 0.

    Use it for good images in 20 to 100 steps. One network call a step.

    Args:
        eta: float in [0, 1]. Share of fresh noise: 0 none, 1 as much as
            `DDPM`.
        grid: and the others, see `Sampler`. Images are clipped to [-1, 1]
            unless `thresholding` says otherwise.

    Raises:
        ValueError: `eta` is outside [0, 1].

    Example:

    ```python
    sampler = DDIM(eta=0.0)
    ```

    Reference:
        Song et al. 2021, "Denoising Diffusion Implicit Models", Eqs. 12 and
        16. Differences: none; with compat="diffusers", see `next_point`.
    """

    eta: float = 0.0
    thresholding: Thresholding | None = dataclasses.field(
        default=StaticThresholding(), kw_only=True
    )

    # compat="diffusers": its DDIM clips the image and keeps the noise as
    # predicted (use_clipped_model_output=False).
    keeps_noise = True

    def __post_init__(self):
        super().__post_init__()
        if not is_number(self.eta) or not 0 <= self.eta <= 1:
            raise ValueError(
                "eta is the share of fresh noise. Received: eta="
                f"{self.eta!r}. Pass a number from 0 (deterministic) to 1 (as "
                "random as DDPM)."
            )
        if self.compat == "diffusers" and not self.final_denoising:
            raise ValueError(
                "diffusers' DDIM goes to the clean image. Received: compat="
                "'diffusers' with final_denoising=False. Leave one out."
            )

    @property
    def is_stochastic(self):
        return self.eta > 0

    def step(self, x_t, state, i, path, denoise, draw_noise):
        now, after = path(i), next_point(self, path, i)
        estimate = denoise(x_t, now)
        if not self.is_stochastic:  # Eq. 12
            return after.alpha * estimate.x_0 + after.sigma * estimate.noise, ()
        # Eq. 16, where the variance of the step forwards is 1 - share**2 if
        # the schedule preserves variance.
        share = now.alpha / after.alpha
        beta = ops.square(now.sigma) - ops.square(share * after.sigma)
        fresh = self.eta * (after.sigma / now.sigma)
        fresh = fresh * ops.sqrt(ops.maximum(beta, 0))
        kept = ops.sqrt(
            ops.maximum(ops.square(after.sigma) - ops.square(fresh), 0)
        )
        x = after.alpha * estimate.x_0 + kept * estimate.noise  # Eq. 12
        return x + fresh * draw_noise(), ()


def next_point(sampler, path, i):
    """The point that a step of DDIM goes to.

    It is the next of the grid. With compat="diffusers" it is `T // n` steps
    further, whatever the grid: on linspace and, where n does not divide T, on
    trailing grids that is not where the next step begins.

    Args:
        sampler: the `Sampler`.
        path: the `Path`.
        i: number of the step, int32 scalar.

    Returns:
        A `Point` of scalars.
    """
    num_timesteps = path.schedule.num_timesteps
    if sampler.compat != "diffusers" or num_timesteps is None:
        return path(i + 1)
    now = path(i)
    # diffusers: prev_t = t - T // n, and the clean image below 0.
    stride = ops.cast(num_timesteps // path.total_steps, now.t.dtype)
    t = now.t - stride / num_timesteps
    is_clean = t < 0.5 / num_timesteps
    point = path.schedule.point(ops.maximum(t, path.schedule.min_time))
    return Point(
        *(
            ops.where(is_clean, ops.full_like(value, clean), value)
            for clean, value in zip((0, 1, 0), point, strict=True)
        )
    )
