"""RePaint: known pixels, resampling, and the way back up."""

import numpy as np
import pytest
from gaussian_images import gaussian_denoiser, normal_images
from keras import ops

from keras_unet_diffusion import LinearSchedule
from keras_unet_diffusion.diffusion import EDMSchedule, FlowSchedule
from keras_unet_diffusion.samplers import (
    DDIM,
    DDPM,
    RePaint,
    add_noise,
    sample,
)

SHAPE = (3, 2, 2, 1)
KNOWN = normal_images(SHAPE, 0.3, seed=5)
MASK = np.array([[1.0, 0.0], [0.0, 1.0]])[None, :, :, None]


def noise_of(step, k):
    numbers = np.random.default_rng(1).standard_normal((10, 20, *SHAPE))
    return ops.convert_to_tensor(numbers)[step, k]


def run(sampler, num_steps=8, denoise=None):
    return sample(
        sampler,
        denoise or gaussian_denoiser(0.5),
        normal_images(SHAPE),
        LinearSchedule(),
        num_steps,
        noise_of,
    ).numpy()


def test_known_pixels_are_kept_and_the_others_made():
    images = run(RePaint(DDIM(), KNOWN, MASK, num_resamples=3))
    is_known = np.broadcast_to(MASK, SHAPE) == 1
    np.testing.assert_array_equal(images[is_known], KNOWN[is_known])
    assert np.abs(images - KNOWN)[~is_known].min() > 1e-3


@pytest.mark.parametrize("sampler", [DDIM(), DDPM()], ids=repr)
def test_where_nothing_is_known_one_resample_is_the_sampler_itself(sampler):
    repaint = RePaint(sampler, KNOWN, np.zeros_like(MASK), num_resamples=1)
    np.testing.assert_array_equal(run(repaint), run(sampler))


def test_each_step_is_taken_as_often_as_asked():
    calls = []

    def denoise(x_t, point):
        calls.append(float(point.t))
        return gaussian_denoiser(0.5)(x_t, point)

    run(RePaint(DDIM(), KNOWN, MASK, num_resamples=3), 4, denoise)
    assert len(calls) == 12
    np.testing.assert_array_equal(calls, np.repeat([1.0, 0.75, 0.5, 0.25], 3))


@pytest.mark.parametrize(
    "schedule", [LinearSchedule(), EDMSchedule(), FlowSchedule()], ids=repr
)
def test_noise_added_on_the_way_back_is_that_of_the_schedule(schedule):
    """Going up from one point to the next gives the alpha and sigma there."""
    low, high = (
        schedule.point(np.float64(t * schedule.max_time)) for t in (0.2, 0.6)
    )
    one = np.ones(SHAPE)
    image = add_noise(low.alpha * one, low, high, 0 * one)
    np.testing.assert_allclose(image, high.alpha * one, rtol=1e-12)
    # Variances of independent noises add up.
    old = add_noise(low.sigma * one, low, high, 0 * one)
    fresh = add_noise(0 * one, low, high, one)
    np.testing.assert_allclose(
        np.square(old) + np.square(fresh),
        np.square(high.sigma) * one,
        rtol=1e-12,  # float64
    )
