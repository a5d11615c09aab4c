"""What the tests of saved models share: a small one, a limit of space."""

import contextlib

import keras
import numpy as np
import pytest

from keras_unet_diffusion.training.checkpoints import load_model


def plain_model(value=0.5):
    """A model that is saved and loaded in milliseconds."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(50)])
    model.set_weights([np.full_like(w, value) for w in model.get_weights()])
    return model


def value_of(path):
    """The number that all weights of a saved `plain_model` have."""
    (value,) = np.unique(
        np.concatenate([w.ravel() for w in load_model(path).get_weights()])
    )
    return value


def change_a_bit(path):
    """Changes one in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@contextlib.contextmanager
def largest_file(num_bytes):
    """Makes writing more fail, as on a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
