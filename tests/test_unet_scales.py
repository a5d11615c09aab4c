"""Between the scales of the U-Net: resampling, skips, pyramids, any size."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import SMALL
from unet_fixtures import layer_outputs, make_inputs, names_of, small_unet

from keras_unet_diffusion import UNet, layers

FIR = (1, 3, 3, 1)
THREE_LEVELS = {"channel_multipliers": (1, 2, 2)}


@pytest.mark.parametrize(
    "downsampling, layer",
    [
        ("strided_conv", layers.Downsample),
        ("average_pool", layers.FilteredDownsample),
        ("residual_block", layers.ResidualBlock),
    ],
)
def test_the_encoder_goes_down_as_asked(downsampling, layer):
    network = UNet(**SMALL, downsampling=downsampling)
    assert names_of(network, "downsample") == ["encoder_8x8_downsample"]
    down = network.get_layer("encoder_8x8_downsample")
    assert type(down) is layer
    assert down.output.shape == (None, 4, 4, 8)


@pytest.mark.parametrize(
    "upsampling, layer, interpolation",
    [
        ("nearest_conv", layers.Upsample, "nearest"),
        ("nearest", layers.FilteredUpsample, None),
        ("bilinear_conv", layers.Upsample, "bilinear"),
        ("bilinear", layers.BilinearUpsample, None),
        ("transposed_conv", layers.Upsample, "transposed"),
        ("residual_block", layers.ResidualBlock, None),
    ],
)
def test_the_decoder_comes_up_as_asked(upsampling, layer, interpolation):
    network = UNet(**SMALL, upsampling=upsampling)
    assert names_of(network, "upsample") == ["decoder_4x4_upsample"]
    up = network.get_layer("decoder_4x4_upsample")
    assert type(up) is layer
    assert up.output.shape == (None, 8, 8, 16)
    assert getattr(up, "interpolation", None) == interpolation


def test_resampling_blocks_are_given_the_kernel_and_the_shortcut():
    network = UNet(
        **SMALL,
        downsampling="residual_block",
        upsampling="residual_block",
        resampling_kernel=(1, 3, 3, 1),
        resampling_shortcut="conv",
    )
    for name in ("encoder_8x8_downsample", "decoder_4x4_upsample"):
        block = network.get_layer(name)
        assert block.resample.kernel == (1, 3, 3, 1)
        assert block.shortcut is not None
    # Blocks that do not resample have one where the channels change only.
    assert network.get_layer("middle_block_1").shortcut is None


def test_added_skips_are_projected_only_where_channels_differ():
    network = UNet(**SMALL, skip_connections="add")
    # Skips of 16, 8 | 8, 8 channels meet features of 16, 16 | 16, 8.
    assert names_of(network, "projection") == [
        "decoder_4x4_skip_2_projection",
        "decoder_8x8_skip_1_projection",
    ]
    inputs = make_inputs(network)
    middle, skip, joined = layer_outputs(
        network,
        inputs,
        "middle_block_2",
        "encoder_4x4_attention_1",
        "decoder_4x4_skip_1",
    )
    # One float32 sum.
    np.testing.assert_allclose(joined, middle + skip, atol=1e-6)


@pytest.mark.parametrize(
    "skips, reaches", [("concatenate", True), ("add", True), ("none", False)]
)
def test_the_skips_alone_carry_what_does_not_go_down(skips, reaches):
    network = small_unet(skip_connections=skips)
    down = network.get_layer("encoder_8x8_downsample")
    down.set_weights([np.zeros_like(x) for x in down.get_weights()])
    inputs = make_inputs(network)
    other = inputs | {"noisy_images": inputs["noisy_images"][::-1]}
    difference = np.abs(np.asarray(network(inputs)) - network(other)).max()
    assert difference > 1e-3 if reaches else difference == 0


@pytest.mark.parametrize("joined_by", ["concatenate", "add"])
def test_skips_are_scaled_and_the_features_they_meet_are_not(joined_by):
    network = small_unet(skip_connections=joined_by, skip_scale=0.5)
    names = ["encoder_4x4_attention_1", "middle_block_2", "decoder_4x4_skip_1"]
    skip, hidden, joined = layer_outputs(network, make_inputs(network), *names)
    expected = {
        "concatenate": np.concatenate([hidden, 0.5 * skip], axis=-1),
        "add": hidden + 0.5 * skip,
    }
    np.testing.assert_allclose(joined, expected[joined_by], atol=1e-6)
    assert len(names_of(network, "skip", "scale")) == 4


def conv(images, kernel, bias):
    """A convolution in a zero border: `(h, w, in)`, `(n, n, in, out)`."""
    size = kernel.shape[0]
    border = size // 2
    padded = np.pad(images, ((0, 0), (border,) * 2, (border,) * 2, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(
        padded, (size, size), axis=(1, 2)
    )
    return np.einsum("bhwcij,ijcd->bhwd", windows, kernel) + bias


def test_an_encoder_pyramid_of_skips_adds_the_smaller_image_itself():
    network = small_unet(**THREE_LEVELS, encoder_pyramid="skip")
    inputs = make_inputs(network)
    image = inputs["noisy_images"]
    for size, above in ((4, 8), (2, 4)):
        # The mean of squares of pixels, whatever the encoder does.
        image = image.reshape(2, size, 2, size, 2, 1).mean(axis=(2, 4))
        down, joined = layer_outputs(
            network,
            inputs,
            f"encoder_{above}x{above}_downsample",
            f"encoder_{size}x{size}_pyramid_sum",
        )
        layer = network.get_layer(f"encoder_{size}x{size}_pyramid")
        expected = down + conv(image, *layer.get_weights())
        np.testing.assert_allclose(joined, expected, atol=1e-5)


def test_a_residual_encoder_pyramid_goes_on_from_its_sums():
    network = small_unet(
        **THREE_LEVELS,
        encoder_pyramid="residual",
        resampling_kernel=FIR,
        residual_scale=0.5,
    )
    inputs = make_inputs(network)
    pyramid = inputs["noisy_images"]
    for size, above in ((4, 8), (2, 4)):
        layer = network.get_layer(f"encoder_{size}x{size}_pyramid")
        down, joined = layer_outputs(
            network,
            inputs,
            f"encoder_{above}x{above}_downsample",
            f"encoder_{size}x{size}_pyramid_scale",
        )
        expected = 0.5 * (down + np.asarray(layer(pyramid)))
        np.testing.assert_allclose(joined, expected, atol=1e-5)
        pyramid = joined
    # The sum is what the level's blocks and the decoder get.
    block = network.get_layer("encoder_2x2_block_1")
    skip = network.get_layer("decoder_2x2_skip_2")
    joined = network.get_layer("encoder_2x2_pyramid_scale").output
    assert block.input[0].name == skip.input[1].name == joined.name


def test_a_decoder_pyramid_of_skips_sums_an_image_of_every_level():
    network = small_unet(**THREE_LEVELS, decoder_pyramid="skip")
    inputs = make_inputs(network)
    expected = np.zeros((2, 1, 1, 1))
    for size in (2, 4, 8):
        name = f"decoder_{size}x{size}_pyramid"
        silu, image = layer_outputs(
            network, inputs, f"{name}_silu", f"{name}_conv"
        )
        weights = network.get_layer(f"{name}_conv").get_weights()
        np.testing.assert_allclose(image, conv(silu, *weights), atol=1e-4)
        if size > 2:
            expected = expected.repeat(2, axis=1).repeat(2, axis=2)
        expected = expected + image
    np.testing.assert_allclose(network(inputs), expected, atol=1e-5)
    assert names_of(network, "output") == []


def test_a_residual_decoder_pyramid_goes_on_from_its_sums():
    network = small_unet(
        **THREE_LEVELS, decoder_pyramid="residual", residual_scale=0.5
    )
    inputs = make_inputs(network)
    silu, pyramid = layer_outputs(
        network, inputs, "decoder_2x2_pyramid_silu", "decoder_2x2_pyramid"
    )
    weights = network.get_layer("decoder_2x2_pyramid").get_weights()
    np.testing.assert_allclose(pyramid, conv(silu, *weights), atol=1e-4)
    for size, last in ((4, "attention_2"), (8, "block_2")):
        name = f"decoder_{size}x{size}"
        hidden, joined = layer_outputs(
            network, inputs, f"{name}_{last}", f"{name}_pyramid_scale"
        )
        doubled = pyramid.repeat(2, axis=1).repeat(2, axis=2)
        weights = network.get_layer(f"{name}_pyramid").conv.get_weights()
        expected = 0.5 * (hidden + conv(doubled, *weights))
        np.testing.assert_allclose(joined, expected, atol=1e-4)
        pyramid = joined
    # The features go on from the sum too, up to the output.
    assert (
        network.get_layer("output_norm").input.name
        == network.get_layer("decoder_8x8_pyramid_scale").output.name
    )


@pytest.mark.parametrize(
    "options",
    [
        # Those further below have all that the default has.
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param(
            {"downsample_padding": (1, 1), "upsampling": "transposed_conv"},
            marks=pytest.mark.slow,
        ),
        {
            "downsampling": "average_pool",
            "upsampling": "bilinear",
            "resampling_kernel": FIR,
            "encoder_pyramid": "skip",
            "decoder_pyramid": "skip",
            "super_resolution_factor": 2,
        },
        {
            "downsampling": "residual_block",
            "upsampling": "residual_block",
            "resampling_kernel": FIR,
            "encoder_pyramid": "residual",
            "decoder_pyramid": "residual",
        },
        {
            "upsampling": "bilinear_conv",
            "skip_connections": "add",
            "context_channels": 6,
            "rematerialize": True,
        },
    ],
    ids=["default", "transposed", "filtered", "blocks", "bilinear_conv"],
)
def test_a_network_of_any_size_equals_the_one_of_that_size(options):
    any_size = {
        "image_size": None,
        "attention_resolutions": (),
        "attention_levels": (1,),
    }
    free, fixed = UNet(**SMALL | options | any_size), small_unet(**options)
    assert free.level_names == ("level_0", "level_1")
    free.set_weights(fixed.get_weights())
    inputs = make_inputs(fixed)
    signature = {
        name: tf.TensorSpec(x.shape, x.dtype) for name, x in free.input.items()
    }
    compiled = tf.function(free).get_concrete_function(signature)

    def run(inputs):
        return compiled({name: tf.constant(x) for name, x in inputs.items()})

    # The same operations, with sizes known only at run time.
    np.testing.assert_allclose(run(inputs), fixed(inputs), atol=1e-5)
    oblong = inputs | {"noisy_images": np.zeros((2, 4, 12, 1), "float32")}
    if "low_resolution_images" in oblong:
        oblong["low_resolution_images"] = np.zeros((2, 2, 6, 1), "float32")
    assert run(oblong).shape == (2, 4, 12, 1)
