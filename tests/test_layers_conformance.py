"""Generic checks over a table of every public layer."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import SMALL, randomize

from keras_unet_diffusion import UNet, layers

IMAGES = (2, 8, 8, 16)
VECTORS = (2, 12)

# Layer, arguments, shapes of the call's arguments, shape that comes out.
TABLE = [
    (layers.SinusoidalEmbedding, {"channels": 8}, [(2,)], (2, 8)),
    (
        layers.NoiseLevelEmbedding,
        {"channels": 12, "sinusoid_channels": 8},
        [(2,)],
        VECTORS,
    ),
    (
        layers.LabelEmbedding,
        {"num_classes": 10, "channels": 12},
        ["labels"],
        VECTORS,
    ),
    (layers.GroupNormalization, {"num_groups": 4}, [IMAGES], IMAGES),
    (
        layers.ModulatedGroupNormalization,
        {"num_groups": 4, "epsilon": 1e-5},
        [IMAGES, VECTORS],
        IMAGES,
    ),
    (
        layers.ResidualBlock,
        {"channels": 24, "num_groups": 4, "dropout": 0.1},
        [IMAGES, VECTORS],
        (2, 8, 8, 24),
    ),
    (
        layers.ResidualBlock,
        {"channels": 16, "num_groups": 4, "scale_shift": True},
        [IMAGES, VECTORS],
        IMAGES,
    ),
    (
        layers.SpatialSelfAttention,
        {"num_heads": 4, "num_groups": 4},
        [IMAGES],
        IMAGES,
    ),
    (
        layers.SpatialSelfAttention,
        {"num_head_channels": 8, "num_groups": 4},
        [IMAGES],
        IMAGES,
    ),
    (layers.Downsample, {"channels": 24}, [IMAGES], (2, 4, 4, 24)),
    (
        layers.Downsample,
        {"channels": 24, "padding": (1, 1)},
        [IMAGES],
        (2, 4, 4, 24),
    ),
    (layers.Upsample, {"channels": 4}, [IMAGES], (2, 16, 16, 4)),
]
ids = [f"{i}-{row[0].__name__}" for i, row in enumerate(TABLE)]
each_layer = pytest.mark.parametrize(
    "layer, arguments, shapes, out", TABLE, ids=ids
)


def make_inputs(shapes):
    random = np.random.default_rng(0)
    return [
        np.array([3, 9])
        if shape == "labels"
        else random.standard_normal(shape).astype("float32")
        for shape in shapes
    ]


def build(layer, arguments, inputs, dtype="float32"):
    """Builds a layer and moves its weights off their initial values."""
    instance = layer(**arguments, dtype=dtype)
    instance(*inputs)
    random = np.random.default_rng(1)
    instance.set_weights(
        [
            ("gamma" in w.path) + 0.3 * random.standard_normal(w.shape)
            for w in instance.weights
        ]
    )
    return instance


def test_the_table_names_every_public_layer():
    public = {getattr(layers, name) for name in layers.__all__}
    assert public == {row[0] for row in TABLE}
    assert all(inspect.isclass(x) for x in public)


@each_layer
def test_shape_is_computed_as_it_comes_out(layer, arguments, shapes, out):
    inputs = make_inputs(shapes)
    instance = build(layer, arguments, inputs)
    assert instance(*inputs).shape == out
    symbolic = instance(*[keras.KerasTensor(x.shape, x.dtype) for x in inputs])
    assert symbolic.shape == out


@each_layer
def test_config_round_trip_keeps_arguments_and_function(
    layer, arguments, shapes, out
):
    inputs = make_inputs(shapes)
    instance = build(layer, arguments, inputs)
    copy = layer.from_config(instance.get_config())
    for name, value in arguments.items():
        assert getattr(copy, name) == value
    copy(*inputs)
    copy.set_weights(instance.get_weights())
    np.testing.assert_array_equal(copy(*inputs), instance(*inputs))


@each_layer
def test_keras_file_round_trip_is_exact(
    layer, arguments, shapes, out, tmp_path
):
    inputs = make_inputs(shapes)
    instance = build(layer, arguments, inputs)
    symbols = [keras.Input(x.shape[1:], dtype=x.dtype) for x in inputs]
    model = keras.Model(symbols, instance(*symbols))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(inputs, verbose=0), model.predict(inputs, verbose=0)
    )


@each_layer
def test_graph_mode_equals_eager_mode(layer, arguments, shapes, out):
    inputs = make_inputs(shapes)
    instance = build(layer, arguments, inputs)
    eager = instance(*inputs)
    for jit_compile in (False, True):
        compiled = tf.function(instance, jit_compile=jit_compile)(*inputs)
        # Fused operations round differently in the last bits of float32.
        np.testing.assert_allclose(compiled, eager, rtol=1e-5, atol=1e-5)


@each_layer
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
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


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
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
