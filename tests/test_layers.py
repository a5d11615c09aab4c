"""Each layer against an independent computation of what it claims."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_unet_diffusion import layers
from keras_unet_diffusion.layers.filtering import double_nearest


def random_images(*shape, seed=0):
    random = np.random.default_rng(seed)
    return random.standard_normal(shape).astype("float32")


def test_sinusoids_are_the_published_ones():
    embedding = layers.SinusoidalEmbedding(6)(np.array([7.0]))
    # Frequencies 10000 ** (-i / (half - 1)) for half = 3: 1, 1/100, 1/10000.
    angles = [7.0, 0.07, 0.0007]
    expected = [*np.sin(angles), *np.cos(angles)]
    np.testing.assert_allclose(embedding[0], expected, atol=1e-6)


def test_noise_levels_are_told_apart_under_bfloat16():
    # bfloat16 itself has no number between 996 and 1000.
    embedding = layers.NoiseLevelEmbedding(64, 32, dtype="mixed_bfloat16")
    low, high = np.asarray(embedding(np.array([998.0, 999.0])), "float32")
    assert np.abs(low - high).max() > 0.05


def test_an_odd_number_of_sinusoids_is_refused():
    with pytest.raises(ValueError, match="channels=7.*even number"):
        layers.SinusoidalEmbedding(7)


def test_labels_select_rows_of_the_table():
    embedding = layers.LabelEmbedding(5, 3)
    rows = embedding(np.array([4, 0, 4]))
    table = embedding.get_weights()[0]
    np.testing.assert_array_equal(rows, table[[4, 0, 4]])


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


def test_an_epsilon_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="epsilon=0"):
        layers.GroupNormalization(4, epsilon=0)


@pytest.mark.parametrize("heads", [{"num_heads": 3}, {"num_head_channels": 4}])
def test_attention_equals_a_loop_over_heads_and_pixels(heads):
    images = random_images(2, 3, 4, 12)
    attention = layers.SpatialSelfAttention(**heads, num_groups=4)
    attention(images)
    random = np.random.default_rng(1)
    attention.set_weights(
        [0.5 * random.standard_normal(w.shape) for w in attention.weights]
    )
    pixels = np.reshape(attention.norm(images), (2, 12, 12))
    query, key, value, out = (
        (lambda x, layer=layer: np.asarray(layer(x)))
        for layer in (
            attention.query,
            attention.key,
            attention.value,
            attention.output_projection,
        )
    )
    q, k, v = query(pixels), key(pixels), value(pixels)
    attended = np.zeros_like(pixels)
    for image in range(2):
        for head in range(3):
            own = slice(4 * head, 4 * head + 4)
            for pixel in range(12):
                scores = k[image, :, own] @ q[image, pixel, own] / 2.0
                weights = np.exp(scores - scores.max())
                weights /= weights.sum()
                attended[image, pixel, own] = weights @ v[image, :, own]
    expected = images + out(attended).reshape(images.shape)
    # Sums of 12 float32 products of size 1 to 10.
    np.testing.assert_allclose(attention(images), expected, atol=1e-4)


def test_attention_sees_the_whole_image():
    images = random_images(1, 4, 4, 8)
    attention = layers.SpatialSelfAttention(num_groups=2)
    attention(images)
    attention.output_projection.set_weights([np.eye(8), np.zeros(8)])
    x = tf.Variable(images)
    with tf.GradientTape() as tape:
        corner = tf.reduce_sum(attention(x)[:, 0, 0])
    gradient = np.abs(tape.gradient(corner, x).numpy())
    assert (gradient.max(axis=-1) > 0).all()


@pytest.mark.parametrize(
    "heads, message",
    [
        ({"num_heads": 5}, "num_heads=5"),
        ({"num_head_channels": 7}, "num_head_channels=7"),
    ],
)
def test_heads_that_do_not_divide_are_refused(heads, message):
    with pytest.raises(ValueError, match=f"channels=16, {message}"):
        layers.SpatialSelfAttention(**heads, num_groups=4)(
            random_images(1, 2, 2, 16)
        )


@pytest.mark.parametrize("scale_shift", [False, True])
def test_a_new_residual_block_is_its_shortcut(scale_shift):
    images, vectors = random_images(2, 4, 4, 8), random_images(2, 6)
    same = layers.ResidualBlock(8, num_groups=2, scale_shift=scale_shift)
    np.testing.assert_array_equal(same(images, vectors), images)
    wider = layers.ResidualBlock(12, num_groups=2, scale_shift=scale_shift)
    outputs = wider(images, vectors)
    np.testing.assert_array_equal(outputs, wider.shortcut(images))


@pytest.mark.parametrize("scale_shift", [False, True])
def test_a_residual_block_is_its_parts_in_the_published_order(scale_shift):
    images, vectors = random_images(2, 4, 4, 8), random_images(2, 6)
    block = layers.ResidualBlock(8, num_groups=2, scale_shift=scale_shift)
    block(images, vectors)
    random = np.random.default_rng(1)
    block.set_weights(
        [0.3 * random.standard_normal(w.shape) for w in block.weights]
    )
    silu = keras.activations.silu
    hidden = block.conv_1(silu(block.norm_1(images)))
    if scale_shift:
        hidden = block.norm_2(hidden, silu(vectors))
    else:
        added = np.asarray(block.injection(silu(vectors)))
        hidden = block.norm_2(hidden + added[:, None, None])
    expected = images + block.conv_2(silu(hidden))
    np.testing.assert_allclose(block(images, vectors), expected, atol=1e-5)


def test_dropout_acts_in_training_only():
    images, vectors = random_images(2, 4, 4, 8), random_images(2, 6)
    block = layers.ResidualBlock(8, num_groups=2, dropout=0.5)
    block(images, vectors)
    block.conv_2.set_weights([random_images(3, 3, 8, 8), np.zeros(8)])
    still = block(images, vectors)
    np.testing.assert_array_equal(block(images, vectors), still)
    dropped = block(images, vectors, training=True)
    assert np.abs(np.asarray(dropped) - still).max() > 0.1


def test_a_dropout_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"dropout=1\.0"):
        layers.ResidualBlock(8, dropout=1.0)


def test_doubling_repeats_each_pixel_as_a_square():
    images = random_images(2, 3, 5, 4)
    expected = images.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(double_nearest(images), expected)


@pytest.mark.parametrize("padding", [(0, 1), (1, 1)])
def test_downsampling_is_a_strided_sum_over_explicit_padding(padding):
    images = random_images(1, 6, 6, 2)
    down = layers.Downsample(3, padding)
    down(images)
    kernel = random_images(3, 3, 2, 3, seed=1)
    down.conv.set_weights([kernel, np.zeros(3)])
    padded = np.pad(images, ((0, 0), padding, padding, (0, 0)))
    outputs = np.asarray(down(images))
    assert outputs.shape == (1, 3, 3, 3)
    for row in range(3):
        for column in range(3):
            patch = padded[
                0, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3
            ]
            expected = np.einsum("hwc,hwcd->d", patch, kernel)
            np.testing.assert_allclose(
                outputs[0, row, column], expected, atol=1e-5
            )


def test_another_padding_is_refused():
    with pytest.raises(ValueError, match=r"padding=\(2, 2\)"):
        layers.Downsample(3, padding=(2, 2))


def test_resampling_takes_sizes_known_only_at_run_time():
    down, up = layers.Downsample(4), layers.Upsample(2)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 2))])
    def down_and_up(images):
        return up(down(images))

    for height, width in ((4, 6), (8, 2)):
        images = random_images(3, height, width, 2)
        assert down_and_up(images).shape == images.shape
