"""Denoising diffusion implicit models."""

import dataclasses

import keras
from keras import ops

from keras_unet_diffusion.diffusion.schedules import LinearSchedule, Schedule
from keras_unet_diffusion.samplers.loop import Sampler


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class DDIM(Sampler):
    """Steps along the estimated noise; deterministic at eta 0.

    Use it for good images in 20 to 100 steps. One network call a step.

    Args:
        schedule: the `Schedule` that the network was trained with.
        eta: float in [0, 1]. Share of fresh noise: 0 none, 1 as much as
            `DDPM`.

    Raises:
        ValueError: `eta` is outside [0, 1].

    Example:

    ```python
    sampler = DDIM(process.schedule, eta=0.0)
    ```

    Reference:
        Song et al. 2021, "Denoising Diffusion Implicit Models", Eqs. 12 and
        16. Differences: none.
    """

    schedule: Schedule = LinearSchedule()
    eta: float = 0.0

    def __post_init__(self):
        if not 0 <= self.eta <= 1:
            raise ValueError(
                "eta is the share of fresh noise. Received: eta="
                f"{self.eta}. Pass a number from 0 (deterministic) to 1 (as "
                "random as DDPM)."
            )

    @property
    def is_stochastic(self):
        return self.eta > 0

    def step(self, x_t, t, t_next, denoise, noise):
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        alpha_next = self.schedule.alpha(t_next)
        sigma_next = self.schedule.sigma(t_next)
        x_0, old_noise = denoise(x_t, t)
        if not self.is_stochastic:
            return alpha_next * x_0 + sigma_next * old_noise  # Eq. 12
        # Eq. 16
        fresh = (
            self.eta
            * (sigma_next / sigma)
            * ops.sqrt(1 - ops.square(alpha / alpha_next))
        )
        kept = ops.sqrt(ops.square(sigma_next) - ops.square(fresh))
        return alpha_next * x_0 + kept * old_noise + fresh * noise  # Eq. 12
