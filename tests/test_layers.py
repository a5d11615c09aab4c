"""Each layer against an independent computation of what it claims."""

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


def attend_in_loops(query, key, value, num_heads):
    """Attention of `(batch, pixels, channels)`, pixel by pixel."""
    channels = query.shape[-1] // num_heads
    attended = np.zeros_like(query)
    for image, head, pixel in np.ndindex(len(query), num_heads, query.shape[1]):
        own = slice(channels * head, channels * (head + 1))
        scores = key[image, :, own] @ query[image, pixel, own]
        weights = np.exp(scores / channels**0.5)
        weights /= weights.sum()
        attended[image, pixel, own] = weights @ value[image, :, own]
    return attended


def unit_heads(x, gain, num_heads):
    """Root mean square 1 of each head's channels, times a gain."""
    heads = x.reshape(*x.shape[:-1], num_heads, -1)
    root_mean_square = np.sqrt(np.square(heads).mean(-1, keepdims=True))
    return (heads / root_mean_square * np.asarray(gain)).reshape(x.shape)


@pytest.mark.parametrize("heads", [{"num_heads": 3}, {"num_head_channels": 4}])
@pytest.mark.parametrize(
    "options",
    [{}, {"query_key_norm": True}, {"residual_scale": 0.5}],
    ids=["plain", "query_key_norm", "residual_scale"],
)
@pytest.mark.parametrize("context_shape", [None, (2, 5, 7)])
def test_attention_equals_a_loop_over_heads_and_pixels(
    heads, options, context_shape
):
    inputs = [random_images(2, 3, 4, 12)]
    layer = layers.SpatialSelfAttention
    if context_shape:
        inputs.append(random_images(*context_shape, seed=2))
        layer = layers.SpatialCrossAttention
    attention = layer(**heads, **options, num_groups=4)
    attention(*inputs)
    randomize(attention, scale=0.5)
    pixels = np.reshape(attention.norm(inputs[0]), (2, 12, 12))
    context = inputs[1] if context_shape else pixels
    query = np.asarray(attention.query(pixels))
    key = np.asarray(attention.key(context))
    if attention.query_key_norm:
        query = unit_heads(query, attention.query_gain, 3)
        key = unit_heads(key, attention.key_gain, 3)
    value = np.asarray(attention.value(context))
    attended = attend_in_loops(query, key, value, num_heads=3)
    out = np.asarray(attention.output_projection(attended))
    expected = inputs[0] + out.reshape(inputs[0].shape)
    expected *= options.get("residual_scale", 1)
    # Sums of 12 float32 products of size 1 to 10.
    np.testing.assert_allclose(attention(*inputs), expected, atol=1e-4)


def test_attention_without_a_norm_sees_its_input_itself():
    images = random_images(2, 3, 4, 12)
    attention = layers.SpatialSelfAttention(normalize=False, num_groups=5)
    attention(images)
    randomize(attention, scale=0.5)
    assert attention.norm is None
    pixels = images.reshape(2, 12, 12)
    attended = attend_in_loops(
        *(
            np.asarray(layer(pixels))
            for layer in (attention.query, attention.key, attention.value)
        ),
        num_heads=1,
    )
    out = np.asarray(attention.output_projection(attended))
    np.testing.assert_allclose(
        attention(images), images + out.reshape(images.shape), atol=1e-4
    )


def test_normalized_queries_and_keys_forget_how_large_they_were():
    images = random_images(2, 4, 4, 12)
    attention = layers.SpatialSelfAttention(
        num_heads=3, num_groups=4, query_key_norm=True
    )
    attention(images)
    randomize(attention, scale=0.5)
    before = np.asarray(attention(images))
    for dense in (attention.query, attention.key):
        dense.set_weights([1000 * x for x in dense.get_weights()])
    # Only the epsilon under the root remembers, and float32 rounding.
    np.testing.assert_allclose(attention(images), before, atol=1e-4)


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
    arguments = {"num_groups": 2, "scale_shift": scale_shift}
    same = layers.ResidualBlock(8, initialization="adm", **arguments)
    np.testing.assert_array_equal(same(images, vectors), images)
    wider = layers.ResidualBlock(12, initialization="adm", **arguments)
    outputs = wider(images, vectors)
    np.testing.assert_array_equal(outputs, wider.shortcut(images))
    # DDPM's last convolution is a hundred-thousandth of a usual one.
    nearly = layers.ResidualBlock(8, **arguments)
    np.testing.assert_allclose(nearly(images, vectors), images, atol=1e-4)


@pytest.mark.parametrize("scale_shift", [False, True])
@pytest.mark.parametrize("resampling", [None, "down", "up"])
@pytest.mark.parametrize("channels, shortcut", [(8, "conv"), (12, "identity")])
def test_a_residual_block_is_its_parts_in_the_published_order(
    scale_shift, resampling, channels, shortcut
):
    images, vectors = random_images(2, 4, 4, 8), random_images(2, 6)
    block = layers.ResidualBlock(
        channels,
        num_groups=2,
        scale_shift=scale_shift,
        resampling=resampling,
        resampling_shortcut=shortcut,
        residual_scale=0.5,
    )
    block(images, vectors)
    randomize(block, scale=0.3)
    silu = keras.activations.silu
    resample = {
        None: np.asarray,
        "down": layers.FilteredDownsample(),
        "up": layers.FilteredUpsample(),
    }[resampling]
    hidden = block.conv_1(resample(silu(block.norm_1(images))))
    if scale_shift:
        hidden = block.norm_2(hidden, silu(vectors))
    else:
        added = np.asarray(block.injection(silu(vectors)))
        hidden = block.norm_2(hidden + added[:, None, None])
    hidden = block.conv_2(silu(hidden))
    straight = resample(images)
    if channels == 12 or resampling:
        straight = block.shortcut(straight)
    else:
        assert block.shortcut is None
    expected = 0.5 * (straight + hidden)
    np.testing.assert_allclose(block(images, vectors), expected, atol=1e-5)


def test_a_block_that_resamples_needs_no_shortcut_weights():
    block = layers.ResidualBlock(8, num_groups=2, resampling="down")
    block(random_images(2, 4, 4, 8), random_images(2, 6))
    assert block.shortcut is None


def test_dropout_acts_in_training_only():
    images, vectors = random_images(2, 4, 4, 8), random_images(2, 6)
    block = layers.ResidualBlock(8, num_groups=2, dropout=0.5)
    block(images, vectors)
    block.conv_2.set_weights([random_images(3, 3, 8, 8), np.zeros(8)])
    still = block(images, vectors)
    np.testing.assert_array_equal(block(images, vectors), still)
    dropped = block(images, vectors, training=True)
    assert np.abs(np.asarray(dropped) - still).max() > 0.1


@pytest.mark.parametrize(
    "argument",
    [
        {"dropout": 1.0},
        {"resampling": "sideways"},
        {"resampling_shortcut": "none"},
        {"initialization": "random"},
    ],
)
def test_an_argument_out_of_range_is_refused(argument):
    ((name, value),) = argument.items()
    with pytest.raises(ValueError, match=f"Received: {name}={value!r}"):
        layers.ResidualBlock(8, **argument)
