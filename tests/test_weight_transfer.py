"""Moving weights: all of them, once each, or not at all."""

import keras
import numpy as np
import pytest
from weight_fixtures import MemoryCheckpoint, checkpoint_of, fixture

from keras_unet_diffusion import UNet
from keras_unet_diffusion.weights import (
    export_tensors,
    infer_arguments,
    load_checkpoint_into,
)

CASE = "edm_adm_narrow"
KERNEL = "model.enc.16x16_block0.conv0.weight"
FILTER = "model.enc.16x16_down.skip.resample_filter"


@pytest.fixture(scope="module")
def network():
    return UNet(**infer_arguments(checkpoint_of(CASE)))


def refusal(network, checkpoint):
    """The message of a refused load, which must have changed nothing."""
    before = [x.copy() for x in network.get_weights()]
    with pytest.raises(ValueError) as error:
        load_checkpoint_into(network, checkpoint)
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    return str(error.value)


def test_a_missing_tensor_is_named(network):
    message = refusal(network, checkpoint_of(CASE, **{KERNEL: None}))
    assert f"1 missing: {KERNEL}." in message
    assert "unexpected" not in message


def test_a_tensor_too_many_is_named(network):
    extra = {"model.extra.weight": np.zeros(3)}
    message = refusal(network, checkpoint_of(CASE, **extra))
    assert "1 unexpected: model.extra.weight." in message
    assert "missing" not in message


def test_a_tensor_of_another_shape_is_named_with_both_shapes(network):
    shaped = {KERNEL: np.zeros((128, 32, 3, 3))}
    message = refusal(network, checkpoint_of(CASE, **shaped))
    assert (
        f"1 of another shape: {KERNEL} (128, 32, 3, 3) instead of "
        "(128, 64, 3, 3)." in message
    )


def test_all_differences_are_told_at_once_and_long_lists_are_cut(network):
    changes = {name: None for name in list(fixture(CASE).tensors)[50:65]}
    changes["model.extra.weight"] = np.zeros(3)
    message = refusal(network, checkpoint_of(CASE, **changes))
    assert "15 missing: " in message
    assert "1 unexpected: " in message
    assert message.count("model.") == 11
    assert ", ..." in message


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_tensor_that_is_not_finite_is_named(network, wrong):
    damaged = fixture(CASE).tensors[KERNEL].copy()
    damaged[5, 4, 1, 2] = wrong
    message = refusal(network, checkpoint_of(CASE, **{KERNEL: damaged}))
    assert f"1 such tensors, {KERNEL}." in message


def test_a_constant_of_another_network_is_named(network):
    other = {FILTER: np.full((1, 1, 2, 2), 0.2)}
    message = refusal(network, checkpoint_of(CASE, **other))
    assert FILTER.removeprefix("model.") in message
    assert "resampling_kernel" in message


@pytest.mark.parametrize("prefix", ["", "model.", "network.ema."])
def test_any_common_prefix_is_understood(network, prefix):
    tensors = {
        prefix + name.removeprefix("model."): x
        for name, x in fixture(CASE).tensors.items()
    }
    checkpoint = MemoryCheckpoint(tensors)
    assert infer_arguments(checkpoint) == infer_arguments(checkpoint_of(CASE))
    load_checkpoint_into(network, checkpoint)
    exported = export_tensors(network, "edm")
    assert exported[KERNEL].tobytes() == fixture(CASE).tensors[KERNEL].tobytes()


def test_the_same_tensor_with_and_without_prefix_is_one_too_many(network):
    twice = {KERNEL.removeprefix("model."): fixture(CASE).tensors[KERNEL]}
    assert "1 unexpected: " in refusal(network, checkpoint_of(CASE, **twice))


def test_the_names_of_attention_before_2023_are_read_and_new_ones_written():
    case = "diffusers_train_example"
    tensors = fixture(case).tensors
    old = {"to_q": "query", "to_k": "key", "to_v": "value"}
    old["to_out.0"] = "proj_attn"

    def old_name(name):
        for today, before in old.items():
            name = name.replace(f".{today}.", f".{before}.")
        return name

    checkpoint = checkpoint_of(case)
    aged = MemoryCheckpoint(
        {old_name(name): x for name, x in tensors.items()}, checkpoint.config
    )
    assert set(aged.shapes) != set(tensors)
    network = UNet(**infer_arguments(aged))
    load_checkpoint_into(network, aged)
    exported = export_tensors(network, "diffusers")
    assert set(exported) == set(tensors)
    assert all(np.array_equal(exported[x], tensors[x]) for x in tensors)


def test_only_a_unet_is_given_weights():
    inputs = keras.Input((3,))
    other = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    with pytest.raises(ValueError, match="Functional.*Pass a UNet"):
        load_checkpoint_into(other, checkpoint_of(CASE))
    with pytest.raises(ValueError, match="Functional.*Pass a UNet"):
        export_tensors(other, "edm")


def test_a_network_in_mixed_precision_gets_and_gives_every_bit():
    checkpoint = checkpoint_of("guided_super_res")
    arguments = infer_arguments(
        checkpoint, num_heads=1, super_resolution_factor=4
    )
    network = UNet(**arguments, dtype="mixed_bfloat16", dropout=0.1)
    load_checkpoint_into(network, checkpoint)
    exported = export_tensors(network, "guided_diffusion")
    tensors = fixture("guided_super_res").tensors
    assert all(np.array_equal(exported[x], tensors[x]) for x in tensors)
