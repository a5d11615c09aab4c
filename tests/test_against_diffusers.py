"""Networks of diffusers, drawn at random, go to our `UNet` and back."""

import tempfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
pytest.importorskip("hypothesis")

from diffusers_configs import configs, impossible_changes  # noqa: E402
from diffusers_networks import (  # noqa: E402
    predict,
    random_inputs,
    random_model,
)
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from keras_unet_diffusion import UNet  # noqa: E402
from keras_unet_diffusion.weights import save_checkpoint  # noqa: E402

# Other kernels round otherwise. Of 150 such networks the worst differed by
# 8e-6 from diffusers, and diffusers by 5e-6 from itself in float64.
GATE = 2e-5
# A network takes its time to build. The examples are the same in every run.
NETWORKS = settings(derandomize=True, deadline=None, database=None)
PLAIN = {
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "layers_per_block": 1,
    "down_block_types": ["DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D"],
    "attention_head_dim": None,
    "norm_num_groups": 4,
    "num_class_embeds": None,
}


def check_there_and_back(config, as_safetensors):
    """diffusers -> file -> our network -> file -> diffusers."""
    model = random_model(config, seed=0)
    inputs = random_inputs(config, seed=0)
    expected = predict(model, inputs)
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = Path(folder, "theirs"), Path(folder, "ours")
        model.save_pretrained(theirs, safe_serialization=as_safetensors)
        network = UNet.from_checkpoint(theirs)
        save_checkpoint(network, ours, "diffusers")
        again = diffusers.UNet2DModel.from_pretrained(
            ours, low_cpu_mem_usage=False
        ).eval()
    outputs = np.asarray(network(inputs))
    assert np.abs(outputs - expected).max() / expected.std() <= GATE
    tensors, written = model.state_dict(), again.state_dict()
    assert set(tensors) == set(written)
    for name, tensor in tensors.items():
        assert tensor.numpy().tobytes() == written[name].numpy().tobytes()
    np.testing.assert_array_equal(predict(again, inputs), expected)


@settings(NETWORKS, max_examples=6)
@given(configs(), st.booleans())
def test_a_network_of_diffusers_survives_the_way_there_and_back(
    config, as_safetensors
):
    check_there_and_back(config, as_safetensors)


@pytest.mark.slow
@settings(NETWORKS, max_examples=40, derandomize=False)
@given(configs(), st.booleans())
def test_many_networks_of_diffusers_survive_the_way_there_and_back(
    config, as_safetensors
):
    check_there_and_back(config, as_safetensors)


@pytest.mark.parametrize(
    "changes",
    [
        # 28 * (116 / 28) is not 116 in floats.
        {"block_out_channels": [28, 116]},
        # Of 2022.
        {
            "block_out_channels": [8, 8],
            "down_block_types": 2 * ["UNetResAttnDownBlock2D"],
            "up_block_types": 2 * ["UNetResAttnUpBlock2D"],
        },
        # Groups of an attention that is not there.
        {
            "block_out_channels": [8, 8],
            "attn_norm_num_groups": 2,
            "add_attention": False,
        },
    ],
)
def test_a_network_that_was_once_refused_is_read(changes):
    check_there_and_back(PLAIN | changes, as_safetensors=True)


@settings(NETWORKS, max_examples=3)
@given(configs())
def test_a_network_that_unet_cannot_be_is_refused_by_the_key(config):
    for changes in impossible_changes(config):
        with tempfile.TemporaryDirectory() as folder:
            random_model(config | changes, seed=0).save_pretrained(folder)
            key = next(iter(changes))
            with pytest.raises(ValueError, match=f"{key}="):
                UNet.from_checkpoint(folder)
