"""What the config.json of diffusers says: its types, and of which network."""

import numpy as np
import pytest
from conftest import SMALL, randomize
from test_weight_hostile import LANDMARKS, ONE_LEVEL, refusal
from weight_fixtures import MemoryCheckpoint

from keras_unet_diffusion import UNet
from keras_unet_diffusion.weights import (
    diffusers_config,
    export_tensors,
    infer_arguments,
    load_checkpoint_into,
    open_checkpoint,
    write_diffusers_folder,
)
from keras_unet_diffusion.weights.diffusers_keys import DEFAULTS, TYPES

# A small network that diffusers can express.
NETWORK = SMALL | {"num_heads": 1, "downsample_padding": (0, 1)}


def folder_of(path, network, **changes):
    """A folder of diffusers of a network, with another config."""
    tensors = export_tensors(network, "diffusers")
    config = diffusers_config(network) | changes
    write_diffusers_folder(path, tensors, config)
    return path


OTHER_CONFIGS = [
    ({"norm_eps": 1e-5}, "epsilon=1e-06 (1e-05 in the config)"),
    (
        {"attention_head_dim": 8},
        "num_heads or num_head_channels, as heads by channels,={16: 1} "
        "({16: 2} in the config)",
    ),
    (
        {"flip_sin_to_cos": True},
        "embedding_order='sin_cos' ('cos_sin' in the config)",
    ),
    ({"freq_shift": 0}, "frequency_shift=1 (0 in the config)"),
    (
        {"downsample_padding": 1},
        "downsample_padding=(0, 1) ((1, 1) in the config)",
    ),
    ({"norm_num_groups": 2}, "num_groups=4 (2 in the config)"),
    ({"layers_per_block": 2}, "num_residual_blocks=1 (2 in the config)"),
    (
        {"block_out_channels": [8, 32]},
        "channels of the levels=[8, 16] ([8, 32] in the config)",
    ),
    ({"in_channels": 2}, "image_channels=1 (2 in the config)"),
    ({"out_channels": 2}, "output_channels=1 (2 in the config)"),
    ({"time_embedding_dim": 64}, "embedding_channels=32 (64 in the config)"),
    ({"num_class_embeds": 3}, "num_classes=None (3 in the config)"),
    ({"add_attention": False}, "middle_attention=True (False in the config)"),
    (
        {"resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 4},
        "scale_shift=False (True in the config)",
    ),
    (
        {"up_block_types": ["UpBlock2D", "UpBlock2D"]},
        "decoder_attention='all' ('none' in the config)",
    ),
    (
        {"down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D"]},
        "downsampling='strided_conv' ('residual_block' in the config)",
    ),
]


@pytest.fixture(scope="module")
def network():
    return randomize(UNet(**NETWORK))


@pytest.mark.parametrize(("changes", "named"), OTHER_CONFIGS)
def test_weights_whose_config_is_of_another_network_are_refused(
    network, changes, named
):
    tensors = export_tensors(network, "diffusers")
    ones = {name: np.ones_like(x) for name, x in tensors.items()}
    config = diffusers_config(network) | changes
    message = refusal(
        load_checkpoint_into, network, MemoryCheckpoint(ones, config)
    )
    assert f"Received a network with {named}, and in_memory" in message
    after = export_tensors(network, "diffusers")
    assert all(np.array_equal(after[x], tensors[x]) for x in tensors)


def test_every_difference_is_named_at_once_and_a_config_can_be_left_aside(
    network, tmp_path
):
    together = {"norm_eps": 1e-5, "attention_head_dim": 8, "freq_shift": 0}
    checkpoint = open_checkpoint(folder_of(tmp_path / "a", network, **together))
    message = refusal(load_checkpoint_into, network, checkpoint)
    assert message.count("in the config)") == 3
    checkpoint.config = None
    load_checkpoint_into(network, checkpoint)


