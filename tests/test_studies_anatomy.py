"""The list of a network's blocks against the network itself."""

from pathlib import Path

import pytest

from keras_unet_diffusion import MagnitudePreservingUNet, PlainCNN, UNet
from keras_unet_diffusion.flops import count_flops
from keras_unet_diffusion.studies import describe, table

ROOT = Path(__file__).parents[1]
SMALL = {
    "image_size": 16,
    "image_channels": 1,
    "base_channels": 8,
    "channel_multipliers": (1, 2),
    "num_residual_blocks": 1,
    "attention_resolutions": (8,),
    "num_groups": 4,
    "num_classes": 3,
}
NETWORKS = {
    "unet": lambda: UNet(**SMALL),
    "added_skips": lambda: UNet(
        **SMALL, skip_connections="add", skip_scale=0.5, stem_channels=24
    ),
    "pyramids": lambda: UNet(
        **SMALL, encoder_pyramid="residual", decoder_pyramid="skip"
    ),
    "plain": lambda: PlainCNN(image_size=16, image_channels=1, num_layers=3),
    "magnitude_preserving": lambda: MagnitudePreservingUNet(
        image_size=16,
        image_channels=1,
        base_channels=8,
        channel_multipliers=(1, 2),
        num_residual_blocks=1,
        num_head_channels=8,
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_blocks_hold_all_parameters_and_operations(name):
    network = NETWORKS[name]()
    blocks = describe(network)
    assert sum(block.parameters for block in blocks) == network.count_params()
    assert sum(block.flops for block in blocks) == count_flops(network)


@pytest.mark.parametrize("name", NETWORKS)
def test_blocks_read_only_what_comes_before_them(name):
    network = NETWORKS[name]()
    known = {tensor.name for tensor in network.inputs}
    for block in describe(network):
        assert block.inputs and set(block.inputs) <= known
        known.add(block.name)


@pytest.mark.parametrize("name", ["unet", "added_skips"])
def test_every_skip_begins_in_the_encoder_at_the_same_resolution(name):
    blocks = {block.name: block for block in describe(NETWORKS[name]())}
    ends = {block.skip_to: block for block in blocks.values() if block.skip_to}
    skips = [block for block in blocks.values() if block.kind == "skip"]
    # The stem, a block for each of two levels, one downsampling.
    assert len(skips) == 4
    for skip in skips:
        assert ends[skip.name].part == "encoder"
        assert ends[skip.name].height == skip.height


def test_a_block_is_described_as_it_is():
    blocks = {block.name: block for block in describe(UNet(**SMALL))}
    block = blocks["encoder_8x8_block_1"]
    assert block.kind == "residual block"
    assert block.part == "encoder"
    assert block.level == 1
    assert block.inputs == ("encoder_16x16_downsample",)
    assert (block.height, block.width, block.channels) == (8, 8, 16)
    assert block.activation_bytes == 8 * 8 * 16 * 4
    assert block.conditioning == ("noise_level", "labels")
    assert block.receptive_field == 17
    assert not block.sees_whole_image
    assert block.skip_to is None
    attention = blocks["encoder_8x8_attention_1"]
    assert attention.sees_whole_image
    assert attention.skip_to == "decoder_8x8_skip_1"
    assert blocks["decoder_8x8_skip_1"].sees_whole_image
    assert blocks["noise_level_embedding"].receptive_field is None


def test_a_source_is_where_the_class_stands():
    for block in describe(UNet(**SMALL)):
        if block.kind != "residual block":
            continue
        path, line = block.source
        lines = (ROOT / path).read_text().splitlines()
        assert "class ResidualBlock" in "".join(lines[line - 1 : line + 1])


def test_a_network_of_any_size_is_described_at_the_size_asked_for():
    network = UNet(
        **SMALL
        | {
            "image_size": None,
            "attention_resolutions": (),
            "attention_levels": (1,),
        }
    )
    blocks = {block.name: block for block in describe(network, image_size=32)}
    assert blocks["encoder_level_1_block_1"].height == 16
    assert blocks["encoder_level_1_block_1"].level == 1
    with pytest.raises(ValueError, match="image_size"):
        describe(network)


def test_the_table_has_a_line_for_each_block_and_the_totals():
    network = UNet(**SMALL)
    blocks = describe(network)
    lines = table(blocks).splitlines()
    assert len(lines) == 2 + len(blocks) + 1
    assert f"{network.count_params():,}" in lines[-1]
    assert "all by attention" in table(blocks)


def test_vectors_that_a_sum_brings_condition_the_block_after_it():
    blocks = {block.name: block for block in describe(NETWORKS["plain"]())}
    assert blocks["conv_1"].conditioning == ()
    assert blocks["conv_2"].conditioning == ("noise_level",)


def test_what_does_not_see_the_noisy_image_has_no_receptive_field():
    network = UNet(**SMALL, super_resolution_factor=2)
    blocks = {block.name: block for block in describe(network)}
    assert blocks["low_resolution_upsample"].receptive_field is None
    assert blocks["stem"].receptive_field == 3
