"""Checkpoints that are not what they claim cost nothing to refuse."""

import inspect
import json
import tracemalloc
import zipfile

import numpy as np
import pytest
from conftest import SMALL, randomize
from test_weight_edm2 import ARGUMENTS as TINY_EDM2
from test_weight_layouts import NETWORKS, OTHERS
from weight_fixtures import CASES, MemoryCheckpoint, checkpoint_of, fixture

from keras_unet_diffusion import MagnitudePreservingUNet, UNet
from keras_unet_diffusion.published import PUBLISHED
from keras_unet_diffusion.weights import (
    export_tensors,
    infer_arguments,
    load_checkpoint_into,
    open_checkpoint,
)
from keras_unet_diffusion.weights.size_bounds import (
    check_size,
    least_weights,
    num_blocks,
)

GUIDED = {"num_heads": 1, "qkv_order": "new"}


def refusal(action, *args, **given):
    with pytest.raises(ValueError) as error:
        action(*args, **given)
    message = str(error.value)
    # What is wrong, what was received, what to do.
    assert "eceived" in message
    assert message.count(". ") >= 2
    return message


LANDMARKS = {
    "time_embedding.linear_1.weight": np.zeros((4, 4), "float32"),
    "conv_in.weight": np.zeros((4, 3, 3, 3), "float32"),
}
ONE_LEVEL = {
    "down_block_types": ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"],
    "block_out_channels": [32],
}
LARGE = [
    {"block_out_channels": [8192]},
    {"block_out_channels": [2**31 - 1], "attention_head_dim": None},
    {"layers_per_block": 300},
    {"layers_per_block": 2**31 - 1},
    {"time_embedding_dim": 10**9},
    {"num_class_embeds": 10**9},
    {"in_channels": 10**9},
    {"out_channels": 10**9},
    {
        "block_out_channels": 1000 * [32],
        "down_block_types": 1000 * ["DownBlock2D"],
        "up_block_types": 1000 * ["UpBlock2D"],
    },
]


@pytest.mark.parametrize("changes", LARGE)
def test_a_config_larger_than_the_weights_beside_it_costs_nothing(changes):
    # Room for many of the small tensors, not for the network.
    many = {f"x{n}": np.zeros(64, "float32") for n in range(40)}
    checkpoint = MemoryCheckpoint(LANDMARKS | many, ONE_LEVEL | changes)
    tracemalloc.start()
    try:
        message = refusal(infer_arguments, checkpoint)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "too small for the network" in message
    assert most < 2**20


def without_numbers(name, shape):
    return {name: np.zeros(shape, "float32")}


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        (
            "guided_legacy_heads",
            without_numbers("time_embed.0.weight", (0, 10**9)),
        ),
        (
            "edm_adm_narrow",
            without_numbers("model.map_label.weight", (0, 10**9)),
        ),
        (
            "ddpm_tf1_cifar10",
            without_numbers("model/temb/dense0/W", (10**9, 0)),
        ),
        (
            "diffusers_train_example",
            without_numbers("time_embedding.linear_1.weight", (10**9, 0)),
        ),
    ],
)
def test_sizes_of_arrays_without_numbers_are_not_believed(case, changes):
    given = GUIDED if case.startswith("guided") else {}
    message = refusal(infer_arguments, checkpoint_of(case, **changes), **given)
    assert "without numbers" in message
    assert next(iter(changes)) in message


@pytest.mark.parametrize(
    ("case", "name", "shape"),
    [
        # 4 MB that a network would need terabytes for.
        ("guided_legacy_heads", "time_embed.0.weight", (10**6, 1)),
        ("edm_ddpmpp_narrow", "model.map_layer0.weight", (10**6, 1)),
        ("ddpm_tf1_cifar10", "model/conv_in/W", (1, 1, 1, 10**6)),
    ],
)
def test_a_width_that_nothing_else_in_the_file_bears_out_is_refused(
    case, name, shape
):
    assert name in fixture(case).tensors
    checkpoint = checkpoint_of(case, **{name: np.zeros(shape, "float32")})
    given = GUIDED if case.startswith("guided") else {}
    assert "too small" in refusal(infer_arguments, checkpoint, **given)


def test_a_width_of_edm2_that_nothing_bears_out_is_refused():
    tensors = export_tensors(MagnitudePreservingUNet(**TINY_EDM2), "edm2")
    name = "unet.enc.4x4_block0.conv_res1.weight"
    changed = tensors | {name: np.zeros((10**6, 1, 1, 1), "float32")}
    message = refusal(
        infer_arguments, MemoryCheckpoint(changed), num_head_channels=8
    )
    assert "too small" in message


def test_a_long_resampling_filter_is_refused():
    name = next(
        x
        for x in fixture("edm_ncsnpp_narrow").tensors
        if x.endswith("resample_filter")
    )
    long = {name: np.ones((1, 1, 1, 10**6), "float32")}
    message = refusal(
        infer_arguments, checkpoint_of("edm_ncsnpp_narrow", **long)
    )
    assert f"{name} of the shape (1, 1, 1, 1000000)" in message


def counted(network):
    return sum(int(np.prod(x.shape)) for x in network.weights)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_least_number_of_weights_is_below_every_published_one(name):
    is_edm2 = name.startswith("edm2")
    network = MagnitudePreservingUNet if is_edm2 else UNet
    parameters = inspect.signature(network.__init__).parameters
    defaults = {key: x.default for key, x in parameters.items()}
    published = PUBLISHED[name].parameters
    least = least_weights(defaults | network.PRESETS[name])
    assert published / 4 < least <= published