def test_a_preset_does_not_take_weights_of_a_folder_of_another(
    network, tmp_path
):
    folder = folder_of(tmp_path / "a", network, norm_eps=1e-5)
    overrides = NETWORK | {"epsilon": 1e-6}
    message = refusal(
        UNet.from_preset, "ddpm_cifar10", weights=folder, **overrides
    )
    assert "epsilon=1e-06 (1e-05 in the config)" in message


@pytest.mark.parametrize(
    "changes",
    [
        {"dropout": 0.5},
        {"sample_size": None},
        {"sample_size": 64},
        # One head of as many channels as there are.
        {"attention_head_dim": 16},
        {"down_block_types": ["UNetResDownBlock2D", "AttnDownBlock2D"]},
    ],
)
def test_what_does_not_change_predictions_may_differ(network, changes):
    tensors = export_tensors(network, "diffusers")
    config = diffusers_config(network) | changes
    load_checkpoint_into(network, MemoryCheckpoint(tensors, config))


def test_resampling_of_a_single_level_may_differ():
    one_level = {"channel_multipliers": (1,), "attention_resolutions": ()}
    network = UNet(**NETWORK | one_level)
    tensors = export_tensors(network, "diffusers")
    config = diffusers_config(network) | {
        "downsample_padding": 1,
        "down_block_types": ["ResnetDownsampleBlock2D"],
    }
    load_checkpoint_into(network, MemoryCheckpoint(tensors, config))


def test_a_learned_null_label_is_a_class_of_the_config():
    labels = {"num_classes": 3, "null_label": "learned"}
    network = UNet(**NETWORK | labels)
    config = diffusers_config(network)
    tensors = export_tensors(network, "diffusers")
    load_checkpoint_into(network, MemoryCheckpoint(tensors, config))
    config["num_class_embeds"] = 3
    message = refusal(
        load_checkpoint_into, network, MemoryCheckpoint(tensors, config)
    )
    assert "num_classes=4 (3 in the config)" in message


WRONG_TYPES = [
    ("sample_size", [16]),
    ("sample_size", [16, "16"]),
    ("sample_size", "16"),
    ("sample_size", -16),
    ("in_channels", None),
    ("in_channels", True),
    ("out_channels", 3.0),
    ("center_input_sample", 0),
    ("time_embedding_type", 7),
    ("time_embedding_dim", "64"),
    ("freq_shift", None),
    ("flip_sin_to_cos", "true"),
    ("down_block_types", 5),
    ("down_block_types", [5]),
    ("up_block_types", "UpBlock2D"),
    ("mid_block_type", []),
    ("block_out_channels", "abc"),
    ("block_out_channels", [0, 32]),
    ("block_out_channels", []),
    ("block_out_channels", [10**400]),
    ("layers_per_block", "2"),
    ("layers_per_block", True),
    ("mid_block_scale_factor", "1"),
    ("downsample_padding", True),
    ("downsample_type", 3),
    ("dropout", None),
    ("dropout", 1.5),
    ("act_fn", {}),
    ("attention_head_dim", "8"),
    ("attention_head_dim", 0),
    ("norm_num_groups", "32"),
    ("norm_num_groups", None),
    ("attn_norm_num_groups", -1),
    ("norm_eps", "1e-5"),
    ("norm_eps", float("nan")),
    ("norm_eps", float("inf")),
    ("resnet_time_scale_shift", None),
    ("add_attention", 1),
    ("class_embed_type", 1),
    ("num_class_embeds", "x"),
    ("num_train_timesteps", "x"),
]


@pytest.mark.parametrize(("key", "value"), WRONG_TYPES)
def test_a_value_of_another_type_is_refused_by_key_and_value(key, value):
    config = ONE_LEVEL | {key: value}
    message = refusal(infer_arguments, MemoryCheckpoint(LANDMARKS, config))
    assert f"Received: {key}={repr(value)[:60]}" in message
    assert "beside in_memory" in message


def test_every_key_has_a_type_and_every_default_is_of_it():
    assert set(TYPES) == set(DEFAULTS)
    assert all(is_right(DEFAULTS[key]) for key, (_, is_right) in TYPES.items())
