"""Image sources to `tf.data`, and pixels to files.

The only place where bytes become numbers in [-1, 1] and back.
"""

from keras_unet_diffusion.data.dataset import decode_source, image_dataset
from keras_unet_diffusion.data.decoding import decode_image
from keras_unet_diffusion.data.pixels import (
    image_grid,
    save_grid,
    save_images,
    to_model_range,
    to_uint8,
)
from keras_unet_diffusion.data.sources import open_source

__all__ = [
    "decode_image",
    "decode_source",
    "image_dataset",
    "image_grid",
    "open_source",
    "save_grid",
    "save_images",
    "to_model_range",
    "to_uint8",
]
