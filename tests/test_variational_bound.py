"""The variational bound against Gaussian data."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from gaussian_images import (
    DEVIATION,
    gaussian_bytes,
    gaussian_denoiser,
    normal_images,
)
from scipy import stats

from keras_unet_diffusion.diffusion import (
    CosineSchedule,
    DiscreteSchedule,
    LinearSchedule,
    ZeroTerminalSNRSchedule,
)
from keras_unet_diffusion.diffusion.likelihood import (
    variational_bits_per_dimension,
)


def variational_bits(images, schedule, num_steps, variance, denoise=None):
    denoise = denoise or gaussian_denoiser(DEVIATION)

    @tf.function
    def bits():
        return variational_bits_per_dimension(
            denoise,
            tf.constant(images),
            schedule,
            lambda i: tf.random.stateless_normal(
                images.shape, [1, i], dtype=tf.float64
            ),
            num_steps,
            variance,
        )

    return bits().numpy()


def error(snr, images):
    """Mean squared error of the optimal estimate of x_0 at an SNR: it is off
    by (x_0 - c**2 sqrt(SNR) noise) / (1 + SNR c**2)."""
    total = np.mean(images**2) + snr * DEVIATION**4
    return total / (1 + snr * DEVIATION**2) ** 2


def ends(images, schedule, second):
    """Expected nats of the prior and of the decoder, the latter by a draw of
    noise; its variance is the posterior's at the second of the steps."""
    last = schedule.alphas[-1] ** 2
    prior = 0.5 * (last * np.mean(images**2) - last - np.log1p(-last))
    alpha, sigma = schedule.alphas[1], schedule.sigmas[1]
    shrink = alpha * DEVIATION**2 / (alpha**2 * DEVIATION**2 + sigma**2)
    noisy = alpha * images + sigma * normal_images(images.shape, seed=3)
    distance = images - shrink * noisy
    ratio = schedule.alphas[second] / alpha
    deviation = sigma / schedule.sigmas[second] * np.sqrt(1 - ratio**2)
    upper = stats.norm.cdf((distance + 1 / 255) / deviation)
    lower = stats.norm.cdf((distance - 1 / 255) / deviation)
    return prior - np.log(np.maximum(upper - lower, 1e-12)).mean()


@pytest.mark.parametrize(
    "num_steps", [10, 100, pytest.param(1000, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "schedule", [LinearSchedule(), CosineSchedule()], ids=["linear", "cosine"]
)
def test_bound_is_the_sum_of_errors_times_falls_of_snr(schedule, num_steps):
    images, _ = gaussian_bytes(400)
    measured = variational_bits(images, schedule, num_steps, "fixed_small")
    # Kingma et al. 2021, Eq. 13, for the optimal network.
    points = 1 + np.round(np.linspace(0, 999, num_steps)).astype(int)
    snr = np.exp(schedule.log_snrs[points])
    between = 0.5 * np.sum((snr[:-1] - snr[1:]) * error(snr[1:], images))
    expected = (between + ends(images, schedule, points[1])) / np.log(2)
    # Two independent draws of noise for 400 images: four deviations.
    slack = 4 * np.sqrt(2 / 400) * measured.std()
    assert measured.mean() == pytest.approx(expected, abs=slack)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
@pytest.mark.parametrize(
    "num_steps", [10, pytest.param(100, marks=pytest.mark.slow), None]
)
def test_bound_lies_above_the_entropy(variance, num_steps):
    images, entropy = gaussian_bytes(200)
    bits = variational_bits(images, CosineSchedule(), num_steps, variance)
    # 20,000 pixels: the mean is known to three deviations of it.
    assert bits.mean() > entropy - 3 * bits.std() / np.sqrt(len(images))


@dataclasses.dataclass(frozen=True)
class EvenSchedule(DiscreteSchedule):
    """Steps that are even in log-SNR, from 9 to -9."""

    def betas(self):
        log_snrs = np.linspace(9, -9, self.num_timesteps)
        log_alphas = -np.logaddexp(0, -log_snrs)
        return -np.expm1(np.diff(log_alphas, prepend=0.0))


def test_many_steps_approach_the_bound_of_continuous_time():
    images, _ = gaussian_bytes(400)
    log_snr = np.linspace(-9, 9, 10**5)
    snr = np.exp(log_snr)
    # Kingma et al. 2021, Eq. 18: half the integral of the error over the SNR.
    between = np.trapezoid(snr * error(snr, images), log_snr) / 2
    excesses = []
    for num_steps in (64, 256):
        schedule = EvenSchedule(num_steps)
        measured = variational_bits(images, schedule, None, "fixed_small")
        bound = (between + ends(images, schedule, 2)) / np.log(2)
        excesses.append(measured.mean() - bound)
    # A sum over steps exceeds the integral by the size of the steps. Noise of
    # the draws is 0.01 of the smaller excess's 0.3 bits.
    assert 0.1 < excesses[1] < 0.5
    assert excesses[0] / excesses[1] == pytest.approx(4, rel=0.25)


def test_variational_bound_is_that_of_the_prior_for_an_exact_denoiser():
    # Where the network knows x_0 itself, divergences of the steps vanish.
    schedule = ZeroTerminalSNRSchedule(LinearSchedule())
    images, _ = gaussian_bytes(3)
    bits = variational_bits(
        images,
        schedule,
        None,
        "fixed_small",
        lambda x_t, point: (tf.constant(images), x_t),
    )
    ratio = schedule.alphas[2] / schedule.alphas[1]
    deviation = schedule.sigmas[1] / schedule.sigmas[2] * np.sqrt(1 - ratio**2)
    # What is left is the decoder: the byte at the middle of its own bin.
    share = 2 * stats.norm.cdf(1 / 255 / deviation) - 1
    np.testing.assert_allclose(bits, -np.log2(share), atol=1e-9)


@pytest.mark.parametrize("num_steps", [1, 0, -3, 1001, np.int64(1001)])
def test_steps_that_the_schedule_has_not_are_refused(num_steps):
    images, _ = gaussian_bytes(1)
    with pytest.raises(ValueError, match=f"num_steps={num_steps}, with"):
        variational_bits(images, LinearSchedule(), num_steps, None)


def test_a_tensor_may_say_how_many_steps_are_taken():
    images, _ = gaussian_bytes(1)
    one, other = (
        variational_bits(images, LinearSchedule(), num_steps, None)
        for num_steps in (5, tf.constant(5))
    )
    np.testing.assert_array_equal(one, other)


def test_learned_range_at_its_ends_is_small_and_large():
    images, _ = gaussian_bytes(2)
    denoise = gaussian_denoiser(DEVIATION)

    def bits(told, variance, num_steps):
        def telling(x_t, point):
            if told is None:
                return denoise(x_t, point)
            return *denoise(x_t, point), told * tf.ones_like(x_t)

        return variational_bits(
            images, LinearSchedule(), num_steps, variance, telling
        )

    # Respaced steps: variances of the longer steps. Rounding is left.
    np.testing.assert_allclose(
        bits(-1.0, None, 20), bits(None, "fixed_small", 20), rtol=1e-12
    )
    # At the first step alone "fixed_large" takes the second's variance.
    large, learned = bits(None, "fixed_large", 1000), bits(1.0, None, 1000)
    assert 0 < np.abs(large - learned).max() < 1
