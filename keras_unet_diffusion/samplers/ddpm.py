"""Ancestral sampling of denoising diffusion probabilistic models."""

import dataclasses

import keras
from keras import ops

from keras_unet_diffusion.diffusion.schedules import LinearSchedule, Schedule
from keras_unet_diffusion.samplers.loop import Sampler


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class DDPM(Sampler):
    """Draws each earlier image from its posterior given the estimate of x_0.

    Use it for the published behaviour, at 250 to 1,000 steps; with fewer,
    `DDIM` is better. One network call a step.

    Args:
        schedule: the `Schedule` that the network was trained with.

    Example:

    ```python
    sampler = DDPM(process.schedule)
    ```

    Reference:
        Ho et al. 2020, Eqs. 6 and 7, algorithm 2, with the posterior's own
        variance ("fixed small"). Differences: steps may skip grid times,
        where beta becomes the variance of the longer step, as in Nichol and
        Dhariwal 2021, Eq. 19.
    """

    schedule: Schedule = LinearSchedule()

    @property
    def is_stochastic(self):
        return True

    def step(self, x_t, t, t_next, denoise, noise):
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        alpha_next = self.schedule.alpha(t_next)
        sigma_next = self.schedule.sigma(t_next)
        x_0, _ = denoise(x_t, t)
        alpha_step = alpha / alpha_next
        beta = 1 - ops.square(alpha_step)  # Eq. 19 of Nichol and Dhariwal
        variance = ops.square(sigma)
        mean = (  # Eq. 7
            alpha_next * beta * x_0 + alpha_step * ops.square(sigma_next) * x_t
        ) / variance
        posterior_variance = ops.square(sigma_next) / variance * beta  # Eq. 7
        return mean + ops.sqrt(posterior_variance) * noise
