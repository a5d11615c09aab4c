"""Likelihoods against Gaussian data, for which everything is known."""

import itertools

import keras
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
    DiffusionProcess,
    EDMSchedule,
    FlowSchedule,
    LinearSchedule,
    VESchedule,
    VPSchedule,
)
from keras_unet_diffusion.likelihood import (
    basis_probes,
    bits_per_dimension,
    flow_log_density,
)


def correlated_denoiser(covariance):
    """The optimal denoiser of images from N(0, covariance)."""

    def denoise(x_t, point):
        size = len(covariance)
        total = point.alpha**2 * covariance + point.sigma**2 * np.eye(size)
        flat = tf.reshape(x_t, (-1, size))
        solved = tf.linalg.matmul(flat, tf.linalg.inv(total))
        x_0 = point.alpha * tf.linalg.matmul(solved, covariance)
        noise = point.sigma * solved
        return tf.reshape(x_0, x_t.shape), tf.reshape(noise, x_t.shape)

    return denoise


def flow_density(denoise, x, schedule, probes=None, num_steps=150, order=4):
    """Compiled; without probes those of a diagonal Jacobian, for which any
    signs are exact."""
    probes = [tf.ones_like(x)] if probes is None else probes

    @tf.function
    def density():
        return flow_log_density(denoise, x, schedule, probes, num_steps, order)

    return density().numpy()


def exact_density(x, schedule, deviation, least, greatest):
    """Log density that the exact flow gives: a stretch of every pixel.

    x / alpha of N(0, c**2 + s**2) keeps its place in that distribution while
    the noise ratio s grows; at the end, noise has the schedule's deviation.
    """
    stretch = np.sqrt((deviation**2 + greatest**2) / (deviation**2 + least**2))
    ending = schedule.point_of_ratio(tf.constant(greatest, tf.float64))
    scale = float(schedule.prior_deviation(ending) / ending.alpha)
    pixels = stats.norm.logpdf(stretch * x, scale=scale) + np.log(stretch)
    return pixels.sum(axis=(1, 2, 3))


SCHEDULES = {
    "linear": (LinearSchedule(), 0.0100005, 157.40728),
    "edm": (EDMSchedule(), 0.002, 80.0),
    "ve": (VESchedule(), 0.02, 100.0),
    "vp": (VPSchedule(), None, None),
    "flow": (FlowSchedule(), 0.001 / 0.999, 4096.0),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_flow_gives_the_density_of_gaussian_images(name):
    schedule, least, greatest = SCHEDULES[name]
    if least is None:
        ends = schedule.point(tf.constant([1e-3, 1.0], tf.float64))
        least, greatest = ends.noise_ratio.numpy()
    x = normal_images((3, 2, 2, 1), DEVIATION)
    density = flow_density(
        gaussian_denoiser(DEVIATION), x, schedule, num_steps=200
    )
    expected = exact_density(x, schedule, DEVIATION, least, greatest)
    # Error of the fourth order: 16 times less for twice the steps (below).
    # The ends of the schedules are known to 1e-7.
    np.testing.assert_allclose(density, expected, atol=2e-5)


@pytest.mark.parametrize("order", [2, 4])
def test_flow_error_falls_with_the_order_of_the_method(order):
    schedule = EDMSchedule()
    x = normal_images((3, 2, 2, 1), DEVIATION)
    expected = exact_density(x, schedule, DEVIATION, 0.002, 80.0)
    errors = [
        np.abs(
            flow_density(
                gaussian_denoiser(DEVIATION),
                x,
                schedule,
                None,
                num_steps,
                order,
            )
            - expected
        ).max()
        for num_steps in (40, 80)
    ]
    # Higher terms still count at these steps.
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.3)


def test_flow_of_stationary_noise_is_the_standard_normal_density():
    x = normal_images((3, 2, 2, 1))
    density = flow_density(gaussian_denoiser(1.0), x, VPSchedule())
    expected = stats.norm.logpdf(x).sum(axis=(1, 2, 3))
    # The flow begins at the least noise ratio, s = 0.01 at t = 0.001, where
    # data are N(0, 1 + s**2): 4 pixels times s**2.
    np.testing.assert_allclose(density, expected, atol=2e-3)


def test_exact_trace_equals_the_density_of_correlated_images():
    covariance = np.array([[0.3, 0.1, 0.0], [0.1, 0.2, 0.05], [0.0, 0.05, 0.1]])
    x = normal_images((4, 3, 1, 1), 0.3)
    density = flow_density(
        correlated_denoiser(covariance), x, EDMSchedule(), basis_probes(x)
    )
    # Density of x_0 plus the least noise, 0.002; the prior leaves out the
    # data's variance, 0.6 / 80**2 / 2 = 5e-5.
    total = covariance + 0.002**2 * np.eye(3)
    expected = stats.multivariate_normal(cov=total).logpdf(x.reshape(-1, 3))
    np.testing.assert_allclose(density, expected, atol=3e-4)


