"""What sets Heun apart: its slopes, its churn and where it asks no network."""

import math

import numpy as np
import pytest
from sampler_cases import as_images, gaussian_denoise
from sampler_paths import FixedPath

from keras_unet_diffusion.diffusion import EDMSchedule, LinearSchedule
from keras_unet_diffusion.samplers import Estimate, Heun, sample


def algorithm_2(x, levels, churn, low, high, scale, draws, denoise):
    """Karras et al. 2022, algorithm 2, in plain numbers."""
    num_steps = len(levels) - 1
    for i in range(num_steps):
        level, after = levels[i], levels[i + 1]
        gamma = 0.0
        if low <= level <= high:
            gamma = min(churn / num_steps, math.sqrt(2) - 1)
        noisier = level + gamma * level
        x = x + math.sqrt(noisier**2 - level**2) * scale * draws[i]
        slope = (x - denoise(x, noisier)) / noisier
        end = x + (after - noisier) * slope
        if after > 0:
            end_slope = (end - denoise(end, after)) / after
            end = x + (after - noisier) * (slope + end_slope) / 2
        x = end
    return x


@pytest.mark.parametrize("churn", [0.0, 3.0, 100.0])
def test_samples_are_those_of_algorithm_2(churn):
    num_steps = 8
    steps = np.arange(num_steps) / (num_steps - 1)
    first, last = 80 ** (1 / 7), 0.002 ** (1 / 7)
    levels = [*(first + steps * (last - first)) ** 7, 0.0]  # Eq. 5
    draws = np.random.default_rng(0).standard_normal(num_steps)
    expected = algorithm_2(
        80 * 1.3,
        levels,
        churn,
        0.05,
        50.0,
        1.003,
        draws,
        lambda x, level: x * 0.25 / (0.25 + level**2),
    )
    sampler = Heun(churn, churn_min=0.05, churn_max=50.0, noise_scale=1.003)
    images = sample(
        sampler,
        gaussian_denoise(),
        as_images([1.3]),
        EDMSchedule(),
        num_steps,
        lambda i, k: draws[int(i)] * np.ones((1, 1, 1, 1)),
    )
    # Float64 rounding; a level goes through its time and back.
    np.testing.assert_allclose(images, as_images([expected]), rtol=1e-7)


def test_no_noise_is_added_beyond_the_last_step():
    # The schedule ends at the first level: a noisier one is not known.
    schedule = LinearSchedule()
    path = FixedPath(schedule, (1.0, 0.5), num_steps=2)

    def step(sampler, drawn):
        return sampler.step(
            as_images([1.0]),
            (),
            np.int32(0),
            path,
            lambda x, point: Estimate(*gaussian_denoise()(x, point)),
            lambda k=0: as_images([drawn]),
        )[0]

    # The ratio goes through its time and back: off by 1e-15 of its square,
    # at most, so by 3e-8 in what is added to an x / alpha of 157.
    np.testing.assert_allclose(
        step(Heun(churn=10), 1.0), step(Heun(), 0.0), atol=1e-6
    )


def test_the_last_step_asks_the_network_once():
    asked = []

    def denoise(x_t, point):
        asked.append(float(point.sigma))
        return gaussian_denoise()(x_t, point)

    sample(Heun(), denoise, as_images([1.0]), EDMSchedule(), 18)
    # Karras et al. 2022: 18 steps are 35 evaluations, none without noise.
    assert len(asked) == 35
    assert min(asked) == pytest.approx(0.002, rel=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        {"churn": -1.0},
        {"noise_scale": 0.0},
        {"churn_min": 2.0, "churn_max": 1.0},
    ],
)
def test_churn_out_of_range_is_refused(arguments):
    with pytest.raises(ValueError, match=f"{list(arguments)[0]}="):
        Heun(**arguments)
