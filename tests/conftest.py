"""Shared fixtures: small networks, real images, a trained model."""

import contextlib
import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# XLA's programs run for milliseconds here, and are compiled for seconds: LLVM
# need not optimize what XLA has made of them.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import tensorflow as tf  # noqa: E402

from keras_unet_diffusion import (  # noqa: E402
    DiffusionModel,
    UNet,
    generation,
    layers,
    likelihood,
    network_calls,
    training_steps,
)
from keras_unet_diffusion.data import image_dataset  # noqa: E402

pytest_plugins = ["command_fixtures", "export_fixtures"]

# What was imported stays: the garbage collector need not look at it again.
gc.collect()
gc.freeze()
# Nor, while graphs are traced, at the many objects of each after a few more.
gc.set_threshold(10_000)

# An iterator that tunes itself often takes as long again to end as it was in
# use, up to a minute, waiting for what tunes it (TensorFlow 2.21).
untuned = tf.data.Options()
untuned.autotune.enabled = False
iterate = tf.data.Dataset.__iter__
tf.data.Dataset.__iter__ = lambda data: iterate(data.with_options(untuned))

# The smallest U-Net that still has every kind of layer.
SMALL = {
    "image_size": 8,
    "image_channels": 1,
    "base_channels": 8,
    "channel_multipliers": (1, 2),
    "num_residual_blocks": 1,
    "attention_resolutions": (4,),
    "num_heads": 2,
    "num_groups": 4,
}


@pytest.fixture(autouse=True)
def _fixed_randomness():
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_dtype_policy("float32")


def leave_loops_untraced(patch):
    """Loops of a few steps run without TensorFlow's tracing them for seconds.

    For tests of what a loop computes or of what surrounds it; compiled it is
    in test_generation.py, test_loop.py and test_samplers.py.

    Args:
        patch: a `pytest.MonkeyPatch`.
    """
    for module in (generation, likelihood, network_calls, training_steps):
        patch.setattr(module, "compiled", lambda function, *args: function)


@pytest.fixture
def untraced_loops(monkeypatch):
    """See `leave_loops_untraced`."""
    leave_loops_untraced(monkeypatch)


def randomize(network, scale=0.1, seed=0):
    """Gives every weight a random value: zero-initialised layers would
    otherwise hide what happens before them."""
    random = np.random.default_rng(seed)
    network.set_weights(
        [
            w + scale * random.standard_normal(w.shape)
            for w in network.get_weights()
        ]
    )
    return network


@contextlib.contextmanager
def without_values():
    """Networks made inside have shapes alone: the largest need 6 GB else."""
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        # Else Keras gives values to all of them when it next infers a shape,
        # in whatever test that is.
        keras.utils.clear_session()


def first_of_each(rows, kind):
    """Parameters of a test: by default the first row of each kind alone.

    Args:
        rows: list of tuples, the values of the parameters.
        kind: function of those values.

    Returns:
        List for `pytest.mark.parametrize`; the others are slow.
    """
    kinds, parameters = set(), []
    for row in rows:
        marks = [pytest.mark.slow] if kind(*row) in kinds else []
        kinds.add(kind(*row))
        parameters.append(pytest.param(*row, marks=marks))
    return parameters


def one_block_network(policy="float32"):
    """One residual block between two convolutions: where the trainer and not
    the U-Net is tested, because a U-Net takes ten seconds to trace."""
    images = keras.Input((8, 8, 1), name="noisy_images")
    level = keras.Input((), name="noise_level")
    embedding = layers.NoiseLevelEmbedding(16, 8, dtype=policy)(level)
    hidden = keras.layers.Conv2D(8, 3, padding="same", dtype=policy)(images)
    hidden = layers.ResidualBlock(8, num_groups=4, dtype=policy)(
        hidden, embedding
    )
    outputs = keras.layers.Conv2D(1, 3, padding="same", dtype="float32")(hidden)
    network = keras.Model(
        {"noisy_images": images, "noise_level": level}, outputs
    )
    return randomize(network)


@pytest.fixture
def small_network():
    """A small unconditional U-Net with random weights."""
    return randomize(UNet(**SMALL))


@pytest.fixture
def labelled_network():
    """A small U-Net with ten classes and random weights."""
    return randomize(UNet(**SMALL, num_classes=10))


@pytest.fixture
def small_model(labelled_network):
    """A compiled model around `labelled_network`."""
    model = DiffusionModel(labelled_network, seed=0)
    model.compile(keras.optimizers.Adam(1e-3))
    return model


@pytest.fixture(scope="session")
def digits():
    """All of one split at 8x8: images in [-1, 1] and labels, numpy."""
    dataset = image_dataset(
        "digits", image_size=8, batch_size=1500, shuffle=False
    )
    images, labels = next(dataset.as_numpy_iterator())
    return images, labels
