"""PlainCNN: what it sees, what it is conditioned on, and that it trains."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import randomize

from keras_unet_diffusion import DiffusionModel, PlainCNN

SMALL = {"image_size": 8, "image_channels": 1, "channels": 8, "num_layers": 3}


def make_inputs(size=8, batch=2):
    random = np.random.default_rng(0)
    images = random.standard_normal((batch, size, size, 1))
    return {
        "noisy_images": images.astype("float32"),
        "noise_level": np.linspace(0, 999, batch).astype("float32"),
    }


@pytest.mark.parametrize("num_layers, seen", [(2, 5), (5, 11)])
@pytest.mark.parametrize("is_conditioned", [True, False])
def test_n_convolutions_see_2n_plus_1_pixels_squared(
    num_layers, seen, is_conditioned
):
    network = randomize(
        PlainCNN(
            **SMALL | {"image_size": None, "num_layers": num_layers},
            condition_on_noise_level=is_conditioned,
        ),
        scale=0.3,
    )
    arrays = make_inputs(size=15, batch=1)
    inputs = {name: tf.constant(x) for name, x in arrays.items()}
    with tf.GradientTape() as tape:
        tape.watch(inputs["noisy_images"])
        centre = network(inputs)[0, 7, 7, 0]
    gradient = tape.gradient(centre, inputs["noisy_images"])[0, :, :, 0]
    reach = seen // 2
    expected = np.zeros((15, 15), bool)
    expected[7 - reach : 8 + reach, 7 - reach : 8 + reach] = True
    np.testing.assert_array_equal(np.asarray(gradient) != 0, expected)
    assert network.receptive_field == seen


def test_the_noise_level_changes_the_prediction_where_asked_for():
    inputs = make_inputs()
    other = inputs | {"noise_level": inputs["noise_level"] + 1}
    network = randomize(PlainCNN(**SMALL), scale=0.3)
    difference = np.abs(np.asarray(network(inputs)) - network(other))
    assert difference.max(axis=(1, 2, 3)).min() > 1e-3
    blind = randomize(PlainCNN(**SMALL, condition_on_noise_level=False))
    np.testing.assert_array_equal(blind(inputs), blind(other))


def test_every_hidden_layer_is_given_the_noise_level():
    network = randomize(PlainCNN(**SMALL), scale=0.3)
    inputs = make_inputs()
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(network(inputs)))
    variables = network.trainable_variables
    gradients = tape.gradient(loss, variables)
    paths = {variable.path for variable in variables}
    assert {f"injection_{i}/kernel" for i in (1, 2)} <= paths
    for variable, gradient in zip(variables, gradients, strict=True):
        assert np.abs(gradient).max() > 0, variable.path


def test_a_new_network_predicts_zero():
    outputs = PlainCNN(**SMALL)(make_inputs())
    np.testing.assert_array_equal(outputs, np.zeros((2, 8, 8, 1)))


@pytest.mark.parametrize("num_layers", [5, 16])
def test_initialisation_keeps_the_signal_alive(num_layers):
    network = PlainCNN(num_layers=num_layers, channels=64)
    last = keras.Model(
        network.inputs, network.get_layer(f"silu_{num_layers - 1}").output
    )
    images = np.random.default_rng(0).standard_normal((1, 32, 32, 3))
    inputs = {"noisy_images": images, "noise_level": np.array([500.0])}
    features = np.asarray(last([inputs[x.name] for x in network.inputs]))
    # Within one order of magnitude of the image's deviation of 1.
    assert 0.1 < features.std() < 10


# By default one is trained in test_studies_laboratory.py.
@pytest.mark.slow
@pytest.mark.parametrize("is_conditioned", [True, False])
def test_it_trains_in_a_diffusion_model(is_conditioned, digits):
    network = PlainCNN(**SMALL, condition_on_noise_level=is_conditioned)
    model = DiffusionModel(network, seed=0)
    model.compile(keras.optimizers.Adam(3e-3))
    history = model.fit(digits[0][:256], batch_size=32, epochs=3, verbose=0)
    losses = history.history["loss"]
    # At first it predicts 0 for noise of variance 1: a loss of 1.
    assert losses[0] < 1.1
    assert losses[-1] < 0.75
    assert model.generate(2, num_steps=2, seed=0).shape == (2, 8, 8, 1)


@pytest.mark.parametrize("is_conditioned", [True, False])
def test_round_trips_keep_arguments_and_function(is_conditioned, tmp_path):
    network = randomize(
        PlainCNN(**SMALL, condition_on_noise_level=is_conditioned)
    )
    copy = PlainCNN.from_config(network.get_config())
    assert copy.get_config() == network.get_config()
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    assert isinstance(loaded, PlainCNN)
    inputs = make_inputs()
    np.testing.assert_array_equal(loaded(inputs), network(inputs))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_is_close_to_float32(policy):
    inputs = make_inputs()
    network = randomize(PlainCNN(**SMALL))
    mixed = PlainCNN(**SMALL, dtype=policy)
    mixed.set_weights(network.get_weights())
    exact, outputs = np.asarray(network(inputs)), mixed(inputs)
    assert outputs.dtype == "float32"
    # A few roundings to 11 (float16) or 8 (bfloat16) bits of precision.
    bound = {"mixed_float16": 0.01, "mixed_bfloat16": 0.08}[policy]
    difference = np.abs(np.asarray(outputs) - exact).max()
    assert difference <= bound * np.abs(exact).max()


def test_counts_that_are_too_small_are_refused():
    with pytest.raises(ValueError, match="at least 2. Received: num_layers=1"):
        PlainCNN(num_layers=1)
    with pytest.raises(ValueError, match="at least 1. Received: channels=0"):
        PlainCNN(channels=0)
