"""Generic checks of how every public layer computes."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import SMALL, first_of_each, randomize
from test_layers_table import TABLE, build, each_layer, ids, make_inputs

from keras_unet_diffusion import UNet


@each_layer
def test_graph_mode_equals_eager_mode(layer, arguments, shapes, out):
    inputs = make_inputs(shapes)
    instance = build(layer, arguments, inputs)
    # Fused operations round differently in the last bits of float32.
    np.testing.assert_allclose(
        tf.function(instance)(*inputs), instance(*inputs), rtol=1e-5, atol=1e-5
    )


# A program of XLA is compiled for a second: by default one of each layer.
@pytest.mark.parametrize(
    "layer, arguments, shapes, out",
    first_of_each(TABLE, lambda layer, *_: layer),
    ids=ids,
)
def test_outputs_and_gradients_under_xla_equal_eager_ones(
    layer, arguments, shapes, out
):
    inputs = [tf.constant(x) for x in make_inputs(shapes)]
    instance = build(layer, arguments, inputs)

    def output_and_gradients(*inputs):
        with tf.GradientTape() as tape:
            floats = [x for x in inputs if x.dtype == "float32"]
            tape.watch(floats)
            output = instance(*inputs)
            loss = tf.reduce_mean(tf.square(output))
        sources = floats + instance.trainable_variables
        gradients = tape.gradient(loss, sources)
        return output, [tf.convert_to_tensor(x) for x in gradients]

    eager = output_and_gradients(*inputs)
    compiled = tf.function(output_and_gradients, jit_compile=True)(*inputs)
    for exact, ours in zip(
        tf.nest.flatten(eager), tf.nest.flatten(compiled), strict=True
    ):
        # Sums of some hundred products, in another order.
        bound = 1e-5 * max(1, np.abs(exact).max())
        assert np.abs(exact - ours).max() <= bound


# The same code with other numbers of bits.
EACH_POLICY = [
    "mixed_float16",
    pytest.param("mixed_bfloat16", marks=pytest.mark.slow),
]


@each_layer
@pytest.mark.parametrize("policy", EACH_POLICY)
def test_mixed_precision_is_close_to_float32(
    layer, arguments, shapes, out, policy
):
    inputs = make_inputs(shapes)
    exact = np.asarray(build(layer, arguments, inputs)(*inputs))
    mixed = build(layer, arguments, inputs, policy)
    outputs = mixed(*inputs)
    assert all(w.dtype == "float32" for w in mixed.weights)
    assert keras.backend.standardize_dtype(outputs.dtype) in (
        mixed.compute_dtype,
        "float32",
    )
    # A few roundings to 11 (float16) or 8 (bfloat16) bits of precision.
    bound = {"mixed_float16": 0.01, "mixed_bfloat16": 0.08}[policy]
    difference = np.abs(np.asarray(outputs, "float32") - exact).max()
    assert difference <= bound * np.abs(exact).max()


@each_layer
def test_float64_stays_float64(layer, arguments, shapes, out):
    inputs = make_inputs(shapes)
    exact = np.asarray(build(layer, arguments, inputs, "float64")(*inputs))
    # Noise levels become waves in float32 under every policy.
    waves = exact.dtype == "float32" and "Embedding" in layer.__name__
    assert exact.dtype == "float64" or waves
    rounded = np.asarray(build(layer, arguments, inputs)(*inputs))
    # Some hundred float32 roundings in a row.
    assert np.abs(exact - rounded).max() <= 1e-5 * np.abs(exact).max()


@each_layer
def test_no_tensor_has_more_than_four_dimensions(layer, arguments, shapes, out):
    inputs = make_inputs(shapes)
    instance = build(layer, arguments, inputs)
    graph = tf.function(instance).get_concrete_function(
        *[tf.constant(x) for x in inputs]
    )
    ranks = {
        output.shape.rank
        for operation in graph.graph.get_operations()
        for output in operation.outputs
        if output.shape.rank is not None
    }
    assert max(ranks) <= 4


@pytest.mark.parametrize("policy", EACH_POLICY)
def test_unet_keeps_its_policy_through_a_keras_file(policy, tmp_path):
    # Saved under one global policy, loaded under another.
    network = randomize(UNet(**SMALL, dtype=policy))
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    assert loaded.dtype_policy.name == policy
    inputs = {
        "noisy_images": make_inputs([(2, 8, 8, 1)])[0],
        "noise_level": np.array([0.0, 999.0]),
    }
    outputs = loaded(inputs)
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
    np.testing.assert_array_equal(outputs, network(inputs))
