"""What the tests of `DiffusionModel` share: models, training, weights."""

import keras
import numpy as np
from conftest import one_block_network

from keras_unet_diffusion import DiffusionModel


def make_model(policy="float32", optimizer=None, seed=0, **kwargs):
    keras.utils.set_random_seed(0)
    model = DiffusionModel(one_block_network(policy), seed=seed, **kwargs)
    compile_arguments = {"jit_compile": False}
    model.compile(optimizer or keras.optimizers.Adam(1e-3), **compile_arguments)
    return model


def weights_of(network):
    return [np.array(w) for w in network.get_weights()]


def largest_difference(first, second):
    return max(np.abs(a - b).max() for a, b in zip(first, second, strict=True))


def train(model, images, num_steps, **kwargs):
    """Steps on the same batch; returns the loss of each."""
    losses = []
    for _ in range(num_steps):
        logs = model.train_on_batch(images, return_dict=True, **kwargs)
        losses.append(float(logs["loss"]))
    return np.array(losses)
