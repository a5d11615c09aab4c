"""Image files of every kind give the right pixels."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from image_files import (
    distance,
    encode,
    exif,
    make_png,
    png_chunk,
    random_pixels,
)
from PIL import Image

from keras_unet_diffusion.data import decode_image

SIZE = 8


def over_white(color, alpha):
    """Porter and Duff's "over" with a white background."""
    share = alpha.astype("float64") / 255
    return share * color + (1 - share) * 255


@pytest.mark.parametrize(
    "format, options",
    [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_of_the_right_size_keeps_its_pixels(format, options, channels):
    pixels = random_pixels(SIZE, SIZE, channels)
    picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    decoded = decode_image(encode(picture, format, **options), SIZE, channels)
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, pixels)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_has_the_pixels_that_tensorflow_decodes(progressive):
    picture = Image.fromarray(random_pixels(16, 16, 3))
    data = encode(picture, "JPEG", quality=90, progressive=progressive)
    expected = tf.io.decode_jpeg(data, dct_method="INTEGER_ACCURATE").numpy()
    # Two builds of libjpeg may round a pixel up or down.
    assert distance(decode_image(data, 16), expected) <= 2


def test_a_path_and_its_bytes_give_the_same_pixels(tmp_path):
    data = encode(Image.fromarray(random_pixels(11, 17, 3)), "PNG")
    path = tmp_path / "image.png"
    path.write_bytes(data)
    expected = decode_image(data, SIZE)
    np.testing.assert_array_equal(decode_image(path, SIZE), expected)
    np.testing.assert_array_equal(decode_image(str(path), SIZE), expected)


@pytest.mark.parametrize(
    "cmyk",
    [
        (0, 0, 0, 0),
        (255, 0, 0, 0),
        (0, 255, 0, 0),
        (0, 0, 255, 0),
        (0, 0, 0, 255),
        (128, 64, 0, 51),
    ],
)
def test_a_cmyk_jpeg_becomes_rgb(cmyk):
    data = encode(Image.new("CMYK", (SIZE, SIZE), cmyk), "JPEG", quality=100)
    cyan, magenta, yellow, black = (ink / 255 for ink in cmyk)
    expected = np.empty((SIZE, SIZE, 3))
    expected[:] = [
        255 * (1 - ink) * (1 - black) for ink in (cyan, magenta, yellow)
    ]
    # One step of quantisation at quality 100, and one of rounding.
    assert distance(decode_image(data, SIZE), expected) <= 2


def test_sixteen_bit_grey_is_scaled_and_rounded_not_clipped():
    deep = np.arange(65536, dtype="uint16").reshape(256, 256)
    decoded = decode_image(encode(Image.fromarray(deep), "PNG"), 256, 1)
    # 65535 / 255 = 257: nearest whole number in integer arithmetic.
    nearest = (deep.astype("int64") + 128) // 257
    np.testing.assert_array_equal(decoded[..., 0], nearest)


def test_the_transparent_value_of_sixteen_bit_grey_becomes_white():
    deep = np.array([[0, 257], [1000 * 257 // 10, 25700]], ">u2")
    data = make_png(
        2,
        2,
        16,
        0,
        [row.tobytes() for row in deep],
        png_chunk(b"tRNS", struct.pack(">H", 257)),
    )
    np.testing.assert_array_equal(
        decode_image(data, 2, 1)[..., 0], [[0, 255], [100, 100]]
    )


def test_sixteen_bit_rgb_is_within_one_of_the_scaled_value():
    random = np.random.default_rng(0)
    deep = random.integers(0, 65536, (SIZE, SIZE, 3)).astype(">u2")
    data = make_png(SIZE, SIZE, 16, 2, [row.tobytes() for row in deep])
    # Pillow keeps the upper byte, which is less than 1 from v / 257.
    assert distance(decode_image(data, SIZE), deep / 257) < 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bit_grey_spans_black_to_white(bits, channels):
    rows = [bytes([0b00011011] * bits), bytes([0b11100100] * bits)] * 4
    data = make_png(8, 8, bits, 0, rows)
    # Unpack each row bit by bit.
    digits = [f"{int.from_bytes(row, 'big'):0{8 * bits}b}" for row in rows]
    levels = np.array(
        [
            [int(row[i * bits : (i + 1) * bits], 2) for i in range(8)]
            for row in digits
        ]
    )
    expected = np.repeat(levels[..., None], channels, -1) * (
        255 // (2**bits - 1)
    )
    np.testing.assert_array_equal(decode_image(data, 8, channels), expected)


@pytest.mark.parametrize("format", ["PNG", "GIF", "BMP"])
def test_a_palette_becomes_its_colors(format):
    palette = random_pixels(16, 3)
    indices = random_pixels(SIZE, SIZE) % 16
    picture = Image.fromarray(indices, "L").convert("P")
    picture.putpalette(palette.tobytes())
    picture.putdata(indices.ravel())
    decoded = decode_image(encode(picture, format), SIZE)
    np.testing.assert_array_equal(decoded, palette[indices])


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_the_transparent_entry_of_a_palette_becomes_white(format):
    palette = random_pixels(16, 3)
    indices = random_pixels(SIZE, SIZE) % 16
    picture = Image.new("P", (SIZE, SIZE))
    picture.putpalette(palette.tobytes())
    picture.putdata(indices.ravel())
    decoded = decode_image(encode(picture, format, transparency=3), SIZE)
    expected = palette[indices]
    expected[indices == 3] = 255
    assert (indices == 3).any()
    np.testing.assert_array_equal(decoded, expected)


def test_half_transparent_palette_entries_are_laid_over_white():
    palette, alpha = random_pixels(16, 3), random_pixels(16, seed=1)
    indices = random_pixels(SIZE, SIZE) % 16
    picture = Image.new("P", (SIZE, SIZE))
    picture.putpalette(palette.tobytes())
    picture.putdata(indices.ravel())
    data = encode(picture, "PNG", transparency=alpha.tobytes())
    expected = over_white(palette[indices], alpha[indices][..., None])
    # Pillow composes in whole numbers.
    assert distance(decode_image(data, SIZE), expected) <= 1


def test_the_transparent_color_of_an_rgb_png_becomes_white():
    pixels = random_pixels(SIZE, SIZE, 3)
    data = encode(
        Image.fromarray(pixels),
        "PNG",
        transparency=tuple(map(int, pixels[2, 5])),
    )
    expected = pixels.copy()
    expected[2, 5] = 255
    np.testing.assert_array_equal(decode_image(data, SIZE), expected)


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_rgba_is_laid_over_white(format):
    pixels = random_pixels(SIZE, SIZE, 4)
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    data = encode(Image.fromarray(pixels), format, **options)
    expected = over_white(pixels[..., :3], pixels[..., 3:])
    # Pillow composes in whole numbers.
    assert distance(decode_image(data, SIZE), expected) <= 1


def test_grey_with_alpha_is_laid_over_white():
    pixels = random_pixels(SIZE, SIZE, 2)
    data = encode(Image.fromarray(pixels, "LA"), "PNG")
    expected = over_white(pixels[..., :1], pixels[..., 1:])
    # Pillow composes in whole numbers.
    assert distance(decode_image(data, SIZE, 1), expected) <= 1


def test_one_pixel_fills_the_image():
    data = encode(Image.new("RGB", (1, 1), (10, 20, 30)), "PNG")
    decoded = decode_image(data, SIZE)
    np.testing.assert_array_equal(
        decoded, np.broadcast_to([10, 20, 30], (SIZE, SIZE, 3))
    )


@pytest.mark.parametrize(
    "format, options", [("GIF", {}), ("WEBP", {"lossless": True})]
)
def test_the_first_frame_of_an_animation_is_taken(format, options):
    red, blue = (
        Image.new("RGB", (SIZE, SIZE), color)
        for color in ((255, 0, 0), (0, 0, 255))
    )
    data = encode(red, format, save_all=True, append_images=[blue], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 2
    np.testing.assert_array_equal(decode_image(data, SIZE), np.asarray(red))


# How the camera stored what should be seen, by the EXIF standard's table of
# where row 0 and column 0 lie.
STORED = {
    1: lambda seen: seen,
    2: lambda seen: seen[:, ::-1],
    3: lambda seen: seen[::-1, ::-1],
    4: lambda seen: seen[::-1],
    5: lambda seen: seen.swapaxes(0, 1),
    6: lambda seen: np.rot90(seen),
    7: lambda seen: seen[::-1, ::-1].swapaxes(0, 1),
    8: lambda seen: np.rot90(seen, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_the_orientation_of_the_camera_is_applied(format, orientation):
    colors = np.array(
        [[[220, 40, 40], [40, 220, 40]], [[40, 40, 220], [220, 220, 40]]],
        "uint8",
    )
    # Four squares of whole JPEG blocks, none like another.
    seen = colors.repeat(16, 0).repeat(16, 1)
    stored = np.ascontiguousarray(STORED[orientation](seen))
    options = {
        "JPEG": {"quality": 95, "subsampling": 0},
        "PNG": {},
        "WEBP": {"lossless": True},
    }[format]
    data = encode(
        Image.fromarray(stored), format, exif=exif(orientation), **options
    )
    # Flat blocks lose less than 4 of 255 at JPEG quality 95.
    tolerance = 4 if format == "JPEG" else 0
    assert distance(decode_image(data, 32), seen) <= tolerance


def test_the_centre_is_cropped_after_the_orientation_is_applied():
    seen = np.zeros((6, 2, 3), "uint8")
    seen[2:4] = random_pixels(2, 2, 3)
    stored = np.ascontiguousarray(STORED[6](seen))
    data = encode(Image.fromarray(stored), "PNG", exif=exif(6))
    np.testing.assert_array_equal(decode_image(data, 2), seen[2:4])


@pytest.mark.parametrize("axis", [0, 1])
def test_the_centre_square_is_cropped(axis):
    parts = [random_pixels(SIZE, SIZE, 3, seed=seed) for seed in range(3)]
    picture = Image.fromarray(np.concatenate(parts, axis))
    decoded = decode_image(encode(picture, "PNG"), SIZE)
    np.testing.assert_array_equal(decoded, parts[1])


def test_a_checkerboard_of_pixels_shrinks_to_mid_grey():
    board = np.indices((64, 64)).sum(0) % 2 * 255
    data = encode(Image.fromarray(board.astype("uint8")), "PNG")
    # Without antialiasing each pixel would be a sample near 0 or 255. At the
    # border, the filter is cut off within a pair of pixels: 1 more.
    assert np.abs(decode_image(data, 8, 1) - 127.5).max() <= 1.5


@pytest.mark.parametrize("before, after", [(40, 16), (16, 40), (33, 7)])
def test_resizing_agrees_with_the_antialiased_bicubic_of_tensorflow(
    before, after
):
    # Far from 0 and 255, because Pillow clips between its two passes.
    pixels = 64 + random_pixels(before, before, 3) // 2
    expected = tf.image.resize(
        pixels.astype("float32"), (after, after), "bicubic", antialias=True
    )
    decoded = decode_image(encode(Image.fromarray(pixels), "PNG"), after)
    # Pillow rounds after each pass: half, times at most 1.25 (the sum of the
    # filter's absolute values), and half again; 2 leaves room for its integer
    # weights.
    assert distance(decoded, expected.numpy()) <= 2


def test_an_even_color_stays_even_whatever_the_size():
    for width, height in [(3, 50), (50, 3), (9, 9), (200, 199)]:
        data = encode(Image.new("RGB", (width, height), (7, 130, 251)), "PNG")
        decoded = decode_image(data, SIZE)
        assert (decoded == [7, 130, 251]).all()


def test_grey_is_the_luma_of_itu_r_601():
    pixels = random_pixels(32, 32, 3)
    decoded = decode_image(encode(Image.fromarray(pixels), "PNG"), 32, 1)
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    # Half for rounding, and the weights are kept in 16 bits.
    assert distance(decoded[..., 0], luma) <= 0.51


def test_grey_becomes_rgb_of_three_equal_channels():
    pixels = random_pixels(SIZE, SIZE)
    decoded = decode_image(encode(Image.fromarray(pixels), "PNG"), SIZE)
    np.testing.assert_array_equal(decoded, np.stack([pixels] * 3, -1))
