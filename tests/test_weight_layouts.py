"""Layouts of other projects: what they name, infer, and refuse."""

import numpy as np
import pytest
from weight_fixtures import CASES, MemoryCheckpoint, checkpoint_of, fixture

from keras_unet_diffusion import UNet
from keras_unet_diffusion.presets import PRESETS
from keras_unet_diffusion.weights import (
    diffusers_config,
    export_tensors,
    find_layout,
    infer_arguments,
)

# Numbers of tensors counted in the projects' own state dicts, buffers too.
PUBLISHED = {
    "ddpm_cifar10": ("ddpm", 328),
    "ddpm_256": ("ddpm", 450),
    "iddpm_cifar10": ("guided_diffusion", 446),
    "iddpm_lsun_bedroom256": ("guided_diffusion", 426),
    "iddpm_upsampler_64_256": ("guided_diffusion", 457),
    "adm_imagenet64": ("guided_diffusion", 541),
    "adm_imagenet128": ("guided_diffusion", 493),
    "adm_imagenet512": ("guided_diffusion", 645),
    "adm_upsampler_128_512": ("guided_diffusion", 537),
    "edm_cifar10_ddpmpp_conditional": ("edm", 427),
    "edm_cifar10_ncsnpp": ("edm", 432),
    "edm_ffhq64_ncsnpp": ("edm", 563),
    "edm_imagenet64_adm": ("edm", 553),
    "diffusers_ddpm_256": ("diffusers", 450),
}


def narrow(preset, **changes):
    """The arguments of a preset, narrower: names do not depend on widths."""
    arguments = dict(PRESETS[preset])
    # As few channels as 32 groups allow at every level.
    base = 64 if preset in ("adm_imagenet512", "edm_imagenet64_adm") else 32
    for width in ("stem_channels", "noise_channels"):
        if width in arguments:
            factor = arguments[width] // arguments["base_channels"]
            arguments[width] = factor * base
    if arguments.get("num_head_channels") and base == 32:
        arguments["num_head_channels"] = 32
    return arguments | {"base_channels": base} | changes


ADM = narrow("iddpm_lsun_bedroom256", image_size=16, output_channels=None)
OTHERS = {
    "one_level": (
        "guided_diffusion",
        ADM | {"channel_multipliers": (1,), "attention_resolutions": ()},
    ),
    "no_attention": (
        "guided_diffusion",
        ADM
        | {
            "channel_multipliers": (1, 2),
            "attention_resolutions": (),
            "num_classes": 3,
        },
    ),
    "average_pool": (
        "guided_diffusion",
        ADM
        | {
            "channel_multipliers": (1, 2, 3),
            "downsampling": "average_pool",
            "upsampling": "nearest",
            "attention_resolutions": (16, 4),
        },
    ),
    "grey_learned_variance": (
        "guided_diffusion",
        narrow(
            "adm_imagenet64",
            image_channels=1,
            output_channels=2,
            num_residual_blocks=1,
        ),
    ),
    "pooled_ddpm": (
        "ddpm",
        narrow(
            "ddpm_cifar10", downsampling="average_pool", upsampling="nearest"
        ),
    ),
    "wide_ddpm": ("ddpm", narrow("ddpm_cifar10", channel_multipliers=(1, 3))),
    "edm_one_level": (
        "edm",
        narrow(
            "edm_cifar10_ncsnpp_conditional",
            image_size=16,
            channel_multipliers=(1,),
            stem_channels=None,
            resampling_kernel=(1, 1),
            encoder_pyramid="none",
            num_residual_blocks=1,
            null_label="zero",
        ),
    ),
    "diffusers_one_sided": (
        "diffusers",
        narrow(
            "diffusers_ddpm_cifar10",
            channel_multipliers=(1, 2),
            attention_resolutions=(32, 16),
            decoder_attention="none",
            middle_attention=False,
            upsampling="residual_block",
            num_classes=3,
            num_groups=8,
            embedding_channels=64,
        ),
    ),
    "diffusers_middle_norm": (
        "diffusers",
        ADM
        | {
            "channel_multipliers": (1, 2),
            "scale_shift": True,
            "downsampling": "residual_block",
            "num_head_channels": 16,
            "initialization": "diffusers",
        },
    ),
}
NETWORKS = OTHERS | {
    name: (layout, narrow(name)) for name, (layout, _) in PUBLISHED.items()
}
# Deeper ones, each of a form that another has too.
DEEP = ("ddpm_256", "iddpm_lsun_bedroom256", "adm_imagenet128")
DEEP += ("adm_imagenet512", "adm_upsampler_128_512", "edm_ffhq64_ncsnpp")
DEEP += ("diffusers_ddpm_256", "edm_cifar10_ddpmpp_conditional")
DEEP += ("adm_imagenet64", "edm_imagenet64_adm", "iddpm_upsampler_64_256")


