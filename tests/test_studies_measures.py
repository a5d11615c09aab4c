"""What studies measure, on networks whose answer is known."""

import keras
import numpy as np
import pytest

from keras_unet_diffusion import (
    DDIM,
    DiffusionProcess,
    LinearSchedule,
    TrailingGrid,
)
from keras_unet_diffusion.layers import ResidualBlock
from keras_unet_diffusion.samplers import Estimate
from keras_unet_diffusion.studies.accumulation import ErrorGrowth
from keras_unet_diffusion.studies.gradient_flow import gradient_sizes
from keras_unet_diffusion.studies.laboratory import Validation, loss_by_time
from keras_unet_diffusion.studies.receptive_field_study import mean_distance


def noise(*shape, seed=0):
    random = np.random.default_rng(seed)
    return random.standard_normal(shape, dtype="float32")


@pytest.fixture
def validation(digits):
    images = digits[0][:6]
    return Validation(
        images, noise(*images.shape), np.array([0.2, 0.9]), DiffusionProcess()
    )


def test_a_network_that_predicts_nothing_has_the_loss_of_the_noise(validation):
    errors = validation.errors(lambda inputs: 0.0 * inputs["noisy_images"])
    assert errors.shape == (2, 6, 8, 8, 1)
    expected = np.mean(np.square(validation.noise, dtype="float64"))
    # float32 squares of the same numbers.
    np.testing.assert_allclose(loss_by_time(errors), expected, rtol=1e-6)


def test_a_network_that_knows_the_images_has_no_loss(validation):
    def predict(inputs):
        # x_t = alpha x_0 + sigma noise at step number `noise_level`.
        steps = inputs["noise_level"].round().astype(int)
        betas = np.linspace(1e-4, 0.02, 1000)
        alpha = np.sqrt(np.cumprod(1 - betas))[steps].reshape(-1, 1, 1, 1)
        rest = inputs["noisy_images"] - alpha * validation.images
        return rest / np.sqrt(1 - alpha**2)

    # Rounding of float32, and of a time to the table's step, which costs
    # less than its change of alpha, 0.01.
    assert loss_by_time(validation.errors(predict)).max() < 1e-3


def test_errors_of_ddim_add_up_as_the_noise_ratios_differ():
    num_steps = 10

    def denoise(x_t, point, x_0):
        # No noise at all: x_0 = x_t / alpha, so that each step scales.
        _, alpha, _ = point.of_images()
        return Estimate(x_t / alpha, 0.0 * x_t)

    sampler = DDIM(thresholding=None, grid=TrailingGrid())
    growth = ErrorGrowth(sampler, denoise, LinearSchedule())
    found = growth.measure((64, 8, 8, 1), num_steps)
    # In x / alpha a step of DDIM adds the change of sigma / alpha times the
    # error, independent in each step. The trailing grid of 1000 steps.
    alpha = np.sqrt(np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)))
    alpha = np.append(alpha[999::-100], 1.0)
    changes = np.diff(np.sqrt(1 - alpha**2) / alpha)
    expected = alpha[1:] * np.sqrt(np.cumsum(changes**2))
    # 4096 numbers for each step: 5 deviations of sqrt(1 / 8192).
    np.testing.assert_allclose(found, expected, rtol=0.055)


def test_the_mean_distance_is_weighed_by_the_field():
    field = np.zeros((8, 8))
    field[4, 4] = 1
    assert mean_distance(field) == 0
    # 3 and 4 away along the axes: 5.
    field[1, 0] = 3
    assert mean_distance(field) == pytest.approx(15 / 4)


def test_gradients_are_proportional_to_the_error():
    images = keras.Input((8, 8, 4), name="noisy_images")
    embedding = keras.Input((3,), name="embedding")
    options = {"num_groups": 2, "initialization": "diffusers"}
    hidden = ResidualBlock(4, **options)(images, embedding)
    outputs = ResidualBlock(4, **options)(hidden, embedding)
    inputs = {"noisy_images": images, "embedding": embedding}
    network = keras.Model(inputs, outputs)
    inputs = {"noisy_images": noise(2, 8, 8, 4), "embedding": noise(2, 3)}
    prediction = np.asarray(network(inputs))
    error = noise(2, 8, 8, 4, seed=1)
    once = gradient_sizes(network, inputs, prediction + error)
    twice = gradient_sizes(network, inputs, prediction + 2 * error)
    assert once.shape == (2,) and once.min() > 1e-4
    # Sums of hundreds of float32 numbers.
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-4)


def test_the_gradient_of_a_kernel_is_that_of_finite_differences():
    images = keras.Input((4, 4, 1), name="noisy_images")
    embedding = keras.Input((3,), name="embedding")
    block = ResidualBlock(1, num_groups=1, initialization="diffusers")
    network = keras.Model(
        {"noisy_images": images, "embedding": embedding},
        block(images, embedding),
    )
    inputs = {"noisy_images": noise(2, 4, 4, 1), "embedding": noise(2, 3)}
    target = noise(2, 4, 4, 1, seed=1)
    size = gradient_sizes(network, inputs, target)[0]
    kernel = block.conv_1.kernel.numpy()
    slopes, step = [], 1e-2
    for index in np.ndindex(kernel.shape):
        losses = []
        for sign in (1, -1):
            moved = kernel.copy()
            moved[index] += sign * step
            block.conv_1.kernel.assign(moved)
            error = np.asarray(network(inputs), "float64") - target
            losses.append(np.mean(error**2))
        slopes.append((losses[0] - losses[1]) / (2 * step))
    # Central differences: the curvature's change times step squared, and
    # float32 losses around 1 over 2 * step.
    assert size == pytest.approx(np.sqrt(np.mean(np.square(slopes))), rel=0.01)
