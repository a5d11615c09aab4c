"""Inpainting with a network that was never trained for it."""

import dataclasses
from typing import Any

from keras import ops

from keras_unet_diffusion.samplers.loop import Sampler

# Noises of one resampling: the sampler's own come first.
_SAMPLER_DRAWS = 2
_DRAWS = _SAMPLER_DRAWS + 2


@dataclasses.dataclass(frozen=True)
class RePaint:
    """Another sampler, held to the known part of images at every step.

    Each step is taken `num_resamples` times, with noise added back between,
    so that the new part comes to fit the known one. `DiffusionModel.inpaint`
    is the usual way to it.

    Args:
        sampler: the `Sampler` whose steps are taken.
        images: clean images, `(batch, height, width, channels)`.
        mask: 1 where images are known, 0 where they are to be made; shape
            that broadcasts to the images'.
        num_resamples: int >= 1. Network calls per step, of a sampler that
            needs one.

    Reference:
        Lugmayr et al. 2022, "RePaint", algorithm 1. Differences: any sampler
        takes the steps; a jump is one step long.
    """

    sampler: Sampler
    images: Any
    mask: Any
    num_resamples: int = 10

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.sampler, name)

    @property
    def is_stochastic(self):
        return True

    def step(self, x_t, state, i, path, denoise, draw_noise):
        now, after = path(i), path(i + 1)
        is_last = ops.equal(i + 1, path.num_steps)
        for resample in range(self.num_resamples):
            draw = _DRAWS * resample

            def sampler_noise(k=0, draw=draw):
                return draw_noise(draw + k)

            made, new_state = self.sampler.step(
                x_t, state, i, path, denoise, sampler_noise
            )
            known = after.alpha * self.images + after.sigma * draw_noise(
                draw + _SAMPLER_DRAWS
            )
            x_next = self.mask * known + (1 - self.mask) * made  # line 7
            if resample + 1 < self.num_resamples:
                x_t = ops.where(
                    is_last,
                    x_t,
                    add_noise(
                        x_next, after, now, draw_noise(draw + _DRAWS - 1)
                    ),
                )
        return x_next, new_state


def add_noise(x, point, noisier, noise):
    """Takes noisy images to a noisier point by fresh noise.

    Args:
        x: noisy images at `point`, `(batch, height, width, channels)`.
        point: a `Point` of scalars.
        noisier: a `Point` with more noise per image.
        noise: standard normal noise of the shape of x.

    Returns:
        Images at `noisier`. Kingma et al. 2021, Eq. 20: alpha_t|s, sigma_t|s.
    """
    share = noisier.alpha / point.alpha
    variance = ops.square(noisier.sigma) - ops.square(share * point.sigma)
    return share * x + ops.sqrt(ops.maximum(variance, 0)) * noise
