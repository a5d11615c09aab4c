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

# Over the deviation of each gradient the worst of these tensors differ by
# 1e-5 from PyTorch's.
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
CONFIGS = {"additive": ADDITIVE, "scale_shift_and_blocks": SCALE_SHIFT}


@functools.cache
def gradients(name, dtype="float32"):
    """Gradients of a scalar loss by tensor: PyTorch's and ours."""
    config = CONFIGS[name]
    model = random_model(config, seed=0)
    tensors = {key: x.numpy() for key, x in model.state_dict().items()}
    inputs = random_inputs(config, seed=0)
    shape = (*inputs["noisy_images"].shape[:3], config["out_channels"])
    weights = np.random.default_rng(1).standard_normal(shape, "float32")
    theirs = _torch_gradients(model.to(getattr(torch, dtype)), inputs, weights)
    checkpoint = MemoryCheckpoint(tensors, config)
    network = UNet(**infer_arguments(checkpoint))
    load_checkpoint_into(network, checkpoint)
    return theirs, _our_gradients(network, inputs, weights)


def _torch_gradients(model, inputs, weights):
    dtype = next(model.parameters()).dtype
    labels = inputs.get("labels")
    outputs = model(
        torch.tensor(inputs["noisy_images"], dtype=dtype).permute(0, 3, 1, 2),
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
