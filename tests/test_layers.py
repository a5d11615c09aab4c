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