def test_trace_of_random_signs_is_unbiased():
    covariance = np.array([[0.3, 0.1, 0.0], [0.1, 0.2, 0.05], [0.0, 0.05, 0.1]])
    x = normal_images((2, 3, 1, 1), 0.3)

    def density(probes):
        denoise = correlated_denoiser(covariance)
        return flow_density(denoise, x, EDMSchedule(), probes, 10)

    each = [
        density([tf.constant(signs, tf.float64, (1, 3, 1, 1))])
        for signs in itertools.product((-1, 1), repeat=3)
    ]
    assert np.std(each, axis=0).min() > 0.01  # or nothing would be tested
    # Mean over all signs there are: float64 rounding alone is left.
    exact = density(basis_probes(x))
    np.testing.assert_allclose(np.mean(each, axis=0), exact, rtol=1e-12)


@pytest.fixture(scope="module")
def network():
    images = keras.Input((4, 4, 1), name="noisy_images")
    level = keras.Input((), name="noise_level")
    scale = keras.ops.sin(keras.ops.reshape(level, (-1, 1, 1, 1)))
    features = keras.layers.Conv2D(4, 3, padding="same", activation="tanh")
    output = keras.layers.Conv2D(1, 3, padding="same")
    outputs = output(features(images + scale))
    inputs = {"noisy_images": images, "noise_level": level}
    keras.utils.set_random_seed(0)
    return keras.Model(inputs, outputs)


@pytest.fixture(scope="module")
def images():
    return gaussian_bytes(1)[0].reshape(-1, 5, 5, 1)[:3, :4, :4]


@pytest.mark.parametrize("method", ["variational", "flow"])
def test_image_k_costs_the_same_in_any_batch(
    network, images, method, untraced_loops
):
    def bits(batch_size):
        return bits_per_dimension(
            network,
            DiffusionProcess(),
            images,
            method=method,
            num_steps=3,
            batch_size=batch_size,
        )

    # Convolutions of other batches round differently, in float32.
    np.testing.assert_allclose(bits(3), bits(2), rtol=1e-5)


def test_flow_of_bytes_is_the_bits_of_their_density():
    # A network that knows Gaussian data.
    images = keras.Input((4, 4, 1), name="noisy_images")
    level = keras.Input((), name="noise_level")
    schedule = EDMSchedule(sigma_max=800.0)
    # What it is told is log(sigma) / 4.
    sigma = keras.ops.exp(4 * keras.ops.reshape(level, (-1, 1, 1, 1)))
    noise = images * sigma / (DEVIATION**2 + keras.ops.square(sigma))
    inputs = {"noisy_images": images, "noise_level": level}
    network = keras.Model(inputs, noise)
    drawn = gaussian_bytes(30)[0][:, :4, :4]
    bits = bits_per_dimension(
        network, DiffusionProcess(schedule), drawn, method="flow"
    )
    # Bins are narrow beside the deviation: to second order the mean of
    # the log density over a bin is short of the log of its mean by
    # (width / deviation)**2 / 24 nats, 4e-5. Places within bins are
    # drawn: 480 pixels' spread, 0.01 of a deviation each.
    share = np.diff(
        stats.norm.cdf(
            np.stack([drawn - 1 / 255, drawn + 1 / 255]) / DEVIATION
        ),
        axis=0,
    )[0]
    inner = np.abs(drawn).max(axis=(1, 2, 3)) < 1
    expected = -np.log2(share).mean(axis=(1, 2, 3))
    difference = (bits - expected)[inner]
    assert abs(difference.mean()) < 2e-3
    assert np.abs(difference).max() < 2e-2


@pytest.mark.parametrize(
    "options, words",
    [
        ({"method": "exact"}, "no such method"),
        ({"variance": "large"}, "no variance of that name"),
        ({"variance": "learned"}, "predicts no variance"),
        ({"num_steps": 1}, "num_steps is too small"),
        ({"num_probes": 0}, "num_probes is too small"),
        ({"labels": [0, 1, 2]}, "takes no labels"),
        ({"num_steps": 1001}, "num_steps=1001"),
        ({"method": "flow", "variance": "fixed_small"}, "'fixed_small'"),
    ],
)
def test_wrong_arguments_are_named(network, images, options, words):
    with pytest.raises(ValueError, match=words):
        bits_per_dimension(network, DiffusionProcess(), images, **options)


def network_with(**others):
    """A network of one number, with further inputs."""
    inputs = {
        "noisy_images": keras.Input((4, 4, 1), name="noisy_images"),
        "noise_level": keras.Input((), name="noise_level"),
    } | others
    return keras.Model(inputs, 0.1 * inputs["noisy_images"])


@pytest.mark.parametrize("labels", [[0], [0, 1], [0, 1, 2, 3], [[0, 1, 2]], 0])
def test_each_image_has_one_label(images, labels):
    network = network_with(labels=keras.Input((), dtype="int32", name="labels"))
    with pytest.raises(ValueError, match="for 3 images"):
        bits_per_dimension(network, DiffusionProcess(), images, labels)


def test_networks_that_enlarge_images_have_no_likelihood(images):
    small = keras.Input((2, 2, 1), name="low_resolution_images")
    network = network_with(low_resolution_images=small)
    with pytest.raises(ValueError, match="takes low_resolution_images"):
        bits_per_dimension(network, DiffusionProcess(), images)


def test_images_that_are_no_bytes_are_refused(network, images):
    with pytest.raises(ValueError, match="bytes brought to"):
        bits_per_dimension(network, DiffusionProcess(), images + 0.001)


def test_schedule_without_steps_has_no_variational_bound(network, images):
    with pytest.raises(ValueError, match="over the steps of a schedule"):
        bits_per_dimension(network, DiffusionProcess(EDMSchedule()), images)
