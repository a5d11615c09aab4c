"""Aliasing: what shifting an image by one pixel changes."""

import numpy as np
import pytest

from keras_unet_diffusion.studies.resampling_study import aliasing


@pytest.mark.parametrize("mask, expected", [((1, 1), 0.0), ((1, 0), 2.0)])
def test_sampling_every_other_column_is_aliasing(mask, expected):
    mask = np.tile(mask, 4)[:, np.newaxis]
    inputs = {"noisy_images": np.ones((2, 8, 8, 1)), "noise_level": 0}
    # Of the columns kept before and those kept after a shift none is the
    # same: the difference is 1 everywhere, and half of the pixels are kept.
    found = aliasing(lambda inputs: mask * inputs["noisy_images"], inputs)
    assert found == expected
