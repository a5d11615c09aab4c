"""Bytes to numbers in [-1, 1] and back, grids and PNG files."""

import numpy as np
import pytest
from PIL import Image

from keras_unet_diffusion.data import (
    image_grid,
    save_grid,
    save_images,
    to_model_range,
    to_uint8,
)

BYTES = np.arange(256, dtype="uint8")


def random_images(*shape):
    """Images in [-1, 1], and the bytes that they were made from."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, shape, dtype="uint8")
    return to_model_range(pixels).numpy(), pixels


def read_png(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture)


def test_every_byte_comes_back_exactly():
    np.testing.assert_array_equal(to_uint8(to_model_range(BYTES)), BYTES)


def test_black_is_minus_one_white_is_one_and_steps_are_even():
    numbers = to_model_range(BYTES).numpy()
    assert numbers.dtype == np.float32
    assert (numbers[0], numbers[-1]) == (-1, 1)
    # One unit in the last place of a float32 near 1.
    assert np.abs(np.diff(numbers) - 2 / 255).max() < 2**-23


def test_a_number_becomes_the_nearest_byte():
    numbers = to_model_range(BYTES).numpy().astype("float64")
    for offset in (-0.49, 0.49):
        shifted = numbers + offset * 2 / 255
        np.testing.assert_array_equal(to_uint8(shifted), BYTES)


def test_numbers_outside_the_range_are_clipped():
    numbers = [-np.inf, -7.0, -1.001, 1.001, 300.0, np.inf]
    np.testing.assert_array_equal(to_uint8(numbers), [0, 0, 0, 255, 255, 255])


def test_nan_is_refused_with_its_count():
    images = np.zeros((2, 4, 4, 3))
    images[0, 1, :, 2] = np.nan
    with pytest.raises(ValueError, match="4 NaN"):
        to_uint8(images)


@pytest.mark.parametrize(
    "count, num_columns, rows, columns",
    [(1, None, 1, 1), (4, None, 2, 2), (5, None, 2, 3), (7, 4, 2, 4)],
)
def test_a_grid_holds_each_image_in_reading_order(
    count, num_columns, rows, columns
):
    images, pixels = random_images(count, 5, 3, 3)
    grid = image_grid(images, num_columns)
    assert grid.shape == (rows * 7 + 2, columns * 5 + 2, 3)
    left = np.ones(grid.shape[:2], bool)
    for k in range(count):
        row, column = divmod(k, columns)
        place = np.s_[2 + 7 * row :, 2 + 5 * column :]
        np.testing.assert_array_equal(grid[place][:5, :3], pixels[k])
        left[place][:5, :3] = False
    assert len(np.unique(grid[left])) == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_a_saved_grid_is_the_grid_enlarged(channels, tmp_path):
    images, _ = random_images(3, 4, 4, channels)
    path = tmp_path / "grid.png"
    save_grid(path, images, num_columns=3, scale=3)
    grid = image_grid(images, 3)
    expected = np.kron(grid, np.ones((3, 3, 1), "uint8"))
    np.testing.assert_array_equal(
        read_png(path).reshape(expected.shape), expected
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_is_saved_with_its_pixels_and_number(channels, tmp_path):
    images, pixels = random_images(3, 4, 6, channels)
    folder = tmp_path / "new" / "folder"
    paths = save_images(folder, images)
    assert [path.name for path in paths] == [
        "image_00000.png",
        "image_00001.png",
        "image_00002.png",
    ]
    assert sorted(folder.iterdir()) == paths
    for path, expected in zip(paths, pixels, strict=True):
        np.testing.assert_array_equal(
            read_png(path).reshape(expected.shape), expected
        )


def test_images_with_nan_leave_the_old_picture(tmp_path):
    path = tmp_path / "grid.png"
    images, _ = random_images(1, 4, 4, 1)
    save_grid(path, images)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="NaN"):
        save_grid(path, images * np.nan)
    with pytest.raises(ValueError, match="NaN"):
        save_images(tmp_path / "none", images * np.nan)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
