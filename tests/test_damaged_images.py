"""Image files that are damaged or claim too much are refused by path."""

import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from image_files import encode, exif, make_png, random_pixels
from PIL import Image

from keras_unet_diffusion.data import decode_image

SIZE = 8


def damaged_files():
    picture = Image.fromarray(random_pixels(32, 32, 3))
    png, jpeg = encode(picture, "PNG"), encode(picture, "JPEG")
    in_pixels = png.index(b"IDAT") + 4 + 100
    flipped = bytearray(png)
    flipped[in_pixels] ^= 0xFF
    return {
        "empty.png": b"",
        "text.png": b"This is no image.\n",
        "truncated.png": png[: len(png) // 2],
        "truncated.jpg": jpeg[: len(jpeg) // 2],
        "only_a_header.jpg": jpeg[:20],
        "truncated.gif": encode(picture, "GIF")[:-200],
        "truncated.webp": encode(picture, "WEBP")[:-200],
        "truncated.bmp": encode(picture, "BMP")[:-200],
        "flipped_byte.png": bytes(flipped),
        "no_pixels.png": make_png(0, 4, 8, 2, []),
        "a_tiff.tif": encode(picture, "TIFF"),
        "a_tiff_renamed.png": encode(picture, "TIFF"),
        "an_icon.png": encode(picture, "ICO"),
    }


@pytest.mark.parametrize("name", damaged_files())
def test_a_bad_file_is_refused_by_its_path(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(damaged_files()[name])
    with pytest.raises(ValueError) as refusal:
        decode_image(path, SIZE)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("format", ["PNG", "GIF", "BMP", "WEBP", "JPEG"])
def test_a_file_cut_anywhere_is_refused_unless_its_pixels_are_whole(format):
    data = encode(Image.fromarray(random_pixels(8, 8, 3)), format)
    whole = decode_image(data, SIZE)
    refused = 0
    for length in range(len(data)):
        try:
            decoded = decode_image(data[:length], SIZE)
        except ValueError:
            refused += 1
        else:
            # Only a checksum or the mark of the end was lost.
            np.testing.assert_array_equal(decoded, whole)
    assert refused > len(data) / 2


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damage_to_the_orientation_block_raises_only_value_errors():
    tags = exif(6)
    tags[0x010F] = "maker"
    tags[0x011A] = 1.5
    data = encode(Image.new("RGB", (4, 6)), "JPEG", exif=tags)
    began = data.index(b"Exif")
    for place in range(began, began + 70):
        for value in (0, 1, 2, 13, 26, 255):
            damaged = bytearray(data)
            damaged[place] = value
            try:
                decode_image(bytes(damaged), SIZE)
            except ValueError:
                pass


def test_a_refusal_offers_no_option_that_decoding_lacks():
    with pytest.raises(ValueError, match="Repair or remove it.$"):
        decode_image(b"no image", SIZE)


# Pillow's own warning comes before the refusal.
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_001, 20_000, 100_000, 2**31 - 1])
def test_a_header_that_claims_too_many_pixels_is_refused_at_once(
    side, tmp_path
):
    path = tmp_path / "bomb.png"
    path.write_bytes(make_png(side, side, 8, 2, [b"\0" * 1000]))
    began = time.perf_counter()
    with pytest.raises(ValueError, match="pixels") as refusal:
        decode_image(path, SIZE)
    # Only the header is read, in milliseconds; the rest is a busy machine.
    assert time.perf_counter() - began < 1
    assert str(path) in str(refusal.value)


def test_the_limit_of_pixels_is_the_largest_number_allowed():
    data = encode(Image.new("RGB", (8, 9)), "PNG")
    assert decode_image(data, SIZE, max_pixels=72).shape == (SIZE, SIZE, 3)
    with pytest.raises(ValueError, match="8x9"):
        decode_image(data, SIZE, max_pixels=71)


def test_decoding_in_threads_leaves_the_warning_filters_alone():
    data = encode(Image.fromarray(random_pixels(64, 64, 3)), "PNG")
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: decode_image(data, SIZE), range(500)))
    assert list(warnings.filters) == before
