"""Gradients, not only outputs, are those of the network that was imported.

Fine-tuning a published network goes wrong where they are not.
"""

import functools

import numpy as np
import pytest
import tensorflow as tf
from weight_fixtures import MemoryCheckpoint

from keras_unet_diffusion import UNet
from keras_unet_diffusion.weights import (
    find_layout,
    infer_arguments,
    load_checkpoint_into,
)

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from diffusers_networks import random_inputs, random_model  # noqa: E402

# Max |difference| over the deviation of each gradient. The worst tensor comes
# to 4e-5; PyTorch's own gradients move by 2.5e-5 from float32 to float64.
GATE = 1e-4
ADDITIVE = {
    "sample_size": 16,
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": [16, 32],
    "layers_per_block": 1,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "norm_num_groups": 8,
    "attention_head_dim": 8,
    "num_class_embeds": None,
}
SCALE_SHIFT = ADDITIVE | {
    "resnet_time_scale_shift": "scale_shift",
    "down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "upsample_type": "resnet",
    "num_class_embeds": 5,
}
# One weight of every kind.
NAMED = {
    "stem": "conv_in.weight",
    "noise_level_1": "time_embedding.linear_1.weight",
    "noise_level_2": "time_embedding.linear_2.weight",
    "norm_gain": "down_blocks.0.resnets.0.norm1.weight",
    "norm_bias": "up_blocks.1.resnets.1.norm2.bias",
    "convolution_1": "down_blocks.1.resnets.0.conv1.weight",
    "convolution_2": "mid_block.resnets.1.conv2.weight",
    "injection": "down_blocks.0.resnets.0.time_emb_proj.weight",
    "shortcut": "down_blocks.1.resnets.0.conv_shortcut.weight",
    "query": "mid_block.attentions.0.to_q.weight",
    "key": "down_blocks.1.attentions.0.to_k.weight",
    "value": "up_blocks.0.attentions.1.to_v.weight",
    "attention_output": "mid_block.attentions.0.to_out.0.weight",
    "output": "conv_out.weight",
}
RESAMPLING = {
    "additive": {
        "downsample": "down_blocks.0.downsamplers.0.conv.weight",
        "upsample": "up_blocks.0.upsamplers.0.conv.weight",
    },
    "scale_shift_and_blocks": {
        "downsample": "down_blocks.0.downsamplers.0.conv1.weight",
        "upsample": "up_blocks.0.upsamplers.0.conv2.weight",
        "label": "class_embedding.weight",
    },
}
CONFIGS = {"additive": ADDITIVE, "scale_shift_and_blocks": SCALE_SHIFT}


@functools.cache
def gradients(name):
    """Gradients of a scalar loss by tensor: PyTorch's and ours."""
    config = CONFIGS[name]
    model = random_model(config, seed=0)
    tensors = {key: x.numpy() for key, x in model.state_dict().items()}
    inputs = random_inputs(config, seed=0)
    shape = (*inputs["noisy_images"].shape[:3], config["out_channels"])
    weights = np.random.default_rng(1).standard_normal(shape, "float32")
    theirs = _torch_gradients(model, inputs, weights)
    checkpoint = MemoryCheckpoint(tensors, config)
    network = UNet(**infer_arguments(checkpoint))
    load_checkpoint_into(network, checkpoint)
    return theirs, _our_gradients(network, inputs, weights)


def _torch_gradients(model, inputs, weights):
    labels = inputs.get("labels")
    outputs = model(
        torch.tensor(inputs["noisy_images"]).permute(0, 3, 1, 2),
        torch.tensor(inputs["noise_level"]),
        class_labels=None if labels is None else torch.tensor(labels),
    ).sample
    loss = (outputs.permute(0, 2, 3, 1) * torch.tensor(weights)).mean()
    loss.backward()
    return {name: x.grad.numpy() for name, x in model.named_parameters()}


def _our_gradients(network, inputs, weights):
    """Gradients by diffusers' names, in its order of axes."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(network(inputs) * weights)
    variables = network.trainable_variables
    found = tape.gradient(loss, [x.value for x in variables])
    by_variable = {
        id(variable): np.asarray(tf.convert_to_tensor(gradient))
        for variable, gradient in zip(variables, found, strict=True)
    }
    return {
        entry.name: entry.transform.from_keras(
            *(by_variable[id(x)] for x in entry.variables)
        )
        for entry in find_layout({}, "diffusers").entries(network)
    }


def error_over_spread(name, tensor):
    theirs, ours = (x[tensor] for x in gradients(name))
    return np.abs(ours - theirs).max() / theirs.std()


@pytest.mark.parametrize(
    ("name", "kind"), [(x, y) for x in CONFIGS for y in NAMED | RESAMPLING[x]]
)
def test_the_gradient_of_a_kind_of_weight_is_that_of_pytorch(name, kind):
    tensor = (NAMED | RESAMPLING[name])[kind]
    assert error_over_spread(name, tensor) <= GATE


@pytest.mark.parametrize("name", CONFIGS)
def test_the_gradient_of_every_other_weight_is_that_of_pytorch(name):
    theirs, ours = gradients(name)
    assert set(theirs) == set(ours)
    for tensor in theirs:
        # A constant added to a key moves all scores alike: no gradient.
        if not tensor.endswith(".to_k.bias"):
            assert error_over_spread(name, tensor) <= GATE, tensor


@pytest.mark.parametrize("name", CONFIGS)
def test_the_bias_of_a_key_has_no_gradient(name):
    _, ours = gradients(name)
    biases = [x for x in ours if x.endswith(".to_k.bias")]
    assert len(biases) == 4
    for tensor in biases:
        query = ours[tensor.replace("to_k", "to_q")]
        # Zero but for rounding, which comes to 3e-6.
        assert np.abs(ours[tensor]).max() <= 2e-5 * query.std()
