"""Initial weights: each family's published distributions, layer by layer."""

import functools

import numpy as np
import pytest

from keras_unet_diffusion import UNet, layers
from keras_unet_diffusion.layers.initialization import initializers

IMAGES = (1, 4, 4, 64)
VECTORS = (1, 128)


def built(layer, *shapes):
    layer(*[np.zeros(shape, "float32") for shape in shapes])
    return layer


def glorot(fan_in, fan_out):
    return (6 / (fan_in + fan_out)) ** 0.5


def residual_block(**arguments):
    return built(layers.ResidualBlock(96, **arguments), IMAGES, VECTORS)


def attention(**arguments):
    return built(layers.SpatialSelfAttention(**arguments), IMAGES)


def cross_attention(**arguments):
    layer = layers.SpatialCrossAttention(**arguments)
    return built(layer, IMAGES, (1, 3, 128))


def noise_level(**arguments):
    layer = layers.NoiseLevelEmbedding(512, 128, **arguments)
    return built(layer, (1,))


def downsample(**arguments):
    return built(layers.Downsample(96, **arguments), IMAGES)


def pyramid(**arguments):
    return built(layers.PyramidDownsample(96, **arguments), IMAGES)


def upsample(**arguments):
    return built(layers.Upsample(96, **arguments), IMAGES)


def one_hot(**arguments):
    layer = layers.LabelEmbedding(100, 96, one_hot=True, **arguments)
    layer(np.array([0]))
    return layer


# To build it takes a second, and it has many parts.
@functools.cache
def network(**arguments):
    return UNet(
        image_size=8,
        image_channels=32,
        base_channels=64,
        channel_multipliers=(1, 2),
        num_residual_blocks=1,
        attention_resolutions=(4,),
        encoder_pyramid="skip",
        decoder_pyramid="residual",
        skip_connections="add",
        augmentation_channels=32,
        **arguments,
    )


# What is made, its part, inputs and outputs of the part, the part's role.
WEIGHTS = [
    (residual_block, "conv_1", 9 * 64, 9 * 96, "hidden"),
    (residual_block, "conv_2", 9 * 96, 9 * 96, "last"),
    (residual_block, "shortcut", 64, 96, "hidden"),
    (residual_block, "injection", 128, 96, "hidden"),
    (
        functools.partial(residual_block, scale_shift=True),
        "norm_2.modulation",
        128,
        2 * 96,
        "hidden",
    ),
    (attention, "query", 64, 64, "attention"),
    (attention, "key", 64, 64, "attention"),
    (attention, "value", 64, 64, "attention"),
    (attention, "output_projection", 64, 64, "last"),
    (cross_attention, "query", 64, 64, "attention"),
    (cross_attention, "key", 128, 64, "attention"),
    (cross_attention, "output_projection", 64, 64, "last"),
    (noise_level, "dense_1", 128, 512, "hidden"),
    (noise_level, "dense_2", 512, 512, "hidden"),
    (downsample, "conv", 9 * 64, 9 * 96, "hidden"),
    (pyramid, "", 9 * 64, 9 * 96, "hidden"),
    (upsample, "conv", 9 * 64, 9 * 96, "hidden"),
    (one_hot, "table", 100, 96, "hidden"),
    (network, "stem", 9 * 32, 9 * 64, "hidden"),
    (network, "augmentation_embedding", 32, 64, "hidden"),
    (network, "encoder_4x4_pyramid", 32, 64, "hidden"),
    (network, "decoder_4x4_pyramid", 9 * 128, 9 * 128, "hidden"),
    (network, "decoder_8x8_pyramid.conv", 9 * 128, 9 * 64, "hidden"),
    (network, "decoder_8x8_skip_1_projection", 64, 128, "hidden"),
    (network, "output_conv", 9 * 64, 9 * 32, "last"),
]


def kernel_and_bias(make, part, family):
    """Numpy weights of one part; the bias is None where there is none."""
    whole = make(initialization=family)
    first, _, rest = part.partition(".")
    if make is network:
        layer = whole.get_layer(first)
        layer = getattr(layer, rest) if rest else layer
    elif part == "table":
        return np.asarray(whole.table), np.asarray(whole.bias)
    else:
        layer = whole
        for name in filter(None, part.split(".")):
            layer = getattr(layer, name)
    bias = None if layer.bias is None else np.asarray(layer.bias)
    return np.asarray(layer.kernel), bias


