"""Learned variances and the variational bound, against integrals."""

import keras
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import tensorflow as tf

from keras_unet_diffusion.diffusion import (
    CosineSchedule,
    DiffusionProcess,
    LinearSchedule,
    NoisePrediction,
    VelocityPrediction,
    ZeroTerminalSNRSchedule,
)
from keras_unet_diffusion.diffusion.learned_variance import (
    decoder_log_likelihood,
    learned_log_variance,
    normal_kl,
    posterior,
    variational_term,
)


def random_images(seed, batch=4):
    return np.random.default_rng(seed).standard_normal((batch, 3, 3, 2))


def test_the_divergence_is_the_integral():
    mean, log_variance, other_mean, other_log_variance = 0.3, -1.0, -0.5, 0.4
    one = scipy.stats.norm(mean, np.exp(log_variance / 2))
    other = scipy.stats.norm(other_mean, np.exp(other_log_variance / 2))
    expected, _ = scipy.integrate.quad(
        lambda x: one.pdf(x) * (one.logpdf(x) - other.logpdf(x)), -8, 8
    )
    arguments = [mean, log_variance, other_mean, other_log_variance]
    ours = normal_kl(*(np.array(x) for x in arguments))
    # The accuracy of the integral.
    assert float(ours) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("log_variance", [-2.0, -6.0, -10.0])
def test_the_probabilities_of_all_pixel_values_sum_to_one(log_variance):
    values = np.arange(256) / 127.5 - 1
    for mean in (-1.3, -1.0, 0.1234, 0.999):
        log_probability = decoder_log_likelihood(
            values, np.full(256, mean), np.array(log_variance)
        )
        total = np.exp(np.asarray(log_probability)).sum()
        # 256 values of at least 1e-12.
        assert total == pytest.approx(1, abs=1e-9)


def test_the_probability_of_a_pixel_value_is_the_mass_of_its_bin():
    values = np.array([-1.0, 51 / 127.5 - 1, 1.0])
    normal = scipy.stats.norm(0.1, 0.5)
    half = 1 / 255
    expected = [
        normal.cdf(-1 + half),
        normal.cdf(values[1] + half) - normal.cdf(values[1] - half),
        normal.sf(1 - half),
    ]
    ours = decoder_log_likelihood(
        values, np.full(3, 0.1), np.array(2 * np.log(0.5))
    )
    # Differences of numbers near 1/2 lose two digits of 16.
    np.testing.assert_allclose(np.exp(ours), expected, rtol=1e-12)


def test_the_posterior_is_bayes_rule_on_a_grid():
    # p(x_next | x_t, x_0) on a line, by brute force.
    schedule = LinearSchedule()
    point, next_point = (
        schedule.point(np.array(0.4)),
        schedule.point(np.array(0.35)),
    )
    x_0, x_t = 0.6, -0.8
    x = np.linspace(-6, 6, 200_001)
    share = float(point.alpha / next_point.alpha)
    prior = scipy.stats.norm(next_point.alpha * x_0, next_point.sigma).pdf(x)
    seen = scipy.stats.norm(share * x, np.sqrt(1 - share**2)).pdf(x_t)
    density = prior * seen / (prior * seen).sum()
    mean = (density * x).sum()
    variance = (density * (x - mean) ** 2).sum()
    ours = posterior(np.array(x_0), np.array(x_t), point, next_point)
    # Sums over a smooth density are exact but for rounding.
    assert float(ours[0]) == pytest.approx(mean, rel=1e-9)
    assert float(ours[1]) == pytest.approx(np.log(variance), rel=1e-9)


def test_variances_lie_between_the_two_that_make_sense():
    told = np.array([-1.0, 0.0, 1.0])
    ours = learned_log_variance(told, np.log(0.01), np.log(0.04))
    # Halfway in the log is the geometric mean.
    np.testing.assert_allclose(np.exp(ours), [0.01, 0.02, 0.04], rtol=1e-12)


def test_posterior_variances_are_those_of_the_paper():
    schedule = LinearSchedule()
    betas = schedule.betas()
    alpha_bar = np.cumprod(1 - betas)
    t = np.arange(2, 1001) / 1000
    _, log_variance = posterior(
        0.0, 0.0, schedule.point(t), schedule.point(t - 0.001)
    )
    # Ho et al. 2020, Eq. 7.
    expected = (1 - alpha_bar[:-1]) / (1 - alpha_bar[1:]) * betas[1:]
    np.testing.assert_allclose(np.exp(log_variance), expected, rtol=1e-9)
    single = t.astype("float32")
    _, log_variance = posterior(
        0.0,
        0.0,
        schedule.point(single),
        schedule.point(single - np.float32(0.001)),
    )
    # A few float32 roundings of squared shares, divided by a step's variance
    # of 0.004 where those are large.
    np.testing.assert_allclose(np.exp(log_variance), expected, rtol=1e-4)


