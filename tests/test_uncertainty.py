"""The learned uncertainty of the loss."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_unet_diffusion.training.uncertainty import Uncertainty


def test_it_starts_at_zero_even_where_there_is_no_image_or_no_noise():
    log_snr = np.array([-np.inf, -10.0, 0.0, np.inf], "float32")
    np.testing.assert_array_equal(Uncertainty()(log_snr), 0)


def test_it_is_linear_in_the_embedding_of_a_quarter_of_the_log_of_sigma():
    layer = Uncertainty(channels=16)
    layer.build((None,))
    kernel = np.random.default_rng(0).standard_normal((16, 1))
    layer.linear.set_weights([kernel])
    # Karras et al. 2024: c_noise = log(sigma) / 4.
    sigma = np.array([0.002, 0.3, 1.0, 80.0])
    features = layer.embedding(np.float32(np.log(sigma) / 4))
    expected = (np.asarray(features) @ kernel)[:, 0]
    u = layer(np.float32(-2 * np.log(sigma)))
    # Float32 roundings of the level, turned by frequencies of some tens.
    np.testing.assert_allclose(u, expected, atol=1e-3)
    assert np.ptp(expected) > 0.1


def test_it_learns_the_logarithm_of_the_loss():
    layer = Uncertainty()
    random = np.random.default_rng(0)
    log_snr = random.uniform(-8, 8, 512).astype("float32")
    losses = np.exp(np.sin(log_snr / 4)).astype("float32")
    optimizer = keras.optimizers.Adam(0.02)
    layer.build((None,))
    optimizer.build(layer.trainable_variables)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            u = layer(log_snr)
            loss = tf.reduce_mean(losses / tf.exp(u) + u)
        gradient = tape.gradient(loss, layer.trainable_variables)
        optimizer.apply(gradient)

    for _ in range(300):
        step()
    # Where the optimum is known: u = log L. One part in twenty of its spread
    # is what 300 steps reach.
    np.testing.assert_allclose(layer(log_snr), np.log(losses), atol=0.1)


def test_only_the_linear_layer_is_trained_and_all_is_float32():
    keras.config.set_dtype_policy("mixed_float16")
    layer = Uncertainty(channels=16)
    layer.build((None,))
    assert [w.shape for w in layer.trainable_weights] == [(16, 1)]
    assert layer(np.zeros(3, "float32")).dtype == "float32"
    assert layer.get_config()["channels"] == 16


@pytest.mark.parametrize("channels", [8, 64])
def test_it_is_built_from_its_config(channels):
    config = Uncertainty(channels).get_config()
    assert Uncertainty.from_config(config).channels == channels
