"""The abstract step and the one loop that all samplers share."""

import abc

from keras import ops

from keras_unet_diffusion.diffusion.component import Component


class Sampler(Component, abc.ABC):
    """A way from noisier to cleaner images. Abstract: it is its `step`.

    Fields of a subclass: `schedule`, a `Schedule`, and its own options.
    """

    @property
    @abc.abstractmethod
    def is_stochastic(self):
        """Whether `step` uses its `noise`, bool."""

    @abc.abstractmethod
    def step(self, x_t, t, t_next, denoise, noise):
        """Goes from time `t` to the earlier time `t_next`.

        Args:
            x_t: noisy images, `(batch, height, width, channels)`, float32 or
                float64.
            t: time in (0, 1], a scalar of the same dtype.
            t_next: time in [0, t), likewise.
            denoise: function `(x_t, t) -> (x_0, noise)`.
            noise: fresh standard normal noise of the shape of x_t, or None
                if `is_stochastic` is False.

        Returns:
            Images at `t_next`, of the shape of x_t.
        """

    def times(self, i, num_steps, dtype):
        """Time after `i` of `num_steps` steps: 1 at 0, 0 at `num_steps`.

        Evenly spaced, the noisiest step included ("trailing"), each rounded
        to the schedule's grid: Lin et al. 2023, "Common Diffusion Noise
        Schedules and Sample Steps are Flawed", section 3.3.
        """
        grid = self.schedule.num_timesteps
        left = ops.cast(num_steps - i, dtype) / ops.cast(num_steps, dtype)
        return ops.round(grid * left) / grid


def clip_images(denoise, schedule):
    """Bounds the images that a denoiser estimates to [-1, 1].

    The noise is derived anew, so that image and noise still make x_t.

    Args:
        denoise: function `(x_t, t) -> (x_0, noise)`.
        schedule: the `Schedule` by which x_t was made.

    Returns:
        A function of the same kind. Ho et al. 2020, section 3.2 and code.
    """

    def clipped_denoise(x_t, t):
        x_0, _ = denoise(x_t, t)
        x_0 = ops.clip(x_0, -1, 1)
        return x_0, (x_t - schedule.alpha(t) * x_0) / schedule.sigma(t)

    return clipped_denoise


def sample(sampler, denoise, x_1, num_steps, draw_noise=None):
    """Runs a sampler from pure noise to clean images.

    One loop in the graph: traced once, whatever the number of steps.

    Args:
        sampler: a `Sampler`.
        denoise: function `(x_t, t) -> (x_0, noise)`; `t` is a scalar.
        x_1: standard normal noise, `(batch, height, width, channels)`,
            float32 or float64, whose dtype all of the loop keeps.
        num_steps: int >= 1, also as a scalar tensor.
        draw_noise: function of the step's number, from 0, to standard normal
            noise of the shape of x_1. Needed if `sampler.is_stochastic`.

    Returns:
        Images of the shape of x_1.

    Example:

    ```python
    images = sample(DDIM(schedule), denoise, noise, num_steps=50)
    ```
    """
    num_steps = ops.cast(num_steps, "int32")
    dtype = x_1.dtype

    def body(i, x_t):
        t = sampler.times(i, num_steps, dtype)
        t_next = sampler.times(i + 1, num_steps, dtype)
        noise = draw_noise(i) if sampler.is_stochastic else None
        return sampler.step(x_t, t, t_next, denoise, noise)

    return ops.fori_loop(0, num_steps, body, x_1)