def test_a_perfect_network_costs_nothing_but_the_decoder():
    schedule = CosineSchedule()
    x_0, noise = random_images(0).clip(-1, 1), random_images(1)
    t = np.array([0.002, 0.3, 0.7, 1.0])
    process = DiffusionProcess(schedule)
    x_t = process.corrupt(x_0, noise, t)
    least = np.full_like(x_0, -1.0)
    bits = variational_term(x_0, x_t, x_0, least, t, schedule)
    np.testing.assert_allclose(bits, 0, atol=1e-12)
    # The variance's cost: KL of beta-tilde from beta, the mean being right.
    bits = variational_term(x_0, x_t, x_0, -least, t, schedule)
    ratio = [
        (1 - schedule.alphas[step - 1] ** 2) / (1 - schedule.alphas[step] ** 2)
        for step in (2, 300, 700, 1000)
    ]
    expected = 0.5 * (np.array(ratio) - 1 - np.log(ratio)) / np.log(2)
    np.testing.assert_allclose(bits, expected, atol=1e-9)


def test_the_first_step_is_the_decoder_with_the_second_steps_variance():
    schedule = LinearSchedule()
    x_0 = np.array([-1.0, 0.0, 1.0, 0.2]).reshape(1, 2, 2, 1)
    x_0 = np.round((x_0 + 1) * 127.5) / 127.5 - 1
    guess = x_0 + 0.01
    t = np.array([0.001])
    least = np.full_like(x_0, -1.0)
    ours = variational_term(x_0, x_0, guess, least, t, schedule)
    beta = schedule.betas()
    alpha_bar = np.cumprod(1 - beta)
    variance = beta[1] * (1 - alpha_bar[0]) / (1 - alpha_bar[1])
    # At the first step the posterior's mean is the estimate itself.
    nats = decoder_log_likelihood(x_0, guess, np.log(variance))
    expected = -np.mean(np.asarray(nats)) / np.log(2)
    np.testing.assert_allclose(ours, [expected], rtol=1e-9)


@pytest.mark.parametrize("dtype, rtol", [("float64", 1e-9), ("float32", 1e-3)])
def test_the_hybrid_loss_adds_the_bound_of_all_steps(dtype, rtol):
    schedule = LinearSchedule(num_timesteps=100)
    x_0 = random_images(0).clip(-1, 1).astype(dtype)
    noise, guess, told = (random_images(i).astype(dtype) for i in (1, 2, 3))
    t = np.array([0.01, 0.02, 0.5, 1.0], dtype)
    simple = DiffusionProcess(schedule)
    hybrid = DiffusionProcess(schedule, variance_weight=0.001)
    x_t = simple.corrupt(x_0, noise, t)
    estimate, _ = simple.split(x_t, guess, t)
    bits = variational_term(
        *(np.asarray(x, "float64") for x in (x_0, x_t, estimate, told, t)),
        schedule,
    )
    loss = hybrid.loss(np.concatenate([guess, told], -1), x_0, noise, t)
    assert keras.backend.standardize_dtype(loss.dtype) == dtype
    # In float32 the divergence is a square of a small difference of means.
    np.testing.assert_allclose(
        loss,
        np.asarray(simple.loss(guess, x_0, noise, t)) + 0.1 * bits,
        rtol=rtol,
    )


@pytest.mark.parametrize(
    "prediction", [NoisePrediction(), VelocityPrediction()]
)
def test_the_bound_teaches_the_variance_alone(prediction):
    schedule = LinearSchedule(num_timesteps=100)
    t = np.array([0.01, 0.02, 0.5, 1.0])
    x_0, noise = random_images(0).clip(-1, 1), random_images(1)
    guess, told = tf.constant(random_images(2)), tf.constant(random_images(3))
    simple = DiffusionProcess(schedule, prediction)
    hybrid = DiffusionProcess(schedule, prediction, variance_weight=0.001)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([guess, told])
        with_bound = hybrid.loss(tf.concat([guess, told], -1), x_0, noise, t)
        without = simple.loss(guess, x_0, noise, t)
    np.testing.assert_array_equal(
        tape.gradient(with_bound, guess), tape.gradient(without, guess)
    )
    gradient = np.asarray(tape.gradient(with_bound, told))
    assert np.isfinite(gradient).all()
    # Of the decoder, too, unless a pixel is beyond its least probability.
    assert (gradient[1:] != 0).all()


def test_a_process_without_learned_variance_keeps_all_channels():
    output = random_images(0)
    assert DiffusionProcess().outputs(output) == (output, None)
    prediction, variance = DiffusionProcess(variance_weight=0.1).outputs(output)
    np.testing.assert_array_equal(prediction, output[..., :1])
    np.testing.assert_array_equal(variance, output[..., 1:])


def test_a_bound_on_an_image_that_nothing_is_said_of_is_refused():
    with pytest.raises(ValueError, match="needs an estimate of the image"):
        DiffusionProcess(
            ZeroTerminalSNRSchedule(), NoisePrediction(), variance_weight=0.001
        )
    DiffusionProcess(
        ZeroTerminalSNRSchedule(), VelocityPrediction(), variance_weight=0.001
    )
