"""Euler's method on the probability flow, with and without fresh noise."""

import dataclasses

import keras
from keras import ops

from keras_unet_diffusion.samplers.grids import LeadingGrid
from keras_unet_diffusion.samplers.loop import Sampler, is_number


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class Euler(Sampler):
    """Euler's method in the noise per image, sigma / alpha.

    The same as `DDIM` without noise, up to rounding; here to be checked
    against it, and for what other libraries call Euler. One network call a
    step.

    Args:
        grid: and the others, see `Sampler`.

    Example:

    ```python
    sampler = Euler(grid=KarrasGrid())
    ```

    Reference:
        Karras et al. 2022, Eq. 4 and algorithm 1 without its second order.
        Differences: none.
    """

    interpolates_ratio = True
    needs_image_share = True

    @property
    def is_stochastic(self):
        return False

    def initial(self, noise, path):
        return initial_by_ratio(self, super().initial(noise, path), path)

    def step(self, x_t, state, i, path, denoise, draw_noise):
        now, after = path(i), path(i + 1)
        slope = denoise(x_t, now).noise  # d(x / alpha) / d(sigma / alpha)
        scaled = x_t / now.alpha
        scaled = scaled + (after.noise_ratio - now.noise_ratio) * slope
        return after.alpha * scaled, ()


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class EulerAncestral(Sampler):
    """Euler steps that go too far down, and noise that brings them back up.

    One network call a step.

    Args:
        eta: float in [0, 1]. Share of fresh noise: 0 is `Euler`.
        noise_scale: float > 0. Multiplies the fresh noise.
        grid: and the others, see `Sampler`.

    Raises:
        ValueError: an argument is out of range.

    Example:

    ```python
    sampler = EulerAncestral(grid=KarrasGrid())
    ```

    Reference:
        k-diffusion's sample_euler_ancestral, by Katherine Crowson; at eta 1
        the variances of Ho et al. 2020, Eq. 7, in sigma / alpha. Differences:
        none.
    """

    eta: float = 1.0
    noise_scale: float = 1.0

    interpolates_ratio = True
    needs_image_share = True

    def __post_init__(self):
        super().__post_init__()
        is_share = is_number(self.eta) and 0 <= self.eta <= 1
        if not is_share or not self.noise_scale > 0:
            raise ValueError(
                "eta lies in [0, 1] and noise_scale is positive. Received: "
                f"eta={self.eta!r}, noise_scale={self.noise_scale!r}. 1 and 1 "
                "are usual."
            )

    @property
    def is_stochastic(self):
        return self.eta > 0

    def initial(self, noise, path):
        return initial_by_ratio(self, super().initial(noise, path), path)

    def step(self, x_t, state, i, path, denoise, draw_noise):
        now, after = path(i), path(i + 1)
        ratio, target = now.noise_ratio, after.noise_ratio
        variance_kept = 1 - ops.square(target / ratio)
        fresh = self.eta * target * ops.sqrt(variance_kept)
        down = ops.sqrt(ops.square(target) - ops.square(fresh))
        scaled = x_t / now.alpha + (down - ratio) * denoise(x_t, now).noise
        if self.is_stochastic:
            scaled = scaled + self.noise_scale * fresh * draw_noise()
        return after.alpha * scaled, ()


def initial_by_ratio(sampler, x_t, path):
    """Noise scaled as diffusers' Euler, Heun and LMS begin.

    On grids that begin at the last step they take x_t = sigma noise, for the
    unit noise of others (init_noise_sigma is the largest sigma / alpha, not
    the deviation of x_t / alpha).

    Args:
        sampler: the `Sampler`.
        x_t: what is otherwise begun with.
        path: the `Path`.

    Returns:
        Noisy images of the shape of `x_t`.
    """
    is_leading = isinstance(sampler.used_grid, LeadingGrid)
    if sampler.compat != "diffusers" or is_leading:
        return x_t
    return x_t * path(ops.cast(0, "int32")).sigma