def assert_uniform(weights, limit):
    """Uniform in [-limit, limit]: that is its extreme, and its deviation."""
    # Rounding of the largest float32.
    assert np.abs(weights).max() <= limit * (1 + 1e-6)
    # Of n numbers the deviation is known to 0.45 / sqrt(n): five of those.
    tolerance = 5 * 0.45 / weights.size**0.5
    assert abs(weights.std() / (limit / 3**0.5) - 1) < tolerance
    assert abs(weights.mean()) < 5 * limit / (3 * weights.size) ** 0.5


ids = [f"{i}-{row[1] or 'kernel'}" for i, row in enumerate(WEIGHTS)]
each_weight = pytest.mark.parametrize(
    "make, part, fan_in, fan_out, role", WEIGHTS, ids=ids
)


@pytest.mark.parametrize(
    "family, factors",
    [
        ("ddpm", {"hidden": 1, "attention": 1, "last": 1e-5}),
        # Queries, keys and values are one layer of 3C outputs in EDM: its
        # Glorot limit sqrt(6 / 4C) is sqrt(1/2) of that of C outputs.
        ("edm", {"hidden": 1, "attention": 0.1**0.5, "last": 1e-5}),
    ],
)
@each_weight
def test_ddpm_and_edm_start_at_glorot_limits_with_zero_biases(
    make, part, fan_in, fan_out, role, family, factors
):
    kernel, bias = kernel_and_bias(make, part, family)
    assert_uniform(kernel, factors[role] * glorot(fan_in, fan_out))
    if bias is not None:
        np.testing.assert_array_equal(bias, 0)


@pytest.mark.parametrize("family", ["adm", "diffusers"])
@each_weight
def test_adm_and_diffusers_start_at_pytorchs_limits(
    make, part, fan_in, fan_out, role, family
):
    kernel, bias = kernel_and_bias(make, part, family)
    if family == "adm" and role == "last":
        np.testing.assert_array_equal(kernel, 0)
        np.testing.assert_array_equal(bias, 0)
        return
    assert_uniform(kernel, fan_in**-0.5)
    if bias is not None:
        assert_uniform(bias, fan_in**-0.5)


@pytest.mark.parametrize("family", ["adm", "diffusers"])
def test_pytorchs_own_layers_start_at_the_same_limits(family):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    ours = kernel_and_bias(residual_block, "conv_1", family)
    theirs = torch.nn.Conv2d(64, 96, 3)
    for x, y in zip(ours, (theirs.weight, theirs.bias), strict=True):
        # The largest of at least 96 numbers is near the limit.
        assert abs(np.abs(x).max() / y.abs().max().item() - 1) < 0.1


@pytest.mark.parametrize("family", ["ddpm", "adm", "diffusers", "edm"])
def test_rows_of_labels_start_standard_normal(family):
    embedding = layers.LabelEmbedding(100, 100, initialization=family)
    embedding(np.array([0]))
    table = np.asarray(embedding.table)
    # Of 10000 numbers the deviation is known to 0.007, the mean to 0.01.
    assert abs(table.std() - 1) < 0.035
    assert abs(table.mean()) < 0.05
    assert np.abs(table).max() > 3  # which a uniform one never reaches


def test_a_transposed_convolution_counts_the_2x2_weights_it_uses():
    up = upsample(interpolation="transposed", initialization="adm")
    # Each output is a sum over 2x2 of the 4x4 weights and 64 channels.
    assert_uniform(np.asarray(up.conv.kernel), (4 * 64) ** -0.5)


def test_normalizations_start_as_nothing_but_normalizations():
    block = residual_block(initialization="diffusers", scale_shift=True)
    norms = [block.norm_1, block.norm_2]
    norms.append(attention(initialization="diffusers").norm)
    for norm in norms:
        np.testing.assert_array_equal(norm.gamma, 1)
        np.testing.assert_array_equal(norm.beta, 0)


@pytest.mark.parametrize("family", ["ddpm", "adm", "diffusers", "edm"])
def test_two_layers_start_with_different_weights(family):
    first, second = (
        np.asarray(downsample(initialization=family).conv.kernel)
        for _ in range(2)
    )
    assert np.abs(first - second).max() > 0.01


def test_an_unknown_family_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'he'. Choose one of ddpm, adm"):
        initializers("he", 9)
