"""From an image file of any kind to the pixels of one size."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
MAX_PIXELS = 100_000_000


def decode_image(source, image_size, image_channels=3, max_pixels=MAX_PIXELS):
    """Decodes an image, crops its centre square, and resizes it.

    The orientation that a camera noted (EXIF) is applied, CMYK and palettes
    become RGB, transparent parts become white, 16 bits become 8, and of an
    animation the first frame is taken. Resizing is bicubic with
    antialiasing; an image of the right size keeps its pixels.

    Args:
        source: path of a JPEG, PNG, WebP, BMP or GIF file, or its bytes.
        image_size: int >= 1. Height and width in pixels.
        image_channels: 1 for grey, 3 for RGB.
        max_pixels: int. An image whose header claims more is refused before
            it is decoded.

    Returns:
        uint8 numpy array `(image_size, image_size, image_channels)`.

    Raises:
        ValueError: the image is empty, truncated, corrupt, too large or of
            another format; the message names the path where there is one.

    Example:

    ```python
    pixels = decode_image("cat.jpg", image_size=64)
    ```
    """
    is_path = isinstance(source, str | Path)
    where = f"{source}" if is_path else "image bytes"
    data = Path(source).read_bytes() if is_path else source
    if not data:
        raise ValueError(f"The image file is empty. Received: {where}.")
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        if picture.width * picture.height > max_pixels:
            raise _TooLarge(
                f"{picture.width}x{picture.height} pixels, the limit is "
                f"{max_pixels:,}"
            )
        picture.load()
        picture = _to_mode(picture, "L" if image_channels == 1 else "RGB")
    except (_TooLarge, Image.DecompressionBombError) as error:
        raise ValueError(
            "The image claims more pixels than are allowed. Received: "
            f"{where} ({error}). Make it smaller, or leave it out."
        ) from None
    # Pillow lets exceptions of any kind out, TypeError and struct.error of a
    # damaged EXIF block among them.
    except Exception as error:
        raise ValueError(
            "The image cannot be read: it is damaged, or not a JPEG, PNG, "
            f"WebP, BMP or GIF file. Received: {where}{_reason(error)}. "
            "Repair or remove it."
        ) from None
    return fit_image(picture, image_size)


def _reason(error):
    """What Pillow says, unless it only names the buffer that it was given."""
    is_unknown = isinstance(error, UnidentifiedImageError)
    return "" if is_unknown else f" ({error})"


class _TooLarge(Exception):
    """An image whose header claims more pixels than allowed."""


def _to_mode(picture, mode):
    """Converts any mode to "L" or "RGB" without losing what it shows."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):
        # 16 bits: Pillow's own conversion would clip at 255, not scale.
        deep = np.asarray(picture, "float64")
        pixels = np.round(deep / 257).astype("uint8")
        pixels[deep == picture.info.get("transparency")] = 255
        picture = Image.fromarray(pixels)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    if picture.mode != mode:
        picture = picture.convert("RGB").convert(mode)
    return picture


def fit_image(picture, image_size):
    """Crops the centre square of a picture and resizes it.

    Args:
        picture: a `PIL.Image.Image` in mode "L" or "RGB".
        image_size: int >= 1, in pixels.

    Returns:
        uint8 numpy array `(image_size, image_size, 1 or 3)`.
    """
    if picture.size != (image_size, image_size):
        picture = ImageOps.fit(
            picture, (image_size, image_size), Image.Resampling.BICUBIC
        )
    pixels = np.asarray(picture)
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
