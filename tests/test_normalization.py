"""The normalizations against Keras's and against float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import randomize

from keras_unet_diffusion import layers


def random_images(*shape, seed=0):
    random = np.random.default_rng(seed)
    return random.standard_normal(shape).astype("float32")


@pytest.mark.parametrize("epsilon", [1e-6, 1e-3])
def test_group_normalization_equals_kerass_own(epsilon):
    images = random_images(2, 5, 6, 12) * 3 + 2
    ours = layers.GroupNormalization(num_groups=4, epsilon=epsilon)
    keras_layer = keras.layers.GroupNormalization(4, epsilon=epsilon)
    keras_layer(images), ours(images)
    weights = [random_images(12, seed=1), random_images(12, seed=2)]
    ours.set_weights(weights)
    keras_layer.set_weights(weights)
    # Both are float32 computations of numbers of size 10.
    np.testing.assert_allclose(ours(images), keras_layer(images), atol=1e-5)


def test_group_normalization_survives_a_large_mean():
    images = random_images(1, 16, 16, 8).astype("float64") + 1000
    normalized = layers.GroupNormalization(2)(images.astype("float32"))
    groups = images.astype("float32").astype("float64").reshape(256, 2, 4)
    mean, deviation = groups.mean((0, 2)), groups.std((0, 2))
    expected = (groups - mean[None, :, None]) / deviation[None, :, None]
    # The mean of 1000 itself is only known to 6e-5 in float32.
    np.testing.assert_allclose(
        np.reshape(normalized, (256, 2, 4)), expected, atol=2e-4
    )


def gradients_of(function, variables, upstream):
    with tf.GradientTape() as tape:
        outputs = function()
    return outputs, tape.gradient(outputs, variables, upstream)


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("mean", [0.5, 1000.0])
def test_gradients_of_normalizations_are_those_of_kerass_own(modulated, mean):
    images = tf.Variable(random_images(3, 4, 5, 12).astype("float64") + mean)
    vectors = random_images(3, 6, seed=1).astype("float64")
    upstream = random_images(3, 4, 5, 12, seed=2).astype("float64")
    options = {"epsilon": 1e-3, "dtype": "float64"}
    reference = keras.layers.GroupNormalization(4, **options)
    reference.build(images.shape)
    randomize(reference, scale=1.0)
    if modulated:
        ours = layers.ModulatedGroupNormalization(4, **options)
        ours(images, vectors)
        randomize(ours.modulation, scale=1.0)
    else:
        ours = layers.GroupNormalization(4, **options)
        ours(images)
    for name in ("gamma", "beta"):
        getattr(ours, name).assign(getattr(reference, name))

    def call_ours():
        return ours(images, vectors) if modulated else ours(images)

    def call_reference():
        normalized = reference(images)
        if not modulated:
            return normalized
        made = ours.modulation(vectors)[:, None, None, :]
        return normalized * (1 + made[..., :12]) + made[..., 12:]

    weights = [reference.gamma, reference.beta]
    mine = [ours.gamma, ours.beta]
    if modulated:
        weights += ours.modulation.trainable_variables
        mine += ours.modulation.trainable_variables
    expected = gradients_of(
        call_reference, [images, *(x.value for x in weights)], upstream
    )
    found = gradients_of(
        call_ours, [images, *(x.value for x in mine)], upstream
    )
    for one, other in zip(
        tf.nest.flatten(found), tf.nest.flatten(expected), strict=True
    ):
        # float64 of numbers of size 10; a mean of 1000 costs three digits.
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("offset_shape", [(3, 12), (12,)])
@pytest.mark.parametrize("modulated", [False, True])
def test_an_offset_is_normalized_like_a_part_of_the_images(
    modulated, offset_shape
):
    images = tf.Variable(random_images(3, 4, 5, 12).astype("float64"))
    offset = tf.Variable(random_images(*offset_shape, seed=1) * 10.0)
    offset = tf.Variable(tf.cast(offset, "float64"))
    upstream = random_images(3, 4, 5, 12, seed=2).astype("float64")
    options = {"epsilon": 1e-3, "dtype": "float64"}
    kind = layers.GroupNormalization
    arguments = []
    if modulated:
        kind = layers.ModulatedGroupNormalization
        arguments = [random_images(3, 6, seed=3)]
    norm = kind(4, **options)
    norm(images, *arguments)
    randomize(norm, scale=1.0)
    variables = [images, offset, *(x.value for x in norm.trainable_variables)]

    def added_before():
        wide = tf.reshape(offset, (-1, 1, 1, 12))
        return norm(images + wide, *arguments)

    found = gradients_of(
        lambda: norm(images, *arguments, offset=offset), variables, upstream
    )
    expected = gradients_of(added_before, variables, upstream)
    for one, other in zip(
        tf.nest.flatten(found), tf.nest.flatten(expected), strict=True
    ):
        # float64 of numbers of size 100.
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-11)


def test_statistics_survive_a_first_pixel_that_is_far_from_all_others():
    images = random_images(1, 16, 16, 8)
    images[:, 0, 0] += 10_000
    norm = layers.GroupNormalization(2)
    exact = layers.GroupNormalization(2, dtype="float64")
    exact_images = images.astype("float64")
    # One pixel of 256: the sums lose so many times float32's 2**-23.
    np.testing.assert_allclose(
        norm(images), exact(exact_images), rtol=256 * 2.0**-23, atol=1e-6
    )


def test_a_gradient_survives_a_large_mean():
    images = random_images(1, 16, 16, 8).astype("float64") + 1000
    upstream = random_images(1, 16, 16, 8, seed=1)
    gradients = []
    for dtype in ("float32", "float64"):
        x = tf.Variable(images.astype("float32").astype(dtype))
        norm = layers.GroupNormalization(2, dtype=dtype)
        norm(x)
        _, gradient = gradients_of(
            lambda norm=norm, x=x: norm(x), x, tf.cast(upstream, dtype)
        )
        gradients.append(gradient)
    # Gradients of size 1; the mean of 1000 is only known to 6e-5 in float32.
    np.testing.assert_allclose(*gradients, rtol=0, atol=2e-4)


def test_statistics_are_float32_under_float16():
    # The square of 300 is more than float16 can hold.
    images = random_images(2, 8, 8, 8) * 300
    norm = layers.GroupNormalization(2, dtype="mixed_float16")
    normalized = np.asarray(norm(images), "float32")
    assert np.isfinite(normalized).all()
    assert abs(normalized.std() - 1) < 0.01


def test_modulation_scales_and_shifts_by_the_embedding():
    images, vectors = random_images(2, 4, 4, 8), random_images(2, 3, seed=1)
    norm = layers.ModulatedGroupNormalization(2)
    norm(images, vectors)
    kernel, bias = random_images(3, 16, seed=2), random_images(16, seed=3)
    norm.modulation.set_weights([kernel, bias])
    scale, shift = np.split(vectors @ kernel + bias, 2, axis=1)
    plain = np.asarray(layers.GroupNormalization(2)(images))
    expected = plain * (1 + scale[:, None, None]) + shift[:, None, None]
    np.testing.assert_allclose(norm(images, vectors), expected, atol=1e-5)


def test_groups_that_do_not_divide_are_refused_with_both_numbers():
    with pytest.raises(ValueError, match="channels=10, num_groups=4"):
        layers.GroupNormalization(4)(random_images(1, 2, 2, 10))


@pytest.mark.parametrize("channels, groups", [(16, 4), (32, 8), (64, 8)])
def test_narrow_layers_take_fewer_groups(channels, groups):
    images = random_images(2, 3, 4, channels)
    narrow = layers.GroupNormalization(8, min_group_channels=4)
    expected = layers.GroupNormalization(groups)(images)
    np.testing.assert_array_equal(narrow(images), expected)


def test_an_epsilon_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="epsilon=0"):
        layers.GroupNormalization(4, epsilon=0)
