"""Networks of other projects, rebuilt from their checkpoints alone."""

import functools

import numpy as np
import pytest
from weight_fixtures import CASES, checkpoint_of, fixture

from keras_unet_diffusion import (
    DiffusionProcess,
    EDMPrediction,
    EDMSchedule,
    UNet,
)
from keras_unet_diffusion.weights import (
    diffusers_config,
    export_tensors,
    find_layout,
    guided_arguments,
    infer_arguments,
    load_checkpoint_into,
)
from keras_unet_diffusion.weights.diffusers_config import DEFAULTS

# The measured floors of these cases are below 1e-5 (other kernels, last bits
# of the frequencies); every mistake in reading a checkpoint costs over 1e-3.
GATE = 2e-5
# What no checkpoint of guided- or improved-diffusion tells.
GIVEN = {
    "guided_adm64_narrow": {"num_head_channels": 64, "qkv_order": "new"},
    "guided_legacy_heads": {"num_heads": 4, "qkv_order": "legacy"},
    "guided_super_res": {
        "num_heads": 4,
        "qkv_order": "legacy",
        "super_resolution_factor": 4,
    },
    "improved_cifar10": {"num_heads": 4, "qkv_order": "legacy"},
}
GUIDED = tuple(GIVEN)
DIFFUSERS = tuple(case for case in CASES if case.startswith("diffusers"))
PRECONDITIONED = tuple(case for case in CASES if case.startswith("edm"))


def order_of(case):
    return GIVEN.get(case, {}).get("qkv_order")


@functools.cache
def imported(case):
    """The network that a checkpoint describes, with its weights."""
    checkpoint = checkpoint_of(case)
    network = UNet(**infer_arguments(checkpoint, **GIVEN.get(case, {})))
    load_checkpoint_into(network, checkpoint, qkv_order=order_of(case))
    return network


def channels_last(images):
    return np.moveaxis(images, 1, -1)


def network_inputs(case):
    """The inputs of a case in the form that our networks take."""
    given = fixture(case).inputs
    levels = given.get("timesteps", given.get("noise_labels"))
    inputs = {
        "noisy_images": channels_last(given["x"]),
        "noise_level": levels.astype("float32"),
    }
    if "class_labels" in given:
        labels = given["class_labels"]
        inputs["labels"] = labels if labels.ndim == 1 else labels.argmax(-1)
    if "augment_labels" in given:
        inputs["augmentation"] = given["augment_labels"]
    if "low_res" in given:
        inputs["low_resolution_images"] = channels_last(given["low_res"])
    return inputs


def error_over_spread(outputs, expected):
    return np.abs(outputs - expected).max() / expected.std()


@pytest.mark.parametrize("case", CASES)
def test_a_network_from_a_checkpoint_predicts_what_the_original_does(case):
    outputs = np.asarray(imported(case)(network_inputs(case)))
    expected = channels_last(fixture(case).outputs["expected"])
    assert error_over_spread(outputs, expected) <= GATE


@pytest.mark.parametrize("case", PRECONDITIONED)
def test_a_network_of_edm_denoises_what_the_original_does(case):
    given = fixture(case).inputs
    process = DiffusionProcess(EDMSchedule(), EDMPrediction())
    sigma = given["sigma"].astype("float64").reshape(-1)
    point = process.schedule.point_of_ratio(sigma)
    noisy = channels_last(given["x_noisy"]).astype("float64")
    scaled, level = (
        np.asarray(x, "float32")
        for x in (
            process.network_input(noisy, point),
            process.noise_level_at(point),
        )
    )
    inputs = network_inputs(case) | {
        "noisy_images": scaled,
        "noise_level": level,
    }
    outputs = np.asarray(imported(case)(inputs), "float64")
    denoised, _ = process.estimate(noisy, outputs, point)
    expected = channels_last(fixture(case).outputs["expected_denoised"])
    assert error_over_spread(denoised, expected) <= GATE


@pytest.mark.parametrize("case", CASES)
def test_exporting_gives_back_every_bit_of_the_checkpoint(case):
    layout = find_layout(fixture(case).tensors).name
    exported = export_tensors(imported(case), layout, order_of(case))
    tensors = fixture(case).tensors
    assert set(exported) == set(tensors)
    for name, tensor in tensors.items():
        assert exported[name].dtype == np.float32
        assert exported[name].shape == tensor.shape
        assert exported[name].tobytes() == tensor.tobytes(), name


@pytest.mark.parametrize("case", CASES)
def test_parameters_are_as_many_as_the_original_counts(case):
    network = imported(case)
    trainable = sum(np.prod(x.shape) for x in network.trainable_weights)
    assert trainable == fixture(case).config["parameters"]


@pytest.mark.parametrize("case", GUIDED)
def test_exporting_in_the_other_order_moves_query_key_and_value_alone(case):
    other = {"legacy": "new", "new": "legacy"}[order_of(case)]
    exported = export_tensors(imported(case), "guided_diffusion", other)
    tensors = fixture(case).tensors
    moved = {x for x in tensors if not np.array_equal(tensors[x], exported[x])}
    assert moved == {x for x in tensors if ".qkv." in x}


def test_the_wrong_order_is_far_beyond_the_gate():
    case = "guided_legacy_heads"
    network = UNet.from_config(imported(case).get_config())
    load_checkpoint_into(network, checkpoint_of(case), qkv_order="new")
    outputs = np.asarray(network(network_inputs(case)))
    expected = channels_last(fixture(case).outputs["expected"])
    # The original network, told the wrong order, moves by 1.5.
    assert error_over_spread(outputs, expected) > 1


def test_a_checkpoint_in_the_other_order_gives_the_same_network():
    network = imported("guided_legacy_heads")
    exported = export_tensors(network, "guided_diffusion", "new")
    again = UNet.from_config(network.get_config())
    checkpoint = checkpoint_of("guided_legacy_heads", **exported)
    load_checkpoint_into(again, checkpoint, qkv_order="new")
    for one, other in zip(
        network.get_weights(), again.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("case", DIFFUSERS)
def test_the_config_for_diffusers_is_the_one_it_was_built_from(case):
    expected = {
        key: list(x) if isinstance(x, tuple) else x
        for key, x in (DEFAULTS | fixture(case).config["kwargs"]).items()
    }
    config = diffusers_config(imported(case))
    assert config == {"_class_name": "UNet2DModel"} | expected


@pytest.mark.parametrize("case", GUIDED)
def test_the_arguments_for_guided_diffusion_are_those_it_was_built_by(case):
    arguments = guided_arguments(imported(case), order_of(case))
    built_by = fixture(case).config["kwargs"]
    # Not in a checkpoint, or without a counterpart.
    untold = {"dropout", "image_size", "use_checkpoint", "num_heads_upsample"}
    if arguments["num_head_channels"] != -1:
        untold.add("num_heads")
    expected = {key: x for key, x in built_by.items() if key not in untold}
    assert {key: arguments[key] for key in expected} == expected
