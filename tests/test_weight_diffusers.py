"""diffusers' own networks against ours, in every form of its config."""

import numpy as np
import pytest
from weight_fixtures import MemoryCheckpoint, checkpoint_of

from keras_unet_diffusion import UNet
from keras_unet_diffusion.weights import (
    diffusers_config,
    export_tensors,
    infer_arguments,
    load_checkpoint_into,
)
from keras_unet_diffusion.weights.diffusers_config import DEFAULTS

# A small network; each case changes some keys.
SMALL = {
    "sample_size": 16,
    "block_out_channels": [32, 64],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 8,
}
CONFIGS = {
    "defaults": {},
    "no_middle_attention": {"add_attention": False},
    "attention_in_the_encoder_alone": {
        "up_block_types": ["UpBlock2D", "UpBlock2D"]
    },
    "middle_norm": {
        "resnet_time_scale_shift": "scale_shift",
        "attn_norm_num_groups": 8,
        "attention_head_dim": 16,
    },
    "blocks_down_convolutions_up": {
        "down_block_types": ["AttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "AttnUpBlock2D"],
        "downsample_type": "resnet",
        "num_class_embeds": 5,
    },
    "blocks_up_convolutions_down": {
        "up_block_types": ["AttnUpBlock2D", "ResnetUpsampleBlock2D"],
        "upsample_type": "resnet",
        "downsample_padding": 0,
        "time_embedding_dim": 48,
        "attention_head_dim": None,
    },
    "grey_to_two_channels": {
        "in_channels": 1,
        "out_channels": 2,
        "sample_size": [16, 16],
        "freq_shift": 1,
        "flip_sin_to_cos": False,
    },
}


def refused(changes):
    """The message in which a config is refused."""
    config = {"_class_name": "UNet2DModel"} | SMALL | changes
    tensors = checkpoint_of("diffusers_train_example").tensors
    with pytest.raises(ValueError) as error:
        infer_arguments(MemoryCheckpoint(tensors, config))
    return str(error.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("_class_name", "UNet2DConditionModel"),
        ("center_input_sample", True),
        ("time_embedding_type", "fourier"),
        ("mid_block_type", None),
        ("mid_block_scale_factor", 1.4),
        ("downsample_padding", 2),
        ("act_fn", "relu"),
        ("resnet_time_scale_shift", "spatial"),
        ("class_embed_type", "timestep"),
        ("norm_num_groups", None),
        ("attn_norm_num_groups", 4),
    ],
)
def test_what_unet_cannot_express_is_refused_by_key_and_value(key, value):
    assert f"{key}={value!r}" in refused({key: value})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (
            {"down_block_types": ["SkipDownBlock2D", "AttnDownBlock2D"]},
            "down_block_types with SkipDownBlock2D",
        ),
        (
            {"up_block_types": ["UpBlock2D", "AttnUpBlock2D"]},
            "attention at different levels",
        ),
        (
            {
                "block_out_channels": [32, 32, 32],
                "down_block_types": [
                    "DownBlock2D",
                    "ResnetDownsampleBlock2D",
                    "DownBlock2D",
                ],
                "up_block_types": 3 * ["UpBlock2D"],
            },
            "mix both ways of resampling",
        ),
        ({"block_out_channels": [32]}, "2 down_block_types for 1"),
    ],
)
def test_levels_that_unet_cannot_mix_are_refused(changes, named):
    assert named in refused(changes)


def test_without_a_config_the_architecture_is_unknown():
    tensors = checkpoint_of("diffusers_train_example").tensors
    with pytest.raises(ValueError, match="config.json"):
        infer_arguments(MemoryCheckpoint(tensors))


def test_the_defaults_are_those_of_the_class():
    import inspect

    diffusers = pytest.importorskip("diffusers")
    parameters = inspect.signature(diffusers.UNet2DModel.__init__).parameters
    theirs = {x.name: x.default for x in parameters.values()}
    theirs.pop("self")
    assert theirs == DEFAULTS


@pytest.mark.parametrize("name", CONFIGS)
def test_both_libraries_predict_the_same_from_the_same_weights(name):
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    config = SMALL | CONFIGS[name]
    theirs = diffusers.UNet2DModel(**config).eval()
    checkpoint = MemoryCheckpoint(
        {x: tensor.numpy() for x, tensor in theirs.state_dict().items()},
        {"_class_name": "UNet2DModel"} | config,
    )
    network = UNet(**infer_arguments(checkpoint))
    load_checkpoint_into(network, checkpoint)
    random = np.random.default_rng(0)
    images = random.standard_normal((2, 16, 16, network.image_channels))
    inputs = {
        "noisy_images": images.astype("float32"),
        "noise_level": np.array([3.0, 700.0], "float32"),
    }
    labels = None
    if network.num_classes is not None:
        inputs["labels"] = np.array([1, 4])
        labels = torch.tensor([1, 4])

    def predict(model):
        with torch.no_grad():
            outputs = model(
                torch.tensor(inputs["noisy_images"]).permute(0, 3, 1, 2),
                torch.tensor([3, 700]),
                class_labels=labels,
            ).sample
        return outputs.permute(0, 2, 3, 1).numpy()

    expected = predict(theirs)
    outputs = np.asarray(network(inputs))
    # Rounding of float32: see the gate of test_weight_fixtures.py.
    assert np.abs(outputs - expected).max() / expected.std() <= 2e-5

    written = export_tensors(network, "diffusers")
    again = diffusers.UNet2DModel.from_config(diffusers_config(network)).eval()
    again.load_state_dict({x: torch.tensor(y) for x, y in written.items()})
    np.testing.assert_array_equal(predict(again), expected)
