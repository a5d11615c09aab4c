"""A table of every public layer; their shapes, configurations and files."""

import inspect

import keras
import numpy as np
import pytest

from keras_unet_diffusion import layers

IMAGES = (2, 8, 8, 16)
SMALLER = (2, 4, 4, 16)
LARGER = (2, 16, 16, 16)
VECTORS = (2, 12)
FIR = (1, 3, 3, 1)
BLOCK = {"channels": 16, "num_groups": 4}
ATTENTION = {"num_heads": 4, "num_groups": 4}

# Layer, arguments, shapes of the call's arguments, shape that comes out.
TABLE = [
    (layers.SinusoidalEmbedding, {"channels": 8}, [(2,)], (2, 8)),
    (
        layers.SinusoidalEmbedding,
        {"channels": 7, "order": "cos_sin", "frequency_shift": 0},
        [(2,)],
        (2, 7),
    ),
    (
        layers.FourierEmbedding,
        {"channels": 8, "scale": 2.0, "order": "cos_sin"},
        [(2,)],
        (2, 8),
    ),
    (
        layers.NoiseLevelEmbedding,
        {"channels": 12, "wave_channels": 8},
        [(2,)],
        VECTORS,
    ),
    (
        layers.NoiseLevelEmbedding,
        {"channels": 12, "wave_channels": 8, "fourier_scale": 2.0},
        [(2,), (2, 8)],
        VECTORS,
    ),
    (
        layers.LabelEmbedding,
        {"num_classes": 10, "channels": 12},
        ["labels"],
        VECTORS,
    ),
    # With nine classes the second label, 9, means no class.
    (
        layers.LabelEmbedding,
        {"num_classes": 9, "channels": 12, "null_label": "learned"},
        ["labels"],
        VECTORS,
    ),
    (
        layers.LabelEmbedding,
        {
            "num_classes": 9,
            "channels": 12,
            "null_label": "zero",
            "one_hot": True,
            "initialization": "edm",
        },
        ["labels"],
        VECTORS,
    ),
    (layers.GroupNormalization, {"num_groups": 4}, [IMAGES], IMAGES),
    (
        layers.GroupNormalization,
        {"num_groups": 32, "min_group_channels": 8},
        [IMAGES],
        IMAGES,
    ),
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
        BLOCK | {"scale_shift": True, "resampling": "down"},
        [IMAGES, VECTORS],
        SMALLER,
    ),
    (
        layers.ResidualBlock,
        {
            "channels": 16,
            "min_group_channels": 4,
            "resampling": "up",
            "resampling_kernel": FIR,
            "resampling_shortcut": "conv",
            "residual_scale": 0.5**0.5,
            "initialization": "edm",
        },
        [IMAGES, VECTORS],
        LARGER,
    ),
    (
        layers.ResidualBlock,
        BLOCK | {"scale_shift": True, "rematerialize": True, "dropout": 0.1},
        [IMAGES, VECTORS],
        IMAGES,
    ),
    (layers.SpatialSelfAttention, ATTENTION, [IMAGES], IMAGES),
    (
        layers.SpatialSelfAttention,
        {
            "num_head_channels": 8,
            "num_groups": 4,
            "query_key_norm": True,
            "residual_scale": 0.5,
            "rematerialize": True,
        },
        [IMAGES],
        IMAGES,
    ),
    (
        layers.SpatialSelfAttention,
        {"normalize": False, "initialization": "adm"},
        [IMAGES],
        IMAGES,
    ),
    (
        layers.SpatialCrossAttention,
        ATTENTION | {"query_key_norm": True},
        [IMAGES, (2, 5, 12)],
        IMAGES,
    ),
    (
        layers.SpatialCrossAttention,
        ATTENTION | {"rematerialize": True},
        [IMAGES, (2, 5, 16)],
        IMAGES,
    ),
    (
        layers.Downsample,
        {"channels": 24},
        [IMAGES],
        (2, 4, 4, 24),
    ),
    (
        layers.Downsample,
        {"channels": 24, "padding": (1, 1)},
        [IMAGES],
        (2, 4, 4, 24),
    ),
    (layers.FilteredDownsample, {}, [IMAGES], SMALLER),
    (layers.FilteredDownsample, {"kernel": FIR}, [IMAGES], SMALLER),
    (
        layers.PyramidDownsample,
        {"channels": 24, "resampling_kernel": FIR},
        [IMAGES],
        (2, 4, 4, 24),
    ),
    (layers.Upsample, {"channels": 4}, [IMAGES], (2, 16, 16, 4)),
    (
        layers.Upsample,
        {"channels": 4, "kernel": FIR},
        [IMAGES],
        (2, 16, 16, 4),
    ),
    (
        layers.Upsample,
        {"channels": 4, "interpolation": "bilinear"},
        [IMAGES],
        (2, 16, 16, 4),
    ),
    (
        layers.Upsample,
        {"channels": 4, "interpolation": "transposed"},
        [IMAGES],
        (2, 16, 16, 4),
    ),
    (layers.FilteredUpsample, {}, [IMAGES], LARGER),
    (layers.FilteredUpsample, {"kernel": FIR}, [IMAGES], LARGER),
    (layers.BilinearUpsample, {"factor": 2}, [IMAGES], LARGER),
    (
        layers.MagnitudePreservingConv2D,
        {"channels": 24, "kernel_size": 3, "constant_channel": True},
        [IMAGES],
        (2, 8, 8, 24),
    ),
    (
        layers.MagnitudePreservingDense,
        {"channels": 24, "learned_gain": True},
        [VECTORS],
        (2, 24),
    ),
    (
        layers.MagnitudePreservingConcatenate,
        {"balance": 0.3},
        [IMAGES, (2, 8, 8, 4)],
        (2, 8, 8, 20),
    ),
    (
        layers.MagnitudePreservingFourierEmbedding,
        {"channels": 8, "bandwidth": 0.5},
        [(2,)],
        (2, 8),
    ),
    (
        layers.MagnitudePreservingEmbedding,
        {"channels": 12, "noise_channels": 8},
        [(2,)],
        VECTORS,
    ),
    (
        layers.MagnitudePreservingEmbedding,
        {
            "channels": 12,
            "noise_channels": 8,
            "num_classes": 9,
            "null_label": True,
        },
        [(2,), "labels"],
        VECTORS,
    ),
    (
        layers.MagnitudePreservingSelfAttention,
        {"num_head_channels": 8},
        [IMAGES],
        IMAGES,
    ),
    (
        layers.MagnitudePreservingEncoderBlock,
        {
            "channels": 24,
            "resample": True,
            "num_head_channels": 8,
            "dropout": 0.1,
        },
        [IMAGES, VECTORS],
        (2, 4, 4, 24),
    ),
    (
        layers.MagnitudePreservingEncoderBlock,
        {"channels": 16},
        [IMAGES, VECTORS],
        IMAGES,
    ),
    (
        layers.MagnitudePreservingDecoderBlock,
        {"channels": 24, "resample": True, "num_head_channels": 8},
        [IMAGES, VECTORS],
        (2, 16, 16, 24),
    ),
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
    np.testing.assert_array_equal(loaded(inputs), model(inputs))
