"""What pixels see: by arithmetic, by gradients, and in a real network."""

import keras
import numpy as np
import pytest

from keras_unet_diffusion import MagnitudePreservingUNet, PlainCNN, UNet
from keras_unet_diffusion.studies import (
    effective_receptive_field,
    measured_receptive_field,
    theoretical_receptive_field,
)

SMALL = {
    "image_size": 16,
    "image_channels": 1,
    "base_channels": 8,
    "channel_multipliers": (1, 2, 2),
    "num_residual_blocks": 1,
    "attention_resolutions": (8,),
    "num_groups": 4,
}
# Every way in which a network changes its resolution.
NETWORKS = {
    "ddpm": {},
    "residual_blocks": {
        "downsampling": "residual_block",
        "upsampling": "residual_block",
        "resampling_kernel": (1, 3, 3, 1),
    },
    "transposed": {
        "upsampling": "transposed_conv",
        "downsample_padding": (1, 1),
    },
    "bilinear": {"downsampling": "average_pool", "upsampling": "bilinear_conv"},
    "pyramids": {
        "encoder_pyramid": "residual",
        "decoder_pyramid": "residual",
        "resampling_kernel": (1, 3, 3, 1),
        "skip_connections": "add",
    },
    "skip_pyramids": {"encoder_pyramid": "skip", "decoder_pyramid": "skip"},
    "super_resolution": {"super_resolution_factor": 2},
}


@pytest.mark.parametrize("num_layers", [2, 5])
def test_convolutions_of_3x3_pixels_add_two_each(num_layers):
    network = PlainCNN(image_size=16, num_layers=num_layers)
    assert theoretical_receptive_field(network) == 1 + 2 * num_layers
    assert measured_receptive_field(network) == 1 + 2 * num_layers


def test_pooling_doubles_what_later_convolutions_add():
    network = keras.Sequential(
        [
            keras.Input((16, 16, 1), name="noisy_images"),
            keras.layers.Conv2D(2, 3, padding="same"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Conv2D(2, 3, padding="same"),
            keras.layers.UpSampling2D(2),
        ]
    )
    # 3 pixels, one more by pooling, two at a stride of 2.
    assert theoretical_receptive_field(network) == 3 + 1 + 2 * 2


def test_dilation_spreads_a_kernel():
    image = keras.Input((16, 16, 1), name="noisy_images")
    hidden = keras.layers.Conv2D(1, 3, dilation_rate=3, padding="same")(image)
    assert theoretical_receptive_field(keras.Model(image, hidden)) == 7


@pytest.mark.parametrize(
    "name",
    [
        "residual_blocks",
        "pyramids",
        pytest.param("ddpm", marks=pytest.mark.slow),
        pytest.param("transposed", marks=pytest.mark.slow),
        pytest.param("bilinear", marks=pytest.mark.slow),
        pytest.param("skip_pyramids", marks=pytest.mark.slow),
        pytest.param("super_resolution", marks=pytest.mark.slow),
    ],
)
def test_gradients_see_what_arithmetic_says(name):
    network = UNet(**(SMALL | NETWORKS[name]))
    expected = theoretical_receptive_field(network)
    assert measured_receptive_field(network) == expected


def test_a_magnitude_preserving_network_sees_what_arithmetic_says():
    network = MagnitudePreservingUNet(
        image_size=16,
        image_channels=1,
        base_channels=8,
        channel_multipliers=(1, 2),
        num_residual_blocks=1,
        num_head_channels=8,
    )
    expected = theoretical_receptive_field(network)
    assert measured_receptive_field(network) == expected


@pytest.mark.parametrize(
    "layer", ["encoder_8x8_block_1", "encoder_8x8_attention_1", "stem"]
)
def test_gradients_of_a_layer_see_what_arithmetic_says(layer):
    network = UNet(**SMALL)
    expected = theoretical_receptive_field(network, layer)
    assert measured_receptive_field(network, layer) == expected
    assert expected < theoretical_receptive_field(network)


def test_arithmetic_counts_a_small_unet_as_one_does_by_hand():
    network = UNet(**SMALL | {"channel_multipliers": (1, 2)})
    seen = {
        # 3x3, then two of them, then one of stride 2, then two at stride 2.
        "stem": 3,
        "encoder_16x16_block_1": 3 + 4,
        "encoder_16x16_downsample": 3 + 4 + 2,
        "encoder_8x8_block_1": 3 + 4 + 2 + 8,
    }
    for layer, expected in seen.items():
        assert theoretical_receptive_field(network, layer) == expected


def test_the_effective_field_of_a_plain_cnn_lies_in_the_theoretical_one():
    network = PlainCNN(image_size=16, image_channels=1, num_layers=3)
    network.layers[-1].kernel.assign(np.ones(network.layers[-1].kernel.shape))
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 1))
    inputs = {"noisy_images": images, "noise_level": np.full(2, 500.0)}
    field = effective_receptive_field(network, inputs, pixel=(8, 6))
    rows, columns = np.nonzero(field)
    assert (rows.min(), rows.max()) == (8 - 3, 8 + 3)
    assert (columns.min(), columns.max()) == (6 - 3, 6 + 3)
    # Shares of float64: they sum to 1 but for its rounding.
    assert field.sum() == pytest.approx(1.0, abs=1e-12)


def test_statistics_of_normalization_let_a_pixel_see_beyond_its_square():
    network = UNet(**SMALL | {"attention_resolutions": ()})
    images = np.random.default_rng(0).normal(size=(1, 16, 16, 1))
    inputs = {"noisy_images": images, "noise_level": np.full(1, 500.0)}
    block = keras.Model(
        network.input, network.get_layer("encoder_16x16_block_1").output
    )
    field = effective_receptive_field(block, inputs)
    assert theoretical_receptive_field(network, "encoder_16x16_block_1") == 7
    assert field[0, 0] > 0


def test_a_layer_that_is_not_there_is_named():
    network = PlainCNN(image_size=16, num_layers=2)
    with pytest.raises(ValueError, match="no such layer.*conv_9.*conv_1"):
        theoretical_receptive_field(network, "conv_9")


def test_vectors_have_no_receptive_field():
    network = PlainCNN(image_size=16, num_layers=2)
    with pytest.raises(ValueError, match="computed from the image"):
        theoretical_receptive_field(network, "noise_level_embedding")


def test_a_layer_without_a_rule_is_refused():
    image = keras.Input((16, 16, 1), name="noisy_images")
    hidden = keras.layers.SeparableConv2D(1, 3, padding="same")(image)
    hidden = keras.layers.GaussianNoise(1.0)(hidden)
    network = keras.Model(image, hidden)
    with pytest.raises(ValueError, match="which pixels.*GaussianNoise"):
        theoretical_receptive_field(network)
    with pytest.raises(ValueError, match="this library alone"):
        measured_receptive_field(keras.Model(image, keras.layers.ReLU()(image)))
