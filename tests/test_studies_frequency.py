"""Errors by spatial frequency: what lies in which band, and how much."""

import numpy as np
import pytest

from keras_unet_diffusion.studies.frequency import (
    band_edges,
    band_names,
    band_numbers,
    band_power,
    checkerboard,
    spectrum,
)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("shape", [(8, 8), (16, 8)])
def test_the_sum_over_frequencies_is_that_of_squared_pixels(shape):
    images = noise(3, *shape, 2)
    # Parseval's theorem; float64 sums of a hundred numbers.
    np.testing.assert_allclose(
        spectrum(images).sum(axis=(1, 2)),
        (images**2).sum(axis=(1, 2)),
        rtol=1e-12,
    )


@pytest.mark.parametrize("num_bands", [1, 2, 3])
def test_bands_weighed_by_their_size_are_the_mean_square(num_bands):
    images = noise(5, 8, 8, 3)
    sizes = np.bincount(band_numbers(8, 8, num_bands).ravel())
    weighed = (band_power(images, num_bands) * sizes).sum(axis=-1) / 64
    np.testing.assert_allclose(
        weighed, (images**2).mean(axis=(1, 2, 3)), rtol=1e-12
    )


def test_white_noise_has_power_one_in_every_band():
    power = band_power(noise(2000, 8, 8, 1), 3).mean(axis=0)
    # The least band has 5 frequencies, 2000 images: 5 deviations of
    # sqrt(2 / 10000) at most.
    np.testing.assert_allclose(power, 1, atol=0.07)


@pytest.mark.parametrize(
    "down, right, band",
    [(0, 0, 0), (0, 1, 0), (1, 1, 1), (2, 0, 1), (0, 3, 2), (4, 4, 2)],
)
def test_a_wave_lies_in_the_band_of_its_frequency(down, right, band):
    rows, columns = np.indices((8, 8))
    wave = np.cos(2 * np.pi * (down * rows + right * columns) / 8)
    power = band_power(wave[..., np.newaxis], 3)
    # Of the other bands only rounding is left.
    assert power[band] > 0.1
    assert np.delete(power, band).max() < 1e-25


def test_band_numbers_are_those_of_a_loop_over_frequencies():
    expected = np.zeros((8, 8), int)
    for i in range(8):
        for j in range(8):
            # 5/8 of a cycle looks like -3/8.
            radius = np.hypot(min(i, 8 - i), min(j, 8 - j)) / 8
            expected[i, j] = int(radius > 1 / 8) + int(radius > 1 / 4)
    np.testing.assert_array_equal(band_numbers(8, 8, 3), expected)


def test_bands_are_octaves_up_to_half_a_cycle():
    np.testing.assert_array_equal(band_edges(3), [0.125, 0.25, 0.5])
    assert band_names(3) == ("up to 1/8", "1/8 to 1/4", "over 1/4")
    assert band_names(1) == ("all",)


def test_an_empty_band_is_refused():
    with pytest.raises(ValueError, match="num_bands=6 for images of 8x8"):
        band_power(noise(1, 8, 8, 1), 6)


def test_a_pattern_of_period_two_is_measured_against_its_neighbours():
    images = noise(4000, 8, 8, 1)
    # The pattern has 0.5**2 * 64 at one of the 8 frequencies of its line, all
    # others of which have the noise's 1; the other axis has none: the mean of
    # (1 + 16 / 8) and 1. 32000 numbers a line: 5 deviations are 0.04 of 1.
    striped = images + 0.5 * (-1.0) ** np.arange(8)[:, np.newaxis]
    assert checkerboard(images) == pytest.approx(1, abs=0.06)
    assert checkerboard(striped) == pytest.approx(2, abs=0.12)
