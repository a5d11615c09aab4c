"""Bounds on estimated images."""

import numpy as np
import pytest
import tensorflow as tf
from sampler_cases import as_images

from keras_unet_diffusion.diffusion import LinearSchedule
from keras_unet_diffusion.samplers import (
    DynamicThresholding,
    Estimate,
    StaticThresholding,
    thresholded,
)

SCHEDULE = LinearSchedule()


def test_static_thresholding_bounds_the_image_and_keeps_x_t():
    x_t = as_images([-3.0, 0.1, 2.5])
    point = SCHEDULE.point(np.float64(0.4))

    def wild(x_t, point):
        return Estimate(5.0 * x_t, x_t)

    estimate = thresholded(wild, StaticThresholding())(x_t, point)
    np.testing.assert_allclose(estimate.x_0, as_images([-1, 0.5, 1]))
    together = point.alpha * estimate.x_0 + point.sigma * estimate.noise
    np.testing.assert_allclose(together, x_t, atol=1e-12)


def test_dynamic_thresholding_is_a_quantile_of_each_image():
    x_0 = 3 * np.random.default_rng(0).standard_normal((4, 8, 8, 3))
    x_0[0] /= 30  # in range already
    bounded = np.asarray(DynamicThresholding(0.9, 2.0).apply(x_0))
    for image, result in zip(x_0, bounded, strict=True):
        # Saharia et al. 2022, section 2.3, by numpy's own quantile.
        bound = np.clip(np.quantile(np.abs(image), 0.9), 1, 2)
        expected = np.clip(image, -bound, bound) / bound
        np.testing.assert_allclose(result, expected, atol=1e-12)


@pytest.mark.parametrize("quantile", [0.5, 0.995, 1.0])
def test_dynamic_thresholding_needs_no_size_before_the_graph_runs(quantile):
    thresholding = DynamicThresholding(quantile, 2.0)
    run = tf.function(
        thresholding.apply,
        input_signature=[tf.TensorSpec((None, None, None, None), tf.float64)],
        autograph=False,
    )
    for size in (1, 5, 8):
        x_0 = 3 * np.random.default_rng(0).standard_normal((2, size, size, 3))
        # The same operations: no more than a rounding of float64 apart.
        np.testing.assert_allclose(
            run(x_0), thresholding.apply(x_0), atol=1e-15
        )


@pytest.mark.parametrize("quantile", [0.3, 0.9, 0.995])
def test_dynamic_thresholding_is_that_of_diffusers(quantile):
    diffusers = pytest.importorskip("diffusers")
    torch = pytest.importorskip("torch")
    scheduler = diffusers.DDPMScheduler(
        thresholding=True,
        dynamic_thresholding_ratio=quantile,
        sample_max_value=1.5,
    )
    x_0 = 2 * np.random.default_rng(0).standard_normal((4, 5, 5, 3))
    expected = scheduler._threshold_sample(torch.tensor(x_0).float()).numpy()
    bounded = DynamicThresholding(quantile, 1.5).apply(x_0)
    # diffusers computes in float32; the images are at most 1.
    np.testing.assert_allclose(bounded, expected, atol=1e-6)


def test_images_are_bounded_and_the_noise_kept_if_asked():
    x_t = as_images([-3.0, 0.1, 2.5])
    point = SCHEDULE.point(np.float64(0.4))

    def wild(x_t, point):
        return Estimate(5.0 * x_t, 7.0 * x_t)

    estimate = thresholded(wild, StaticThresholding(), True)(x_t, point)
    np.testing.assert_allclose(estimate.x_0, as_images([-1, 0.5, 1]))
    np.testing.assert_array_equal(estimate.noise, 7.0 * x_t)
