"""How networks are called: what they see, and what is made of it."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from gaussian_networks import (
    gaussian_network,
    gaussian_process,
    one_layer_network,
)

from keras_unet_diffusion import DiffusionProcess, NoisePrediction
from keras_unet_diffusion.diffusion import (
    EDMPrediction,
    EDMSchedule,
    FlowPrediction,
    ImagePrediction,
    LinearSchedule,
    ScorePrediction,
    VelocityPrediction,
    ZeroTerminalSNRSchedule,
)
from keras_unet_diffusion.generation import ImageGenerator
from keras_unet_diffusion.network_calls import (
    NetworkCalls,
    check_inputs,
    make_denoise,
    network_function,
    network_inputs,
)
from keras_unet_diffusion.samplers import (
    DDIM,
    DPMSolverPP,
    Heun,
    TrailingGrid,
)

PREDICTIONS = [
    NoisePrediction(),
    ImagePrediction(),
    VelocityPrediction(),
    FlowPrediction(),
    EDMPrediction(),
    ScorePrediction(),
]


def noise(shape=(3, 4, 4, 1), seed=0):
    return tf.constant(np.random.default_rng(seed).standard_normal(shape))


def point(process, t):
    return process.schedule.point(tf.constant(t, tf.float64))


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_every_prediction_type_gives_the_same_estimate(prediction):
    process = gaussian_process(prediction=prediction)
    denoise = make_denoise(gaussian_network(process, 0.5), process)
    x_t = noise()
    for t in (0.1, 0.5, 0.9):
        here = point(process, t)
        estimate = denoise(x_t, here)
        # E[x_0 | x_t] of N(0, 1/4), by Bayes' rule.
        gain = here.alpha / 4 / (here.alpha**2 / 4 + here.sigma**2)
        # Networks compute in float32; noise says little of the image where
        # sigma / alpha is 27, at 0.9.
        np.testing.assert_allclose(estimate.x_0, gain * x_t, atol=2e-5)
        np.testing.assert_allclose(
            here.alpha * estimate.x_0 + here.sigma * estimate.noise,
            x_t,
            atol=1e-12,  # float64: the two make x_t by construction
        )


@functools.cache
def sampled(prediction, sampler, schedule):
    """Images by the exact network of a prediction type."""
    process = gaussian_process(prediction=prediction, schedule=schedule)
    generator = ImageGenerator(gaussian_network(process, 0.25), process)
    return generator.generate(3, num_steps=10, seed=0, sampler=sampler)


# Each prediction gives the same estimates: see above.
@pytest.mark.parametrize(
    "sampler, schedule",
    [
        pytest.param(DDIM(), LinearSchedule(), id="ddim"),
        pytest.param(
            Heun(grid=TrailingGrid()),
            LinearSchedule(),
            id="heun",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            DPMSolverPP(order=2),
            LinearSchedule(),
            id="dpm_solver",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            DDIM(),
            ZeroTerminalSNRSchedule(LinearSchedule()),
            id="zero_terminal",
        ),
    ],
)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_every_prediction_type_samples_the_same_images(
    prediction, sampler, schedule
):
    is_blind = isinstance(prediction, NoisePrediction | ScorePrediction)
    if is_blind and schedule.alphas[-1] == 0:
        # Its network says nothing of the image where sampling begins.
        with pytest.raises(ValueError, match="Train with VelocityPrediction"):
            sampled(prediction, sampler, schedule)
        return
    images = sampled(prediction, sampler, schedule)
    expected = sampled(VelocityPrediction(), sampler, schedule)
    # Float32 roundings of the predictions.
    np.testing.assert_allclose(images, expected, atol=1e-5)
    assert np.abs(images).max() > 0.1


def test_the_network_of_karras_is_preconditioned_as_in_table_1():
    """Karras et al. 2022, Eq. 7: D = c_skip x + c_out F(c_in x; c_noise)."""
    network = one_layer_network(
        lambda inputs: (
            keras.ops.sin(inputs["noisy_images"])
            + keras.ops.reshape(inputs["noise_level"], (-1, 1, 1, 1))
        )
    )
    process = DiffusionProcess(EDMSchedule(), EDMPrediction(sigma_data=0.5))
    for sigma in (0.01, 0.7, 30.0):
        here = process.schedule.point_of_ratio(tf.constant(sigma, tf.float64))
        x = noise() * np.sqrt(sigma**2 + 0.25)
        total = sigma**2 + 0.25
        network_output = np.sin(x / np.sqrt(total)) + np.log(sigma) / 4
        expected = (
            0.25 / total * x + 0.5 * sigma / np.sqrt(total) * network_output
        )
        found = make_denoise(network, process)(x, here).x_0
        # Float32 of the network, whose share is at most 1/2.
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_network_is_called_in_float32_and_the_estimate_is_in_float64():
    seen = []

    def see(network):
        def call(inputs):
            seen.append({name: x.dtype for name, x in inputs.items()})
            return network(inputs)

        return call

    process = gaussian_process()
    network = gaussian_network(process, means=(0.1, 0.2))
    calls = NetworkCalls(network, process, see, tf.constant([0, 1, 1]))
    estimate = calls.conditional(noise(), point(process, 0.5))
    assert seen == [
        {
            "noisy_images": tf.float32,
            "noise_level": tf.float32,
            "labels": tf.int32,
        }
    ]
    assert estimate.x_0.dtype == estimate.noise.dtype == tf.float64
    assert estimate.variance is None


def test_further_channels_are_the_variance():
    network = one_layer_network(
        lambda inputs: keras.ops.concatenate(
            [inputs["noisy_images"], 2 * inputs["noisy_images"]], axis=-1
        )
    )
    process = DiffusionProcess()
    x_t = noise()
    estimate = make_denoise(network, process)(x_t, point(process, 0.5))
    np.testing.assert_allclose(estimate.noise, x_t, rtol=1e-6)  # float32
    np.testing.assert_allclose(estimate.variance, 2 * x_t, rtol=1e-6)


def test_one_batch_of_two_is_two_calls():
    process = gaussian_process()
    network = gaussian_network(process, means=(0.5, -0.3))
    labels, null = tf.constant([0, 1, 0]), tf.constant([2, 2, 2])
    x_t, here = noise(), point(process, 0.5)
    both = NetworkCalls(network, process, labels=labels).both(x_t, here)
    apart = (
        make_denoise(network, process, labels)(x_t, here),
        make_denoise(network, process, null)(x_t, here),
    )
    for one, other in zip(both, apart, strict=True):
        # The same float32 arithmetic on each image.
        np.testing.assert_allclose(one.x_0, other.x_0, atol=1e-6)
        np.testing.assert_allclose(one.noise, other.noise, atol=1e-6)
    assert np.abs(both[0].x_0 - both[1].x_0).max() > 0.1


def test_what_a_network_asks_beyond_is_zero_unless_told():
    network = one_layer_network(
        lambda inputs: inputs["noisy_images"],
        augmentation=keras.Input((9,), name="augmentation"),
        previous_estimate=keras.Input((4, 4, 1), name="previous_estimate"),
    )
    images = np.ones((2, 4, 4, 1), "float32")
    inputs = network_inputs(network, images, np.ones(2, "float32"))
    assert set(inputs) == set(network.input)
    np.testing.assert_array_equal(inputs["augmentation"], np.zeros((2, 9)))
    np.testing.assert_array_equal(inputs["previous_estimate"], 0 * images)
    inputs = network_inputs(
        network, images, np.ones(2, "float32"), previous_estimate=images
    )
    np.testing.assert_array_equal(inputs["previous_estimate"], images)


def test_the_estimate_before_reaches_the_network():
    """The network takes the estimate before plus 1/4 for the image: it counts
    the steps, up to the bound of what it is told and one more."""
    network = one_layer_network(
        lambda inputs: inputs["previous_estimate"] + 0.25,
        previous_estimate=keras.Input((4, 4, 1), name="previous_estimate"),
    )
    process = gaussian_process(prediction=ImagePrediction())
    generator = ImageGenerator(network, process)
    for num_steps, expected in ((1, 0.25), (3, 0.75), (4, 1.0), (9, 1.25)):
        images = generator.generate(
            2, num_steps=num_steps, seed=0, sampler=DDIM(thresholding=None)
        )
        # Float64 sums of quarters and of noise that cancels.
        np.testing.assert_allclose(
            images, np.full((2, 4, 4, 1), expected), atol=1e-5
        )


def test_a_network_function_is_traced_once_for_all_batches():
    traces = []

    def layer(inputs):
        traces.append(1)
        return inputs["noisy_images"]

    network = one_layer_network(layer)
    traces.clear()
    function = network_function(network)
    for size in (1, 2, 5):
        images, level = tf.ones((size, 4, 4, 1)), tf.ones((size,))
        function({"noisy_images": images, "noise_level": level})
    assert len(traces) == 1


def test_networks_that_cannot_be_called_are_refused():
    images = keras.Input((4, 4, 1))
    with pytest.raises(ValueError, match="dict of noisy_images"):
        check_inputs(keras.Model(images, images))
    with pytest.raises(ValueError, match="dict of noisy_images"):
        check_inputs(lambda inputs: inputs)
    unknown = one_layer_network(
        lambda inputs: inputs["noisy_images"],
        weather=keras.Input((1,), name="weather"),
    )
    with pytest.raises(ValueError, match="build it without weather"):
        check_inputs(unknown)
