"""Embeddings of noise levels and labels against their closed forms."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_unet_diffusion import layers

LEVELS = np.array([0.0, 7.0, 998.5], "float32")
# float32 sines of phases up to 1000, which are known to 3e-5 themselves.
PHASE_ROUNDING = 1e-4


def random_vectors(*shape, seed=0):
    random = np.random.default_rng(seed)
    return random.standard_normal(shape).astype("float32")


@pytest.mark.parametrize(
    "frequency_shift, frequencies",
    # Six waves are three frequencies, 10000 ** (-i / (3 - shift)).
    [(1, [1, 1e-2, 1e-4]), (0, [1, 10 ** (-4 / 3), 10 ** (-8 / 3)])],
)
@pytest.mark.parametrize("order", ["sin_cos", "cos_sin"])
@pytest.mark.parametrize("channels", [6, 7])
def test_sinusoids_are_the_published_ones(
    channels, order, frequency_shift, frequencies
):
    phases = LEVELS[:, None].astype("float64") * frequencies
    waves = {"sin": np.sin(phases), "cos": np.cos(phases)}
    first, second = order.split("_")
    expected = np.concatenate([waves[first], waves[second]], axis=1)
    if channels == 7:  # what is missing comes last, as zero
        expected = np.concatenate([expected, np.zeros((3, 1))], axis=1)
    embedding = layers.SinusoidalEmbedding(
        channels, order=order, frequency_shift=frequency_shift
    )
    np.testing.assert_allclose(embedding(LEVELS), expected, atol=PHASE_ROUNDING)


def test_the_slowest_sinusoid_has_the_longest_period():
    embedding = layers.SinusoidalEmbedding(8, max_period=100.0)
    phase = np.array([np.pi / 6 * 100], "float32")
    # sin(30 degrees), at the last of four frequencies.
    assert abs(embedding(phase)[0, 3] - 0.5) < PHASE_ROUNDING


@pytest.mark.parametrize("order", ["sin_cos", "cos_sin"])
def test_fourier_features_are_whole_waves_of_their_frequencies(order):
    embedding = layers.FourierEmbedding(8, order=order)
    embedding(LEVELS)
    embedding.frequencies.assign([0.5, 0.25, 0.01, 2.0])
    # Half a wave, a quarter, a hundredth, and two, per unit of the input.
    angles = 2 * np.pi * np.array([0.5, 0.25, 0.01, 2.0])
    sines, cosines = np.sin(angles), np.cos(angles)
    expected = {"sin_cos": [*sines, *cosines], "cos_sin": [*cosines, *sines]}
    # Angles up to 4 pi.
    np.testing.assert_allclose(
        embedding(np.ones(1))[0], expected[order], atol=1e-5
    )


def test_fourier_frequencies_are_random_of_the_given_scale_and_stay():
    embedding = layers.FourierEmbedding(20000, scale=16.0)
    embedding(LEVELS)
    frequencies = np.asarray(embedding.frequencies)
    # Of 10000 numbers the mean is known to 0.16 and the deviation to 0.11.
    assert abs(frequencies.mean()) < 0.8
    assert abs(frequencies.std() - 16) < 0.6
    assert embedding.trainable_variables == []


def test_two_fourier_embeddings_have_different_frequencies():
    first, second = (layers.FourierEmbedding(8) for _ in range(2))
    assert np.abs(np.asarray(first(LEVELS)) - second(LEVELS)).max() > 0.1


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("fourier_scale", [None, 16.0])
def test_waves_are_float32_under_every_policy(policy, fourier_scale):
    exact = layers.NoiseLevelEmbedding(16, 8, fourier_scale=fourier_scale)
    mixed = layers.NoiseLevelEmbedding(
        16, 8, fourier_scale=fourier_scale, dtype=policy
    )
    exact(LEVELS), mixed(LEVELS)
    mixed.set_weights(exact.get_weights())
    waves = mixed.waves(LEVELS)
    assert keras.backend.standardize_dtype(waves.dtype) == "float32"
    np.testing.assert_array_equal(waves, exact.waves(LEVELS))


def test_noise_levels_are_told_apart_under_bfloat16():
    # bfloat16 itself has no number between 996 and 1000.
    embedding = layers.NoiseLevelEmbedding(64, 32, dtype="mixed_bfloat16")
    low, high = np.asarray(embedding(np.array([998.0, 999.0])), "float32")
    assert np.abs(low - high).max() > 0.05


@pytest.mark.parametrize("has_added", [False, True])
def test_the_noise_level_embedding_is_a_perceptron_on_waves(has_added):
    added = random_vectors(3, 8) if has_added else None
    embedding = layers.NoiseLevelEmbedding(12, 8, order="cos_sin")
    embedding(LEVELS, added)
    weights = [
        random_vectors(8, 12, seed=1),
        random_vectors(12, seed=2),
        random_vectors(12, 12, seed=3),
        random_vectors(12, seed=4),
    ]
    embedding.set_weights(weights)
    waves = np.asarray(layers.SinusoidalEmbedding(8, order="cos_sin")(LEVELS))
    hidden = (waves + added if has_added else waves) @ weights[0] + weights[1]
    hidden = hidden / (1 + np.exp(-hidden))  # SiLU
    expected = hidden @ weights[2] + weights[3]
    # Sums of 12 float32 products of size 10.
    np.testing.assert_allclose(embedding(LEVELS, added), expected, atol=1e-4)


def test_labels_select_rows_of_the_table():
    embedding = layers.LabelEmbedding(5, 3)
    rows = embedding(np.array([4, 0, 4]))
    assert embedding.bias is None
    (table,) = embedding.get_weights()
    assert table.shape == (5, 3)
    np.testing.assert_array_equal(rows, table[[4, 0, 4]])


def test_a_learned_null_label_is_one_more_row():
    embedding = layers.LabelEmbedding(5, 3, null_label="learned")
    rows = embedding(np.array([5, 2]))
    (table,) = embedding.get_weights()
    assert table.shape == (6, 3)
    np.testing.assert_array_equal(rows, table[[5, 2]])


def test_a_zero_null_label_is_no_row_and_trains_none():
    embedding = layers.LabelEmbedding(5, 3, null_label="zero")
    embedding(np.array([0]))
    assert embedding.table.shape == (5, 3)
    with tf.GradientTape() as tape:
        rows = embedding(np.array([5, 2]))
        loss = tf.reduce_sum(rows)
    np.testing.assert_array_equal(rows[0], np.zeros(3))
    np.testing.assert_array_equal(rows[1], embedding.get_weights()[0][2])
    gradient = tape.gradient(loss, embedding.trainable_variables)[0]
    expected = np.zeros((5, 3))
    expected[2] = 1
    np.testing.assert_array_equal(tf.convert_to_tensor(gradient), expected)


@pytest.mark.parametrize("null_label", [None, "learned", "zero"])
def test_one_hot_labels_go_through_a_dense_layer(null_label):
    embedding = layers.LabelEmbedding(5, 3, null_label=null_label, one_hot=True)
    embedding(np.array([0]))
    num_rows = 6 if null_label == "learned" else 5
    kernel, bias = random_vectors(num_rows, 3), random_vectors(3, seed=1)
    embedding.set_weights([kernel, bias])
    labels = np.array([4, 0] if null_label is None else [4, 0, 5])
    one_hot = np.eye(6)[labels][:, :num_rows]  # class 5 of 5: all zeros
    # Root mean square 1 over the five classes.
    expected = 5**0.5 * one_hot @ kernel + bias
    # One float32 product and sum.
    np.testing.assert_allclose(embedding(labels), expected, atol=1e-6)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: layers.SinusoidalEmbedding(3), "channels=3. Pass a larger"),
        (lambda: layers.SinusoidalEmbedding(8, order="sin"), "order='sin'"),
        (lambda: layers.FourierEmbedding(7), "channels=7. Pass an even"),
        (lambda: layers.FourierEmbedding(0), "channels=0. Pass an even"),
        (lambda: layers.FourierEmbedding(8, order="up"), "order='up'"),
        (lambda: layers.LabelEmbedding(0, 8), "num_classes=0, channels=8"),
        (lambda: layers.LabelEmbedding(8, 0), "num_classes=8, channels=0"),
        (
            lambda: layers.LabelEmbedding(8, 8, null_label="one"),
            "null_label='one'. Pass 'learned', 'zero' or None",
        ),
        (
            lambda: layers.NoiseLevelEmbedding(8, 8, initialization="glorot"),
            "initialization='glorot'. Choose one of ddpm, adm",
        ),
    ],
)
def test_arguments_that_make_no_embedding_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