def named_checkpoint(network, layout):
    """A checkpoint of a network's names and shapes; the numbers are there."""
    tensors = export_tensors(network, layout)
    config = diffusers_config(network) if layout == "diffusers" else None
    return MemoryCheckpoint(tensors, config)


@pytest.mark.parametrize("case", CASES)
def test_the_layout_is_recognised_by_the_names(case):
    expected = {
        "diffusers": "diffusers",
        "guided-diffusion": "guided_diffusion",
        "ddpm-tf1": "ddpm",
        "edm": "edm",
    }
    family = fixture(case).config["family"]
    found = find_layout(fixture(case).tensors).name
    assert found == expected.get(family, "guided_diffusion")


def test_names_of_no_known_project_are_refused():
    with pytest.raises(ValueError, match="encoder.weight.*guided_diffusion"):
        find_layout({"encoder.weight": (3,)})
    with pytest.raises(ValueError, match="layout='torch'"):
        find_layout({}, "torch")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in DEEP else [])
        for name in NETWORKS
    ],
)
def test_the_arguments_are_found_in_the_names_and_shapes(name):
    layout, arguments = NETWORKS[name]
    network = UNet(**arguments)
    checkpoint = named_checkpoint(network, layout)
    if name in PUBLISHED:
        assert len(checkpoint.shapes) == PUBLISHED[name][1]
    given = {"dropout": network.dropout}
    if layout == "guided_diffusion":
        for key in ("num_heads", "num_head_channels"):
            given[key] = getattr(network, key)
        given["qkv_order"] = "new"
        if network.super_resolution_factor:
            given["super_resolution_factor"] = 4
    found = infer_arguments(checkpoint, **given)
    if layout == "edm":
        assert found["image_size"] == network.image_size
    again = UNet(**(found | {"image_size": network.image_size}))
    # What a file tells in another way, or what has no effect.
    other = {"attention_resolutions", "attention_levels", "stem_channels"}
    other |= {"null_label"}
    if network.num_head_channels or layout == "diffusers":
        other.add("num_heads")
    if network.downsampling == "residual_block":
        other.add("downsample_padding")
    config, expected = again.get_config(), network.get_config()
    for key in set(config) - other:
        assert config[key] == expected[key], key
    assert [x.name for x in again.layers] == [x.name for x in network.layers]
    assert [x.shape for x in again.weights] == [
        x.shape for x in network.weights
    ]


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({}, ["num_heads or num_head_channels", "qkv_order"]),
        ({"qkv_order": "new"}, ["num_heads or num_head_channels"]),
        ({"num_heads": 4}, ["qkv_order"]),
        ({"num_head_channels": 16}, ["qkv_order"]),
        ({"num_heads": 4, "qkv_order": "legacy"}, []),
        ({"num_heads": 1}, []),
        ({"num_head_channels": 64}, ["qkv_order"]),
    ],
)
def test_what_only_the_caller_knows_is_asked_for_and_no_more(given, asked):
    checkpoint = checkpoint_of("guided_legacy_heads")
    if not asked:
        infer_arguments(checkpoint, **given)
        return
    with pytest.raises(ValueError) as error:
        infer_arguments(checkpoint, **given)
    questions = ("num_heads or num_head_channels", "qkv_order", "super_res")
    assert [x for x in questions if x in str(error.value)] == asked


def test_an_upsampler_asks_for_its_factor():
    checkpoint = checkpoint_of("guided_super_res")
    with pytest.raises(ValueError, match="super_resolution_factor"):
        infer_arguments(checkpoint, num_heads=1)
    plain = infer_arguments(
        checkpoint, num_heads=1, super_resolution_factor=None
    )
    assert plain["image_channels"] == 6
    assert plain["output_channels"] is None


def test_a_given_argument_replaces_the_one_that_was_found():
    arguments = infer_arguments(
        checkpoint_of("edm_adm_narrow"), dropout=0.1, null_label="zero"
    )
    assert arguments["dropout"] == 0.1
    assert arguments["null_label"] == "zero"


def test_a_file_without_a_tensor_to_read_the_architecture_from_is_refused():
    checkpoint = checkpoint_of(
        "edm_adm_narrow", **{"model.enc.32x32_conv.weight": None}
    )
    with pytest.raises(ValueError, match="lacks.*enc.32x32_conv.weight"):
        infer_arguments(checkpoint)


def test_other_pyramids_of_edm_are_refused():
    checkpoint = checkpoint_of(
        "edm_ncsnpp_narrow",
        **{"model.enc.16x16_aux_other.weight": np.zeros((1, 1, 1, 1))},
    )
    with pytest.raises(ValueError, match="enc.16x16_aux_other.weight"):
        infer_arguments(checkpoint)


def test_an_order_is_refused_where_there_is_none_to_choose():
    with pytest.raises(ValueError, match="edm.*qkv_order='new'"):
        infer_arguments(checkpoint_of("edm_adm_narrow"), qkv_order="new")
