"""Ways back from noise: one abstract step, one loop, a file per family.

All that a sampler knows about a network is `denoise(x_t, t) -> (x_0, noise)`;
all that distinguishes samplers is `step`.
"""

from keras_unet_diffusion.samplers.ddim import DDIM
from keras_unet_diffusion.samplers.ddpm import DDPM
from keras_unet_diffusion.samplers.loop import Sampler, clip_images, sample

__all__ = ["DDIM", "DDPM", "Sampler", "clip_images", "sample"]