@pytest.mark.parametrize("name", OTHERS)
def test_the_least_number_of_weights_is_below_that_of_other_networks(name):
    network = UNet(**OTHERS[name][1])
    arguments = network.get_config()
    least = least_weights(arguments)
    # A bound that is too low would be none: the file may be this much smaller.
    assert counted(network) / 4 < least <= counted(network)
    assert 4 * num_blocks(arguments) <= len(network.weights)


def test_the_least_number_holds_for_magnitude_preserving_networks():
    network = MagnitudePreservingUNet(**TINY_EDM2)
    least = least_weights(network.get_config())
    assert counted(network) / 4 < least <= counted(network)
    checkpoint = MemoryCheckpoint(export_tensors(network, "edm2"))
    check_size(network.get_config(), checkpoint)


@pytest.mark.parametrize("case", CASES)
def test_published_fixtures_are_large_enough_for_their_networks(case):
    checkpoint = checkpoint_of(case)
    given = {}
    if case.startswith(("guided", "improved")):
        given = GUIDED | {"super_resolution_factor": None}
    if case == "guided_super_res":
        given["super_resolution_factor"] = 4
    arguments = infer_arguments(checkpoint, **given)
    weights = sum(x.size for x in fixture(case).tensors.values())
    assert weights / 4 < least_weights(arguments) <= weights


@pytest.fixture(scope="module")
def network():
    return UNet(**SMALL)


def test_a_model_of_keras_is_named_as_what_it_is(network, tmp_path):
    network.save(tmp_path / "model.keras")
    # By content, whatever it is called.
    other = tmp_path / "model.pt"
    other.write_bytes((tmp_path / "model.keras").read_bytes())
    for path in (tmp_path / "model.keras", other):
        message = refusal(open_checkpoint, path)
        assert "whole model of Keras" in message
        assert "keras.saving.load_model(path)" in message


def test_weights_of_keras_are_named_as_what_they_are(network, tmp_path):
    network.save_weights(tmp_path / "a.weights.h5")
    message = refusal(open_checkpoint, tmp_path / "a.weights.h5")
    assert "weights as Keras saves them" in message
    assert 'weights="x.weights.h5"' in message
    assert "network.load_weights" in message


def test_a_zip_of_numpy_with_only_a_config_is_no_model(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("config.json", json.dumps({}))
    assert "is no array" in refusal(open_checkpoint, tmp_path / "a.zip")


ADM = dict(NETWORKS["edm_imagenet64_adm"][1])
# Channels with attention that 64 does not divide.
NARROW_ADM = ADM | {
    "image_size": 16,
    "base_channels": 32,
    "num_residual_blocks": 1,
    "attention_resolutions": (8,),
    "channel_multipliers": (1, 3),
    "num_head_channels": 32,
}


def test_heads_of_edm_are_asked_for_where_they_cannot_be_64():
    network = randomize(UNet(**NARROW_ADM))
    checkpoint = MemoryCheckpoint(export_tensors(network, "edm"))
    message = refusal(infer_arguments, checkpoint)
    assert "heads of 64 for [96]. Pass num_head_channels" in message
    found = infer_arguments(checkpoint, num_head_channels=32)
    again = UNet(**found)
    load_checkpoint_into(again, checkpoint)
    for ours, theirs in zip(again.weights, network.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert again.num_head_channels == 32


def test_heads_of_edm2_are_asked_for_where_they_cannot_be_64():
    network = MagnitudePreservingUNet(**TINY_EDM2)
    checkpoint = MemoryCheckpoint(export_tensors(network, "edm2"))
    message = refusal(infer_arguments, checkpoint)
    assert "heads of 64 for [16]. Pass num_head_channels" in message
    assert infer_arguments(checkpoint, num_head_channels=8) == TINY_EDM2


@pytest.mark.parametrize(
    ("case", "name", "shape"),
    [
        ("guided_legacy_heads", "time_embed.0.weight", ()),
        ("guided_legacy_heads", "middle_block.1.qkv.weight", ()),
        ("ddpm_tf1_cifar10", "model/conv_out/W", (3,)),
        ("edm_ddpmpp_narrow", "model.map_layer0.weight", (1, 1, 1)),
        ("edm_adm_narrow", "model.dec.8x8_in0.qkv.weight", (3,)),
    ],
)
def test_a_tensor_without_the_dimensions_of_its_kind_is_named(
    case, name, shape
):
    assert name in fixture(case).tensors
    checkpoint = checkpoint_of(case, **{name: np.zeros(shape, "float32")})
    given = GUIDED if case.startswith("guided") else {}
    message = refusal(infer_arguments, checkpoint, **given)
    short = name.removeprefix("model/").removeprefix("model.")
    assert f"{short} of the shape {shape}" in message


def test_a_file_of_ddpm_without_a_level_is_refused_by_what_it_lacks():
    names = fixture("ddpm_tf1_cifar10").tensors
    without = {x: None for x in names if "/down_" in x}
    message = refusal(
        infer_arguments, checkpoint_of("ddpm_tf1_cifar10", **without)
    )
    assert "without down_0/block_0/conv2/W" in message
