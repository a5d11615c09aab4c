"""The magnitude-preserving layers against closed forms and PyTorch."""

import keras
import numpy as np
import pytest

from keras_unet_diffusion import layers
from keras_unet_diffusion.layers.magnitude_preserving import (
    ForcedWeightNormalization,
    mp_concatenate,
    mp_silu,
    mp_sum,
    pixel_normalize,
)

RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.standard_normal(shape).astype("float32")


def mean_square(x):
    return float(np.mean(np.square(np.asarray(x, "float64"))))


def test_silu_of_normal_numbers_has_a_mean_square_of_one():
    # Gauss-Hermite quadrature of the expectation.
    x, weights = np.polynomial.hermite_e.hermegauss(99)
    squares = np.square(np.asarray(mp_silu(x), "float64"))
    expectation = np.sum(weights * squares) / np.sqrt(2 * np.pi)
    # The paper's 0.596 has three digits.
    assert abs(expectation - 1) < 2e-3


@pytest.mark.parametrize("balance", [0.0, 0.3, 0.5, 1.0])
def test_sum_keeps_the_mean_square_of_independent_inputs(balance):
    a, b = normal(100, 1000), normal(100, 1000)
    # 1e5 numbers: the mean square is known to 0.5 %.
    assert abs(mean_square(mp_sum(a, b, balance)) - 1) < 0.02
    # Their inner products with the inputs say in which proportion.
    share_a, share_b = (np.mean(mp_sum(a, b, balance) * x) for x in (a, b))
    angle = np.arctan2(share_b, share_a)
    np.testing.assert_allclose(
        np.tan(angle) if balance < 1 else 1 / np.tan(angle),
        balance / (1 - balance) if balance < 1 else 0,
        atol=0.02,
    )


@pytest.mark.parametrize("balance", [0.3, 0.5])
@pytest.mark.parametrize("num_a, num_b", [(48, 16), (8, 8), (4, 64)])
def test_concatenation_weighs_both_inputs_as_asked(num_a, num_b, balance):
    a, b = normal(50, 50, num_a), normal(50, 50, num_b)
    joined = np.asarray(mp_concatenate(a, b, balance))
    assert joined.shape == (50, 50, num_a + num_b)
    # 1e4 numbers at least: 1.4 % per deviation.
    assert abs(mean_square(joined) - 1) < 0.05
    sums = [np.sum(np.square(x)) for x in np.split(joined, [num_a], axis=-1)]
    expected = (balance / (1 - balance)) ** 2
    np.testing.assert_allclose(sums[1] / sums[0], expected, rtol=0.06)


def test_an_even_sum_and_concatenation_are_the_plain_ones_rescaled():
    a, b = normal(2, 6), normal(2, 6)
    np.testing.assert_allclose(
        mp_sum(a, b, 0.5), (a + b) / np.sqrt(2), atol=1e-6
    )
    np.testing.assert_allclose(
        mp_concatenate(a, b), np.concatenate([a, b], axis=1), atol=1e-6
    )


def test_pixels_have_unit_length_whatever_they_were():
    images = normal(2, 4, 4, 8) * 10.0 ** RANDOM.uniform(-1, 3, (2, 4, 4, 1))
    squares = np.mean(np.square(pixel_normalize(images)), axis=-1)
    # The epsilon of 1e-4 beside a length of 0.03 at least, squared.
    np.testing.assert_allclose(squares, 1, atol=1e-2)
    black = keras.ops.zeros((1, 2, 2, 8))
    np.testing.assert_array_equal(pixel_normalize(black), black)


@pytest.mark.parametrize(
    "layer, shape",
    [
        (layers.MagnitudePreservingConv2D(64, 3), (8, 16, 16, 32)),
        (layers.MagnitudePreservingConv2D(64, 1), (8, 16, 16, 32)),
        (layers.MagnitudePreservingDense(256), (256, 128)),
    ],
)
def test_kernels_keep_the_mean_square_of_uncorrelated_inputs(layer, shape):
    outputs = np.asarray(layer(normal(*shape)))
    if outputs.ndim == 4:  # Zeros at the border take a little away.
        outputs = outputs[:, 1:-1, 1:-1]
    assert abs(mean_square(outputs) - 1) < 0.05
    assert len(layer.weights) == 1  # No bias.


def test_fourier_features_have_a_mean_square_of_one():
    layer = layers.MagnitudePreservingFourierEmbedding(4096)
    features = layer(np.linspace(-3, 3, 32))
    # 4096 random phases: 1.1 % per deviation and level.
    squares = np.mean(np.square(features), axis=1)
    np.testing.assert_allclose(squares, 1, atol=0.06)
    assert not layer.trainable_weights


@pytest.mark.parametrize("num_classes", [None, 50])
def test_the_embedding_has_a_mean_square_of_one(num_classes):
    layer = layers.MagnitudePreservingEmbedding(1024, 256, num_classes)
    inputs = [np.linspace(-2, 2, 50)]
    if num_classes:
        inputs.append(np.arange(50))
    assert abs(mean_square(layer(*inputs)) - 1) < 0.1


