"""What other projects cannot express, and is refused by name."""

import pytest

from keras_unet_diffusion import UNet
from keras_unet_diffusion.weights import (
    diffusers_config,
    export_tensors,
    guided_arguments,
)

# A small network that guided-diffusion and diffusers can express.
SMALL = {
    "image_size": 8,
    "base_channels": 32,
    "channel_multipliers": (1,),
    "num_residual_blocks": 1,
    "attention_resolutions": (),
    "downsample_padding": (1, 1),
    "epsilon": 1e-5,
    "embedding_order": "cos_sin",
    "frequency_shift": 0,
}


@pytest.mark.parametrize(
    ("layout", "arguments", "named"),
    [
        ("guided_diffusion", {"epsilon": 1e-6}, "epsilon=1e-06"),
        ("guided_diffusion", {"num_groups": 8}, "num_groups=8"),
        ("guided_diffusion", {"embedding_order": "sin_cos"}, "embedding_order"),
        ("guided_diffusion", {"downsample_padding": (0, 1)}, r"\(0, 1\)"),
        ("guided_diffusion", {"upsampling": "transposed_conv"}, "upsampling"),
        ("guided_diffusion", {"embedding_channels": 64}, "embedding_channels"),
        ("guided_diffusion", {"noise_channels": 64}, "noise_channels=64"),
        ("guided_diffusion", {"stem_channels": 64}, "stem_channels=64"),
        ("guided_diffusion", {"middle_attention": False}, "middle_attention"),
        ("diffusers", {"query_key_norm": True}, "query_key_norm=True"),
        ("diffusers", {"context_channels": 8}, "context_channels=8"),
        ("diffusers", {"skip_connections": "add"}, "skip_connections='add'"),
        ("diffusers", {"min_group_channels": 4}, "min_group_channels=4"),
        ("diffusers", {"residual_scale": 0.5}, "residual_scale=0.5"),
        ("diffusers", {"resampling_kernel": (1, 3, 3, 1)}, "resampling_kernel"),
        ("diffusers", {"encoder_pyramid": "residual"}, "encoder_pyramid"),
        ("diffusers", {"decoder_pyramid": "skip"}, "decoder_pyramid='skip'"),
        (
            "diffusers",
            {"noise_level_embedding": "fourier"},
            "noise_level_embedding='fourier'",
        ),
        ("diffusers", {"downsample_padding": (1, 0)}, "downsample_padding"),
        ("diffusers", {"super_resolution_factor": 2}, "super_resolution"),
        ("diffusers", {"num_classes": 3, "null_label": "zero"}, "null_label"),
        (
            "diffusers",
            {"num_heads": 2, "channel_multipliers": (1, 2)}
            | {"attention_levels": (0, 1)},
            "num_heads=2 with heads of different",
        ),
        (
            "diffusers",
            {"middle_attention_norm": False},
            "middle_attention_norm",
        ),
        ("ddpm", {}, "epsilon=1e-05.*embedding_order='cos_sin'"),
        ("ddpm", {"num_classes": 3}, "num_classes=3"),
        ("edm", {}, "min_group_channels=None.*downsampling='strided_conv'"),
        ("edm", {"image_size": None}, "image_size=None"),
    ],
)
def test_what_a_project_cannot_express_is_refused_by_name(
    layout, arguments, named
):
    network = UNet(**(SMALL | {"attention_levels": (0,)} | arguments))
    with pytest.raises(ValueError, match=named):
        export_tensors(network, layout)


def test_arguments_without_effect_are_not_refused():
    without_effect = {
        "downsampling": "residual_block",
        "upsampling": "residual_block",
        "downsample_padding": (0, 1),
        "label_embedding": "one_hot",
        "decoder_attention": "last",
    }
    two_levels = {"channel_multipliers": (1, 2)}
    network = UNet(**(SMALL | two_levels | without_effect))
    assert guided_arguments(network)["resblock_updown"]
    assert diffusers_config(network)["num_class_embeds"] is None


def test_a_learned_null_label_is_one_more_class_elsewhere():
    labels = {"num_classes": 10, "null_label": "learned"}
    network = UNet(**(SMALL | labels))
    assert guided_arguments(network)["num_classes"] == 11
    assert diffusers_config(network)["num_class_embeds"] == 11
