"""Inputs of any small U-Net, and what its layers make of them."""

import keras
import numpy as np
from conftest import SMALL, randomize

from keras_unet_diffusion import UNet


def small_unet(**options):
    """A small U-Net with random weights, everything else as in `SMALL`."""
    return randomize(UNet(**SMALL | options))


def make_inputs(network, size=None, batch=2, seed=0):
    """Random inputs for all that a network takes, a dict of numpy arrays."""
    random = np.random.default_rng(seed)
    size = size or network.image_size or 8
    inputs = {}
    for name, tensor in network.input.items():
        shape = tensor.shape[1:]
        if name == "noise_level":
            inputs[name] = np.linspace(3, 800, batch).astype("float32")
            continue
        if name == "labels":
            inputs[name] = np.arange(batch) % network.num_classes
            continue
        if name == "noisy_images":
            shape = (size, size, shape[-1])
        elif name == "low_resolution_images":
            smaller = size // network.super_resolution_factor
            shape = (smaller, smaller, shape[-1])
        elif name == "context":
            shape = (5, shape[-1])
        numbers = random.standard_normal((batch, *shape))
        inputs[name] = numbers.astype("float32")
    return inputs


def layer_outputs(network, inputs, *names):
    """What the named layers of a network put out, a list of numpy arrays."""
    outputs = {name: network.get_layer(name).output for name in names}
    made = keras.Model(network.input, outputs)(inputs)
    return [np.asarray(made[name]) for name in names]


def names_of(network, *words):
    """Names of the layers that contain all words, in order."""
    return [
        layer.name
        for layer in network.layers
        if all(word in layer.name for word in words)
    ]


def share_weights(source, target):
    """Copies the weights of layers that bear the same name in both."""
    names = {layer.name for layer in source.layers}
    for layer in target.layers:
        if layer.name in names:
            layer.set_weights(source.get_layer(layer.name).get_weights())
