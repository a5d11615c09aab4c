"""Pixels: bytes to numbers in [-1, 1] and back, grids, PNG files."""

import math
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_unet_diffusion.files import written_whole


def to_model_range(images):
    """Turns bytes into the numbers that networks see.

    Args:
        images: uint8 tensor or array of any shape, 0 to 255.

    Returns:
        float32 tensor of the same shape, -1 to 1.
    """
    return tf.cast(images, tf.float32) / 127.5 - 1.0


def to_uint8(images):
    """Turns the numbers that networks see into bytes.

    Args:
        images: float array of any shape; what lies outside [-1, 1] is
            clipped.

    Returns:
        uint8 numpy array of the same shape, 0 to 255, rounded to nearest.

    Raises:
        ValueError: there are NaNs.
    """
    images = np.asarray(images, "float32")
    if np.isnan(images).any():
        raise ValueError(
            "Images must be numbers. Received: "
            f"{int(np.isnan(images).sum())} NaN pixels. The network that made "
            "them has diverged: use an earlier checkpoint or a lower learning "
            "rate."
        )
    return np.round((np.clip(images, -1, 1) + 1) * 127.5).astype("uint8")


def image_grid(images, num_columns=None):
    """Lays images out in one picture.

    Args:
        images: floats in [-1, 1], `(batch, height, width, channels)`.
        num_columns: int >= 1; None for a square grid.

    Returns:
        uint8 numpy array `(rows * (height + 2) + 2, columns * (width + 2) +
        2, channels)`, with gaps of 2 pixels.
    """
    images = to_uint8(images)
    count, height, width, channels = images.shape
    num_columns = num_columns or math.ceil(math.sqrt(count))
    num_rows = math.ceil(count / num_columns)
    gap = 2
    grid = np.full(
        (
            num_rows * (height + gap) + gap,
            num_columns * (width + gap) + gap,
            channels,
        ),
        96,
        "uint8",
    )
    for i, image in enumerate(images):
        top = i // num_columns * (height + gap) + gap
        left = i % num_columns * (width + gap) + gap
        grid[top : top + height, left : left + width] = image
    return grid


def save_png(path, image, scale=1):
    """Writes one picture; a file of that name is replaced whole or not.

    Args:
        path: of the PNG file.
        image: uint8 `(height, width, channels)`, 1 or 3 channels.
        scale: int >= 1. Each pixel becomes a square of `scale` pixels.
    """
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    size = (picture.width * scale, picture.height * scale)
    picture = picture.resize(size, Image.Resampling.NEAREST)
    with written_whole(path) as temporary:
        picture.save(temporary, format="PNG")


def save_grid(path, images, num_columns=None, scale=1):
    """Writes images as one PNG picture.

    Args:
        path: of the PNG file.
        images: floats in [-1, 1], `(batch, height, width, channels)`.
        num_columns: int >= 1; None for a square grid.
        scale: int >= 1. Each pixel becomes a square of `scale` pixels.

    Example:

    ```python
    save_grid("samples.png", model.generate(16), scale=4)
    ```
    """
    save_png(path, image_grid(images, num_columns), scale)


def save_images(folder, images):
    """Writes each image as `image_<k>.png`.

    Args:
        folder: made if it does not exist.
        images: floats in [-1, 1], `(batch, height, width, channels)`.

    Returns:
        List of the paths.
    """
    paths = [Path(folder) / f"image_{k:05d}.png" for k in range(len(images))]
    for path, image in zip(paths, to_uint8(images), strict=True):
        save_png(path, image)
    return paths
