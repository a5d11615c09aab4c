"""Rematerialization: the same gradients, from less memory."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import SMALL, randomize

from keras_unet_diffusion import DiffusionModel, UNet, layers

IMAGES, VECTORS, CONTEXT = (8, 8, 16), (12,), (5, 6)


def make_network(rematerialize, policy="float32"):
    """Every layer that rematerializes, between others."""
    images, vectors, context = (
        keras.Input(shape) for shape in (IMAGES, VECTORS, CONTEXT)
    )
    common = {
        "num_groups": 4,
        "rematerialize": rematerialize,
        "dtype": policy,
    }
    block = {"dropout": 0.5} | common
    attention = {"num_heads": 2, "query_key_norm": True} | common
    hidden = layers.ResidualBlock(16, resampling="down", **block)(
        images, vectors
    )
    hidden = layers.SpatialSelfAttention(**attention)(hidden)
    hidden = layers.SpatialCrossAttention(**attention)(hidden, context)
    hidden = layers.ResidualBlock(24, scale_shift=True, **block)(
        hidden, vectors
    )
    network = keras.Model([images, vectors, context], hidden)
    return randomize(network, scale=0.3)


def make_pair(make):
    """A network and the same one rematerialized: weights and dropout too."""
    plain, cheap = make(False), make(True)
    cheap.set_weights(plain.get_weights())
    copy_seeds(plain, cheap)
    return plain, cheap


def copy_seeds(source, target):
    for ours, theirs in zip(source.layers, target.layers, strict=True):
        if isinstance(ours, layers.ResidualBlock) and ours.dropout:
            theirs._seeds.state.assign(ours._seeds.state)


def make_inputs():
    random = np.random.default_rng(0)
    return [
        tf.constant(random.standard_normal((4, *shape)), tf.float32)
        for shape in (IMAGES, VECTORS, CONTEXT)
    ]


def loss_and_gradients(network):
    """A function of the inputs: loss, gradients of weights and inputs."""

    def compute(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = tf.cast(network(inputs, training=True), tf.float32)
            loss = tf.reduce_mean(tf.square(outputs - 1))
        flat_inputs = [
            x for x in tf.nest.flatten(inputs) if x.dtype.is_floating
        ]
        sources = [*network.trainable_variables, *flat_inputs]
        return loss, tape.gradient(loss, sources)

    return compute


def assert_same(first, second, precision):
    """Max |difference| of each tensor, relative to its largest element."""
    for x, y in zip(
        tf.nest.flatten(first), tf.nest.flatten(second), strict=True
    ):
        x, y = (np.asarray(tf.cast(z, tf.float64)) for z in (x, y))
        # 1e-4: where the gradient is 0 but for rounding (biases of keys).
        assert np.abs(x - y).max() <= precision * max(np.abs(x).max(), 1e-4)


@pytest.mark.parametrize(
    "mode", ["eager", "graph", pytest.param("xla", marks=pytest.mark.slow)]
)
def test_gradients_are_the_same_with_dropout(mode):
    inputs = make_inputs()
    results = []
    for network in make_pair(make_network):
        compute = loss_and_gradients(network)
        if mode != "eager":
            compute = tf.function(compute, jit_compile=mode == "xla")
        results.append(compute(inputs))
    # Only the order of float32 sums differs, if anything.
    assert_same(*results, precision=1e-4)


def test_gradients_are_the_same_under_mixed_precision():
    inputs = make_inputs()
    plain, cheap = make_pair(lambda x: make_network(x, "mixed_bfloat16"))
    results = [loss_and_gradients(x)(inputs) for x in (plain, cheap)]
    # Eagerly, the very same operations in the very same precision.
    assert_same(*results, precision=1e-6)


def test_dropout_differs_from_step_to_step():
    inputs = make_inputs()
    compute = loss_and_gradients(make_network(True))
    first, second = compute(inputs)[0], compute(inputs)[0]
    assert abs(float(first) - float(second)) > 1e-3


def operations(compute, inputs):
    """Types of the operations in the graph of a function, a list of str."""
    graph = tf.function(compute).get_concrete_function(inputs).graph
    return [operation.type for operation in graph.get_operations()]


def test_the_inside_is_computed_again_for_the_gradient():
    plain, cheap = (
        operations(loss_and_gradients(network), make_inputs()).count("Conv2D")
        for network in make_pair(make_network)
    )
    # Two blocks of two convolutions, one of them with a 1x1 shortcut.
    assert cheap - plain == 5


def make_block(rematerialize):
    """A residual block alone: XLA compiles it in seconds."""
    images, vectors = keras.Input(IMAGES), keras.Input(VECTORS)
    block = layers.ResidualBlock(
        16, num_groups=4, dropout=0.5, rematerialize=rematerialize
    )
    return randomize(keras.Model([images, vectors], block(images, vectors)))


def test_xla_does_not_find_that_the_inside_is_computed_twice():
    plain, cheap = (
        tf.function(loss_and_gradients(network), jit_compile=True)
        .experimental_get_compiler_ir(make_inputs()[:2])("optimized_hlo")
        .count(" convolution(")
        for network in make_pair(make_block)
    )
    # The first convolution; no gradient needs the output of the second, which
    # is left out therefore.
    assert cheap - plain == 1


def test_nothing_is_rematerialized_without_training():
    # So that an exported network has no custom gradients of ours.
    plain, cheap = (
        operations(network, make_inputs())
        for network in make_pair(make_network)
    )
    assert cheap == plain


def unet_inputs():
    random = np.random.default_rng(0)
    images = random.standard_normal((2, 8, 8, 1)).astype("float32")
    return {
        "noisy_images": tf.constant(images),
        "noise_level": tf.constant([3.0, 700.0]),
    }


def test_a_u_net_hands_rematerialization_to_its_blocks():
    def make(rematerialize):
        arguments = SMALL | {"rematerialize": rematerialize, "dropout": 0.3}
        return randomize(UNet(**arguments))

    plain, cheap = make_pair(make)
    rematerialized = [
        layer
        for layer in cheap.layers
        if getattr(layer, "rematerialize", False)
    ]
    # Encoder 2, middle 2, decoder 4 blocks; 1, 1, 2 attentions.
    assert len(rematerialized) == 8 + 4
    results = [loss_and_gradients(x)(unet_inputs()) for x in (plain, cheap)]
    assert_same(*results, precision=1e-4)


@pytest.mark.slow
def test_training_goes_the_same_way(digits):
    images = digits[0][:16]

    def make(rematerialize):
        arguments = SMALL | {"rematerialize": rematerialize, "dropout": 0.3}
        return UNet(**arguments, initialization="diffusers")

    losses = []
    for network in make_pair(make):
        model = DiffusionModel(network, seed=0)
        # Only one of them is traced, which takes ten seconds.
        model.compile("adam", run_eagerly=not network.rematerialize)
        history = model.fit(
            images, batch_size=8, epochs=2, shuffle=False, verbose=0
        )
        losses.append(history.history["loss"])
    assert losses[0][0] != losses[0][1]
    # Four steps of float32 operations, in two orders.
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
