"""Small pictures inside a page: numbers to bytes to data URIs."""

import base64
import io

import numpy as np
from PIL import Image

# How hard pictures are compressed, in turn, until they fit: the largest that
# stays as it is, in bytes, and the WebP quality of the others.
_COMPRESSIONS = ((40_000, 80), (20_000, 60), (8_000, 40), (8_000, 20), (0, 5))
# Share of the values of a channel that are not cut off.
_NOT_CUT = 0.998


def encode_all(pictures, most_bytes):
    """Compresses pictures as little as their sum of bytes allows.

    Args:
        pictures: dict of uint8 arrays `(height, width)` or `(height, width,
            3)`.
        most_bytes: int, of all data URIs together; the strongest compression
            may still exceed it.

    Returns:
        dict of data URIs, str, by the same names.

    Example:

    ```python
    encode_all({"grey": np.zeros((8, 8), "uint8")}, most_bytes=10_000)
    ```
    """
    for most_lossless, quality in _COMPRESSIONS:
        encoded = {
            name: data_uri(pixels, most_lossless, quality)
            for name, pixels in pictures.items()
        }
        if sum(map(len, encoded.values())) <= most_bytes:
            break
    return encoded


def data_uri(pixels, most_lossless=40_000, quality=80):
    """A picture as a data URI of a WebP file.

    Args:
        pixels: uint8 `(height, width)` or `(height, width, 3)`.
        most_lossless: int. Pictures of up to so many bytes are kept exactly.
        quality: int from 0 to 100, of larger ones.

    Returns:
        str.
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(
        buffer,
        "WEBP",
        lossless=pixels.size <= most_lossless,
        quality=quality,
        method=4,
    )
    text = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/webp;base64,{text}"


def feature_sheet(features):
    """All levels of a block's features side by side, as bytes.

    Each level is a grid of its channels, as `grid_shape` says; a vector is
    one tile. Every channel has one scale at all levels: 128 is 0, and 255 what
    998 of 1,000 of its absolute values stay below.

    Args:
        features: see `features.Features`.

    Returns:
        `(sheet, tile)`: a uint8 array, and `(rows, columns, height, width)`
        of a level.
    """
    values = features.values
    if values.ndim == 2:
        values = _as_tile(values)
    levels, height, width, channels = values.shape
    rows, columns = grid_shape(channels)
    tiles = np.full((levels, rows * columns, height, width), 128, dtype="uint8")
    for channel in range(channels):
        tiles[:, channel] = signed_bytes(values[..., channel])
    grids = tiles.reshape(levels, rows, columns, height, width)
    sheet = grids.transpose(1, 3, 0, 2, 4).reshape(rows * height, -1)
    return np.ascontiguousarray(sheet), (rows, columns, height, width)


def grid_shape(count):
    """Rows and columns of a nearly square grid of so many tiles."""
    columns = int(np.ceil(np.sqrt(count)))
    return -(-count // columns), columns


def signed_bytes(values):
    """Numbers around 0 as bytes around 128, by one scale for all."""
    scale = np.quantile(np.abs(values), _NOT_CUT)
    if scale == 0:
        scale = max(np.abs(values).max(), np.finfo("float32").tiny)
    share = np.clip(values / scale, -1, 1)
    return np.round(128 + 127 * share).astype("uint8")


def _as_tile(vectors):
    """Vectors `(levels, numbers)` as images of one channel, row by row."""
    levels, count = vectors.shape
    height, width = grid_shape(count)
    padded = np.zeros((levels, height * width), "float32")
    padded[:, :count] = vectors
    return padded.reshape(levels, height, width, 1)


def picture_bytes(image):
    """An image as it is shown: grey or colours, clipped to [-1, 1].

    Args:
        image: `(height, width, channels)`. Of other numbers of channels than
            1 and 3, such as those of latent images, the first three are
            shown, or the first.

    Returns:
        uint8 `(height, width)` or `(height, width, 3)`.
    """
    channels = 3 if image.shape[-1] >= 3 else 1
    pixels = np.round(127.5 + 127.5 * np.clip(image[..., :channels], -1, 1))
    pixels = pixels.astype("uint8")
    return pixels if channels == 3 else pixels[..., 0]
