"""Operations of networks, against the counters of other libraries."""

import collections

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import SMALL

from keras_unet_diffusion import MagnitudePreservingUNet, PlainCNN, UNet
from keras_unet_diffusion.flops import (
    count_flops,
    count_layer_flops,
    count_training_flops,
)

# What TensorFlow calls the operations of each kind.
KINDS = {
    "Conv2D": "convolution",
    "Conv2DBackpropInput": "convolution",  # A transposed convolution.
    "MatMul": "dense",
    "BatchMatMulV2": "attention",
    "DepthwiseConv2dNative": "resampling",
    "AvgPool": "resampling",
}
FILTER = (1, 3, 3, 1)
QUICK = ("ddpm", "ncsnpp", "magnitude_preserving", "plain_cnn")
LEVELS = {"attention_resolutions": (), "attention_levels": (1,)}
NETWORKS = {
    "ddpm": lambda: UNet(**SMALL),
    "labels": lambda: UNet(**SMALL, num_classes=10),
    "adm": lambda: UNet(
        **SMALL,
        scale_shift=True,
        downsampling="residual_block",
        upsampling="residual_block",
    ),
    "ncsnpp": lambda: UNet(
        **SMALL,
        downsampling="residual_block",
        upsampling="residual_block",
        resampling_shortcut="conv",
        resampling_kernel=FILTER,
        encoder_pyramid="residual",
        noise_level_embedding="fourier",
        num_classes=3,
        label_embedding="one_hot",
        augmentation_channels=9,
    ),
    "skip_pyramids": lambda: UNet(
        **SMALL,
        resampling_kernel=FILTER,
        downsampling="average_pool",
        upsampling="nearest",
        encoder_pyramid="skip",
        decoder_pyramid="skip",
    ),
    "residual_pyramids": lambda: UNet(
        **SMALL, encoder_pyramid="residual", decoder_pyramid="residual"
    ),
    "transposed": lambda: UNet(
        **SMALL, upsampling="transposed_conv", skip_connections="add"
    ),
    "super_resolution": lambda: UNet(
        **SMALL, super_resolution_factor=2, self_conditioning=True
    ),
    "rematerialized": lambda: UNet(**SMALL, rematerialize=True),
    "magnitude_preserving": lambda: MagnitudePreservingUNet(
        image_size=8,
        image_channels=3,
        base_channels=8,
        channel_multipliers=(1, 2),
        num_residual_blocks=1,
        attention_resolutions=(4,),
        num_head_channels=8,
        num_classes=3,
    ),
    "plain_cnn": lambda: PlainCNN(
        image_size=8, image_channels=1, channels=8, num_layers=3
    ),
}


def operations_of_tensorflow(network, shapes):
    """Operations by kind, counted by TensorFlow's profiler in the graph."""
    specs = {
        x.name: tf.TensorSpec(shapes.get(x.name, (1, *x.shape[1:])), x.dtype)
        for x in network.inputs
    }
    call = tf.function(lambda inputs: network(inputs, training=False))
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    profile = tf.compat.v1.profiler.profile(
        call.get_concrete_function(specs).graph,
        cmd="op",
        options=builder(builder.float_operation()).with_empty_output().build(),
    )
    counted = collections.Counter()
    nodes = list(profile.children)
    while nodes:
        node = nodes.pop()
        nodes += node.children
        if node.name in KINDS:
            counted[KINDS[node.name]] += node.float_ops
    return counted


def operations_of_ours(network, **sizes):
    counted = collections.Counter()
    for part in count_layer_flops(network, **sizes):
        counted[part.kind] += part.flops
    return counted


@pytest.mark.parametrize(
    "name",
    [
        # Seconds of tracing each; the others tell what a part does.
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in NETWORKS
    ],
)
def test_operations_are_those_that_tensorflow_counts_in_the_graph(name):
    network = NETWORKS[name]()
    ours = operations_of_ours(network)
    if name == "super_resolution":
        # TensorFlow has no bilinear resizing to count here, but sums and
        # products: 8x8 from 4x4 pixels is 2 products and a sum for each of
        # the 4 * 8 and then 8 * 8 values.
        assert ours.pop("resampling") == 3 * (4 * 8 + 8 * 8)
    assert ours == operations_of_tensorflow(network, {})


@pytest.mark.slow
def test_a_network_of_any_size_is_counted_at_the_size_that_is_asked_for():
    options = SMALL | LEVELS | {"image_size": None, "context_channels": 8}
    network = UNet(**options)
    shapes = {"noisy_images": (1, 16, 16, 1), "context": (1, 5, 8)}
    expected = operations_of_tensorflow(network, shapes)
    assert operations_of_ours(network, image_size=16, context_tokens=5) == (
        expected
    )


