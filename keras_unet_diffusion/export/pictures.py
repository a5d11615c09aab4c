"""The same images by every artifact, one row for each, as a picture."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_unet_diffusion.files import written_whole

_GAP = 4
_TEXT_PIXELS = 14
# Small images are enlarged to about this.
_LEAST_PIXELS = 64
_LEAST_WIDTH = 420


def write_samples(path, rows):
    """Writes rows of images with a caption above each, as a PNG file.

    Args:
        path: of the file; it appears whole or not at all.
        rows: dict of images, floats `(batch, height, width, channels)` with
            1 or 3 channels that are clipped to [-1, 1], by caption.
    """
    images = next(iter(rows.values()))
    count, height, width, _ = images.shape
    scale = max(1, _LEAST_PIXELS // height)
    size = width * scale, height * scale
    row_height = _TEXT_PIXELS + size[1] + 3 * _GAP
    picture = Image.new(
        "RGB",
        (
            max(_LEAST_WIDTH, count * (size[0] + _GAP) + _GAP),
            len(rows) * row_height + _GAP,
        ),
        "white",
    )
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(_TEXT_PIXELS - 2)
    for k, (caption, images) in enumerate(rows.items()):
        top = k * row_height + _GAP
        draw.text((_GAP, top), caption, "black", font)
        for j, pixels in enumerate(_pixels(images)):
            image = Image.fromarray(pixels).resize(
                size, Image.Resampling.NEAREST
            )
            left = _GAP + j * (size[0] + _GAP)
            picture.paste(image, (left, top + _TEXT_PIXELS + _GAP))
    with written_whole(path) as temporary:
        picture.save(temporary, format="PNG")


def _pixels(images):
    """Bytes `(batch, height, width, 3)` of images in [-1, 1]."""
    pixels = np.round((np.clip(images, -1, 1) + 1) * 127.5).astype("uint8")
    # What other channels there are would have no color.
    channels = pixels[..., :1] if pixels.shape[-1] != 3 else pixels
    return np.broadcast_to(channels, (*pixels.shape[:-1], 3)).copy()
