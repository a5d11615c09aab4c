"""Samplers against closed-form denoisers; no network anywhere."""

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_unet_diffusion.diffusion import CosineSchedule, LinearSchedule
from keras_unet_diffusion.samplers import DDIM, DDPM, clip_images, sample

SCHEDULE = LinearSchedule()


def gaussian_denoiser(schedule, deviation=0.5, mean=0.0):
    """The optimal denoiser of pixels drawn from N(mean, deviation**2)."""

    def denoise(x_t, t):
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        variance = alpha**2 * deviation**2 + sigma**2
        residual = x_t - alpha * mean
        x_0 = mean + alpha * deviation**2 / variance * residual
        return x_0, sigma / variance * residual

    return denoise


def exact_end(x_1, schedule, deviation=0.5):
    """Solution of the probability-flow ODE for that data.

    x_t / sqrt(alpha**2 deviation**2 + sigma**2) is constant along it.
    """
    first = schedule.alphas[-1] ** 2 * deviation**2 + schedule.sigmas[-1] ** 2
    return x_1 * deviation / np.sqrt(first)


def as_images(values):
    return np.reshape(np.asarray(values, "float64"), (-1, 1, 1, 1))


def test_ddim_gives_the_golden_values():
    # Ten trailing steps of diffusers 0.42.1 for the same denoiser.
    x_1 = as_images([-1.5, -0.3, 0.7, 1.9])
    golden = as_images([-0.5549323, -0.1109865, 0.2589684, 0.7029143])
    images = sample(DDIM(SCHEDULE), gaussian_denoiser(SCHEDULE), x_1, 10)
    np.testing.assert_allclose(images, golden, atol=1e-6)


def test_ddim_is_of_first_order():
    # On the cosine schedule, whose end is almost pure noise.
    schedule = CosineSchedule(num_timesteps=2**14)
    x_1 = as_images([1.3])
    errors = []
    for num_steps in (64, 128, 256, 512):
        images = sample(
            DDIM(schedule), gaussian_denoiser(schedule), x_1, num_steps
        )
        error = np.asarray(images) - exact_end(x_1, schedule)
        errors.append(np.abs(error).max())
    orders = np.log2(errors[:-1]) - np.log2(errors[1:])
    # First order: each doubling halves the error, up to higher terms.
    np.testing.assert_allclose(orders, 1, atol=0.1)


@pytest.mark.parametrize("num_steps", [1, 7, 50, 333, 1000])
def test_ddim_with_eta_one_is_ddpm(num_steps):
    random = np.random.default_rng(0)
    x_1 = random.standard_normal((4, 1, 1, 1))
    noises = ops.convert_to_tensor(
        random.standard_normal((num_steps, 4, 1, 1, 1))
    )

    def draw_noise(i):
        return noises[i]

    denoise = gaussian_denoiser(SCHEDULE)
    ancestral = sample(DDPM(SCHEDULE), denoise, x_1, num_steps, draw_noise)
    ddim = sample(DDIM(SCHEDULE, 1.0), denoise, x_1, num_steps, draw_noise)
    # The same in exact arithmetic; 1,000 float64 steps apart.
    np.testing.assert_allclose(ddim, ancestral, atol=1e-10)


@pytest.mark.parametrize(
    "sampler", [DDPM(SCHEDULE), DDIM(SCHEDULE, 0.5), DDIM(SCHEDULE)]
)
def test_samples_have_the_mean_and_deviation_of_the_data(sampler):
    count, mean, deviation = 20_000, 0.3, 0.5
    random = np.random.default_rng(1)
    x_1 = random.standard_normal((count, 1, 1, 1))

    def draw_noise(i):
        return tf.random.stateless_normal(
            (count, 1, 1, 1), tf.stack([i, 7]), dtype=tf.float64
        )

    images = np.asarray(
        sample(
            sampler,
            gaussian_denoiser(SCHEDULE, deviation, mean),
            x_1,
            1000,
            draw_noise,
        )
    )
    # Five standard errors (a false alarm once in 1.7 million), and 1% for
    # the steps' own error at 1,000 steps.
    assert abs(images.mean() - mean) < 5 * deviation / count**0.5 + 0.003
    relative = abs(images.std() / deviation - 1)
    assert relative < 5 / (2 * count) ** 0.5 + 0.01


def test_a_step_to_zero_returns_the_estimated_image():
    random = np.random.default_rng(0)
    x_t, noise = random.standard_normal((2, 3, 1, 1, 1))
    t, zero = np.float64(0.2), np.float64(0.0)
    denoise = gaussian_denoiser(SCHEDULE)
    x_0, _ = denoise(x_t, t)
    for sampler in (DDIM(SCHEDULE), DDIM(SCHEDULE, 1.0), DDPM(SCHEDULE)):
        end = sampler.step(x_t, t, zero, denoise, noise)
        np.testing.assert_allclose(end, x_0, atol=1e-12)


def test_ddim_steps_back_through_the_same_images():
    # With the true noise known, a step lands on the same noisy image.
    random = np.random.default_rng(0)
    x_0, noise = random.standard_normal((2, 3, 1, 1, 1))
    schedule = CosineSchedule()
    t, t_next = np.float64(0.7), np.float64(0.3)

    def corrupt(t):
        return schedule.alpha(t) * x_0 + schedule.sigma(t) * noise

    landed = DDIM(schedule).step(
        corrupt(t), t, t_next, lambda x_t, t: (x_0, noise), None
    )
    np.testing.assert_allclose(landed, corrupt(t_next), atol=1e-12)


@pytest.mark.parametrize("num_steps", [1, 3, 10, 13, 999, 1000])
def test_the_time_grid_is_trailing_and_rounded(num_steps):
    sampler = DDIM(SCHEDULE)
    times = [
        float(sampler.times(i, np.int32(num_steps), "float32")) * 1000
        for i in range(num_steps + 1)
    ]
    assert times[0] == 1000 and times[-1] == 0
    assert (np.diff(times) < 0).all()
    ideal = np.linspace(1000, 0, num_steps + 1)
    assert np.abs(times - ideal).max() <= 0.5 + 1e-3


def test_clipping_bounds_the_image_and_keeps_x_t():
    x_t = as_images([-3.0, 0.1, 2.5])
    t = np.float64(0.4)

    def wild(x_t, t):
        return 5.0 * x_t, x_t

    x_0, noise = clip_images(wild, SCHEDULE)(x_t, t)
    np.testing.assert_allclose(x_0, as_images([-1, 0.5, 1]))
    together = SCHEDULE.alpha(t) * x_0 + SCHEDULE.sigma(t) * noise
    np.testing.assert_allclose(together, x_t, atol=1e-12)


def test_the_loop_is_traced_once_for_any_number_of_steps():
    calls = []
    gaussian = gaussian_denoiser(SCHEDULE)

    def denoise(x_t, t):
        calls.append(t)
        return gaussian(x_t, t)

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, 1, 1, 1), tf.float64),
            tf.TensorSpec((), tf.int32),
        ]
    )
    def run(x_1, num_steps):
        return sample(DDIM(SCHEDULE), denoise, x_1, num_steps)

    x_1 = as_images([0.5, -1.0])
    for num_steps in (3, 50, 700):
        alone = sample(DDIM(SCHEDULE), gaussian, x_1, num_steps)
        np.testing.assert_allclose(run(x_1, num_steps), alone, atol=1e-10)
    assert len(calls) == 1