@pytest.mark.parametrize(
    ("given", "missing"),
    [("image_size", "context_tokens"), ("context_tokens", "image_size")],
)
def test_a_size_that_is_missing_is_asked_for(given, missing):
    options = SMALL | LEVELS | {"image_size": None, "context_channels": 8}
    with pytest.raises(ValueError, match=f"Received.*Pass {missing}"):
        count_flops(UNet(**options), **{given: 16})


def test_counting_leaves_the_network_as_it_was():
    network = UNet(**SMALL)
    inputs = {
        "noisy_images": np.ones((1, 8, 8, 1), "float32"),
        "noise_level": np.ones((1,), "float32"),
    }
    before = [keras.ops.convert_to_numpy(x) for x in network.weights]
    layer = network.get_layer("stem")
    shape, output = layer.output.shape, np.asarray(network(inputs))
    count_flops(network)
    assert layer.output.shape == shape
    np.testing.assert_array_equal(np.asarray(network(inputs)), output)
    for weight, value in zip(network.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_every_part_belongs_to_a_layer_of_the_network():
    network = UNet(**SMALL)
    parts = count_layer_flops(network)
    assert {x.layer for x in parts} <= {x.name for x in network.layers}
    names = [(x.layer, x.part) for x in parts]
    assert len(set(names)) == len(names)
    block = {x.part for x in parts if x.layer == "encoder_8x8_block_1"}
    assert block == {"conv_1", "injection", "conv_2"}
    assert all(x.flops > 0 for x in parts)


def test_a_shared_layer_counts_each_time():
    images = keras.Input((8, 8, 4))
    conv = keras.layers.Conv2D(4, 3, padding="same")
    once, twice = (
        keras.Model(images, conv(images)),
        keras.Model(images, conv(conv(images))),
    )
    assert count_flops(twice) == 2 * count_flops(once)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.SeparableConv2D(4, 3),
        keras.layers.EinsumDense("abcd,de->abce", (None, 8, 4)),
        lambda x: keras.ops.matmul(x, x),
    ],
    ids=["separable", "einsum", "matmul"],
)
def test_what_has_no_rule_is_an_error_and_not_zero(layer):
    images = keras.Input((8, 8, 8))
    network = keras.Model(images, layer(images))
    with pytest.raises(ValueError, match="It is not known how many"):
        count_flops(network)


def test_training_is_three_times_forward():
    network = NETWORKS["plain_cnn"]()
    assert count_training_flops(network) == 3 * count_flops(network)


@pytest.fixture(scope="module")
def ddpm_cifar10():
    return UNet.from_preset("ddpm_cifar10")


def test_ddpm_cifar10_trains_at_37_gigaflops_an_image(ddpm_cifar10):
    # Stated, rounded, beside the measured speeds of this network elsewhere.
    assert round(count_training_flops(ddpm_cifar10) / 1e9, 1) == 37.3
    assert round(count_flops(ddpm_cifar10) / 1e9, 1) == 12.4


@pytest.mark.slow
def test_pytorch_counts_as_much_in_the_published_network(ddpm_cifar10):
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    counter = pytest.importorskip("torch.utils.flop_counter")
    with torch.device("meta"):  # Shapes alone: it takes no arithmetic.
        published = diffusers.UNet2DModel(**PUBLISHED)
        images, steps = torch.zeros(1, 3, 32, 32), torch.zeros(1)
    with counter.FlopCounterMode(display=False) as forward:
        prediction = published(images, steps).sample
    assert forward.get_total_flops() == count_flops(ddpm_cifar10)
    with counter.FlopCounterMode(display=False) as backward:
        prediction.sum().backward()
    # Nobody computes the gradients with respect to the image and the waves.
    unused = sum(
        part.flops
        for part in count_layer_flops(ddpm_cifar10)
        if part.layer == "stem" or part.part == "dense_1"
    )
    total = forward.get_total_flops() + backward.get_total_flops()
    assert total == count_training_flops(ddpm_cifar10) - unused


# The config.json of google/ddpm-cifar10-32.
PUBLISHED = {
    "sample_size": 32,
    "block_out_channels": (128, 256, 256, 256),
    "layers_per_block": 2,
    "down_block_types": (
        "DownBlock2D",
        "AttnDownBlock2D",
        "DownBlock2D",
        "DownBlock2D",
    ),
    "up_block_types": (
        "UpBlock2D",
        "UpBlock2D",
        "AttnUpBlock2D",
        "UpBlock2D",
    ),
    "attention_head_dim": None,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
}