def test_the_label_embedding_is_a_one_hot_product():
    layer = layers.MagnitudePreservingEmbedding(
        6, 4, num_classes=5, null_label=True
    )
    labels = np.array([4, 0, 2, 5])
    level = np.zeros(4)
    layer(level, labels)
    table = RANDOM.standard_normal((5, 6))
    layer.label_table.assign(table)
    one_hot = np.eye(6)[labels][:, :5] * np.sqrt(5)
    kernel = table / np.linalg.norm(table, axis=0)
    noise = np.asarray(layer.noise_projection(layer.waves(level)))
    joined = (noise + one_hot @ kernel) / np.sqrt(2)
    expected = joined / (1 + np.exp(-joined)) / 0.596
    # The epsilon of 1e-4 in the kernel's length.
    np.testing.assert_allclose(layer(level, labels), expected, atol=1e-3)


def test_the_constraint_changes_lengths_and_not_directions():
    kernel = normal(3, 3, 8, 5) * np.linspace(0.1, 10, 5).astype("float32")
    forced = np.asarray(ForcedWeightNormalization()(kernel))
    lengths = np.sqrt(np.mean(np.square(forced), axis=(0, 1, 2)))
    # The epsilon of 1e-4 beside lengths of 0.1 and more.
    np.testing.assert_allclose(lengths, 1, atol=2e-3)
    ratio = forced / kernel
    np.testing.assert_allclose(ratio, ratio[:1, :1, :1] + 0 * ratio, rtol=1e-5)
    # Kernels that were never trained are stored normalised as well.
    layer = layers.MagnitudePreservingDense(4)
    layer.build((None, 100))
    lengths = np.sqrt(np.mean(np.square(layer.kernel), axis=0))
    np.testing.assert_allclose(lengths, 1, atol=2e-4)


def torch_block(torch, block, images, embedding, is_encoder):
    """Config G of the paper in PyTorch, from the weights of `block`."""
    functional = torch.nn.functional

    def kernel(layer):
        weight = torch.tensor(np.array(layer.kernel))
        if weight.ndim == 2:
            weight = weight[None, None]
        weight = weight.permute(3, 2, 0, 1)
        return functional.normalize(weight.flatten(1), dim=1).view_as(weight)

    def conv(x, layer):
        return functional.conv2d(x, kernel(layer), padding="same")

    def silu(x):
        return functional.silu(x) / 0.596

    def unit(x, dim):
        return x * x.shape[dim] ** 0.5 / x.norm(dim=dim, keepdim=True)

    def blend(a, b):  # 0.7 : 0.3
        return (0.7 * a + 0.3 * b) / 0.58**0.5

    x = torch.tensor(images).permute(0, 3, 1, 2)
    if is_encoder:
        x = functional.avg_pool2d(x, 2)
        x = residual = unit(conv(x, block.shortcut), 1)
    else:
        residual = functional.interpolate(x, scale_factor=2.0)
        x = conv(residual, block.shortcut)
    modulation = kernel(block.modulation)[:, :, 0, 0]
    scale = torch.tensor(embedding) @ modulation.T
    scale = 1 + scale * float(block.modulation.gain)
    residual = conv(silu(residual), block.conv_1) * scale[:, :, None, None]
    x = blend(x, conv(silu(residual), block.conv_2))
    batch, channels, height, width = x.shape
    attention = block.attention
    query, key, value = (
        unit(conv(x, layer).view(batch, -1, 8, height * width), 2)
        .transpose(2, 3)
        .contiguous()
        for layer in (attention.query, attention.key, attention.value)
    )
    y = functional.scaled_dot_product_attention(query, key, value)
    y = y.transpose(2, 3).reshape(batch, channels, height, width)
    x = blend(x, conv(y, attention.output_projection))
    return x.clip(-256, 256).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("is_encoder", [True, False])
def test_blocks_are_those_of_the_paper_restated_in_pytorch(is_encoder):
    torch = pytest.importorskip("torch")
    layer = (
        layers.MagnitudePreservingEncoderBlock
        if is_encoder
        else layers.MagnitudePreservingDecoderBlock
    )
    block = layer(24, resample=True, num_head_channels=8)
    images, embedding = normal(2, 8, 8, 16), normal(2, 12)
    block(images, embedding)
    block.modulation.gain.assign(0.7)
    expected = torch_block(torch, block, images, embedding, is_encoder)
    # Several normalisations that add 1e-4 here and nothing there.
    np.testing.assert_allclose(block(images, embedding), expected, atol=5e-3)


@pytest.mark.parametrize(
    "layer",
    [
        layers.MagnitudePreservingEncoderBlock,
        layers.MagnitudePreservingDecoderBlock,
    ],
)
def test_blocks_bound_what_they_hand_on(layer):
    block = layer(16)
    images = 1e4 * normal(1, 4, 4, 16)
    outputs = np.abs(block(images, normal(1, 12)))
    assert outputs.max() <= 256


def test_arguments_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="balance=1.5"):
        layers.MagnitudePreservingConcatenate(1.5)
    with pytest.raises(ValueError, match="channels=0"):
        layers.MagnitudePreservingDense(0)
