"""Pictures inside a page: numbers to bytes, and bytes that fit."""

import numpy as np
import pytest

from keras_unet_diffusion.studies.features import Features
from keras_unet_diffusion.studies.pictures import (
    encode_all,
    feature_sheet,
    picture_bytes,
    signed_bytes,
)


def test_zero_is_128_and_what_is_opposite_lies_opposite():
    values = np.array([-2.0, -1.0, 0.0, 1.0, 2.0], "float32")
    np.testing.assert_array_equal(
        signed_bytes(np.repeat(values, 1000)).reshape(5, 1000)[:, 0],
        # 127 steps to either side.
        [1, 64, 128, 192, 255],
    )
    assert (signed_bytes(np.zeros(4)) == 128).all()


def test_a_sheet_has_levels_side_by_side_and_channels_in_a_grid():
    values = np.zeros((2, 3, 4, 5), "float32")
    values[1, 2, 3, 4] = 1  # level, row, column, channel
    features = Features(tuple(range(5)), values, (0.0, 1.0))
    sheet, tile = feature_sheet(features)
    assert tile == (2, 3, 3, 4)
    # Channel 4 is in the second row of tiles and the second column.
    ((row,), (column,)) = np.nonzero(sheet != 128)
    assert (row, column) == (1 * 3 + 2, 3 * 4 + 1 * 4 + 3)


def test_all_numbers_of_a_vector_are_in_its_tile():
    vector = np.arange(1, 8, dtype="float32")[None]
    sheet, tile = feature_sheet(Features(tuple(range(7)), vector, (1.0,)))
    assert tile == (1, 1, 3, 3)
    assert (np.diff(sheet.reshape(-1)[:7].astype(int)) > 0).all()
    assert (sheet.reshape(-1)[7:] == 128).all()


def test_pictures_are_compressed_until_they_fit():
    noise = np.random.default_rng(0).integers(0, 256, (400, 400), "uint8")
    loose = encode_all({"noise": noise}, 10**6)["noise"]
    tight = encode_all({"noise": noise}, 100_000)["noise"]
    assert len(tight) <= 100_000 < len(loose)


@pytest.mark.parametrize(
    ("channels", "shown"), [(1, 1), (2, 1), (3, 3), (4, 3)]
)
def test_images_of_any_channels_are_shown(channels, shown):
    image = np.full((2, 2, channels), [-1.0, *[3.0] * (channels - 1)])
    pixels = picture_bytes(image)
    assert pixels.shape == ((2, 2) if shown == 1 else (2, 2, 3))
    assert pixels.reshape(4, shown)[0].tolist() == [0, 255, 255][:shown]
