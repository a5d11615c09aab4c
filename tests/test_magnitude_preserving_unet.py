"""MagnitudePreservingUNet: magnitudes, published sizes, wiring, training."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import without_values

from keras_unet_diffusion import DiffusionModel, MagnitudePreservingUNet
from keras_unet_diffusion.training import FusedAdam

# The smallest network that still has every kind of block.
SMALL = {
    "image_size": 8,
    "image_channels": 1,
    "base_channels": 8,
    "channel_multipliers": (1, 2),
    "num_residual_blocks": 1,
    "attention_resolutions": (4,),
    "num_head_channels": 8,
}


def make_inputs(size=8, channels=1, batch=2, **extra):
    random = np.random.default_rng(0)
    images = random.standard_normal((batch, size, size, channels))
    return {
        "noisy_images": images.astype("float32"),
        "noise_level": np.linspace(-1, 1, batch).astype("float32"),
    } | extra


def open_gains(network, value=0.5):
    """Sets every learned gain, all of which start at 0, to a number."""
    for weight in network.trainable_weights:
        if weight.path.endswith("/gain"):
            weight.assign(value)
    return network


@pytest.mark.parametrize(
    "preset, published_millions, parameters",
    [
        ("edm2_xxs", "31.31", 31_308_901),
        ("edm2_xs", "124.71", 124_713_125),
        ("edm2_s", "280.21", 280_212_709),
        ("edm2_m", "497.81", 497_807_653),
        ("edm2_l", "777.50", 777_497_957),
        ("edm2_xl", "1119.28", 1_119_283_621),
        ("edm2_xxl", "1523.16", 1_523_164_645),
    ],
)
def test_published_sizes(preset, published_millions, parameters):
    with without_values():
        network = MagnitudePreservingUNet.from_preset(preset)
    shapes = [x.shape for x in network.trainable_variables]
    assert sum(math.prod(shape) for shape in shapes) == parameters
    assert f"{parameters / 1e6:.2f}" == published_millions


def test_the_presets_are_those_seven():
    assert len(MagnitudePreservingUNet.presets()) == 7
    network = MagnitudePreservingUNet.from_preset("edm2_xxs", **SMALL)
    assert network.num_classes == 1000
    with pytest.raises(ValueError, match="'edm2'.*edm2_xxs, edm2_xs"):
        MagnitudePreservingUNet.from_preset("edm2")


def test_activations_keep_their_magnitude_through_the_whole_network():
    network = open_gains(
        MagnitudePreservingUNet(
            image_size=32,
            image_channels=3,
            base_channels=64,
            channel_multipliers=(1, 2, 3),
            num_residual_blocks=2,
            attention_resolutions=(8,),
            num_classes=10,
        ),
        value=0.0,
    )
    layers = [x for x in network.layers if x.name.startswith(("enc", "mid"))]
    layers += [network.get_layer("stem"), network.get_layer("embedding")]
    decoder = [x for x in network.layers if x.name.startswith("decoder")]
    inputs = make_inputs(32, 3, batch=4, labels=np.array([0, 3, 5, 9]))
    probe = keras.Model(network.inputs, [x.output for x in layers + decoder])
    outputs = probe([inputs[x.name] for x in network.inputs])
    magnitudes = {
        layer.name: float(np.mean(np.square(output)))
        for layer, output in zip(layers + decoder, outputs, strict=True)
    }
    # "On expectation": means of squares vary from draw to draw, and zeros at
    # the border take a little away. Unscaled sums alone would double the mean
    # square in each of eight encoder blocks.
    assert len(decoder) > 15
    for layer in layers:
        assert 0.75 < magnitudes[layer.name] < 1.2, layer.name
    for layer in decoder:
        assert 0.6 < magnitudes[layer.name] < 1.3, layer.name


def test_a_new_network_predicts_zero_and_only_its_gain_learns():
    network = MagnitudePreservingUNet(**SMALL)
    with tf.GradientTape() as tape:
        outputs = network(make_inputs())
        loss = tf.reduce_mean(tf.square(outputs - 1))
    np.testing.assert_array_equal(outputs, np.zeros((2, 8, 8, 1)))
    variables = network.trainable_variables
    gradients = tape.gradient(loss, variables)
    moving = {
        variable.path
        for variable, gradient in zip(variables, gradients, strict=True)
        if np.abs(gradient).max() > 0
    }
    assert moving == {"output_conv/gain"}


def test_every_weight_receives_a_gradient_once_the_gains_are_open():
    network = open_gains(MagnitudePreservingUNet(**SMALL, num_classes=3))
    inputs = make_inputs(batch=3, labels=np.array([0, 1, 2]))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(network(inputs) - 1))
    variables = network.trainable_variables
    for variable, gradient in zip(
        variables, tape.gradient(loss, variables), strict=True
    ):
        gradient = np.asarray(tf.convert_to_tensor(gradient))
        assert np.isfinite(gradient).all(), variable.path
        assert np.abs(gradient).max() > 0, variable.path


def test_the_length_of_a_stored_kernel_does_not_matter():
    network = open_gains(MagnitudePreservingUNet(**SMALL, num_classes=3))
    inputs = make_inputs(labels=np.array([0, 2]))
    before = np.asarray(network(inputs))
    for weight in network.trainable_weights:
        if not weight.path.endswith("/gain"):
            weight.assign(7 * weight)
    # The epsilon of 1e-4 beside a length of 1 in each of a dozen layers.
    difference = np.abs(before - network(inputs)).max()
    assert difference < 2e-3 * np.abs(before).max()


@pytest.mark.parametrize(
    "policy",
    [pytest.param("float32", marks=pytest.mark.slow), "mixed_float16"],
)
def test_training_leaves_every_kernel_normalised(policy, digits):
    network = open_gains(MagnitudePreservingUNet(**SMALL, dtype=policy))
    before = [np.array(w) for w in network.trainable_weights]
    model = DiffusionModel(network, seed=0)
    # A rate at which each step would lengthen kernels by several percent.
    # Eagerly, because tracing takes longer than two steps.
    model.compile(keras.optimizers.Adam(0.3), run_eagerly=True)
    history = model.fit(digits[0][:16], batch_size=8, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    for old, weight in zip(before, network.trainable_weights, strict=True):
        assert np.abs(old - weight).max() > 0, weight.path
        if not weight.path.endswith("/gain"):
            axes = tuple(range(len(weight.shape) - 1))
            lengths = np.sqrt(np.mean(np.square(weight), axis=axes))
            # 1 / (1 + 1e-4), and float32.
            np.testing.assert_allclose(lengths, 1, atol=2e-4)


@pytest.mark.slow
def test_it_learns_in_a_diffusion_model(digits):
    images, labels = digits[0][:256], digits[1][:256]
    model = DiffusionModel(
        MagnitudePreservingUNet(**SMALL, num_classes=10), seed=0
    )
    model.compile(FusedAdam(1e-2))
    history = model.fit(images, labels, batch_size=32, epochs=4, verbose=0)
    # A new network predicts 0 for noise of variance 1: a loss of 1.
    assert history.history["loss"][-1] < 0.6


def test_label_and_noise_level_change_the_prediction():
    network = open_gains(
        MagnitudePreservingUNet(**SMALL, num_classes=3, null_label=True)
    )
    inputs = make_inputs(batch=3, labels=np.array([1, 1, 1]))
    first = np.asarray(network(inputs))
    second = np.asarray(network(inputs | {"labels": np.array([1, 2, 3])}))
    np.testing.assert_array_equal(first[0], second[0])
    assert np.abs(first - second).max(axis=(1, 2, 3))[1:].min() > 1e-3
    levels = {"noise_level": inputs["noise_level"] + 0.1}
    third = np.asarray(network(inputs | levels))
    assert np.abs(first - third).max(axis=(1, 2, 3)).min() > 1e-3


def test_every_encoder_feature_is_concatenated_into_the_decoder():
    network = MagnitudePreservingUNet(**SMALL | {"num_residual_blocks": 2})
    skips = [x for x in network.layers if "_skip_" in x.name]
    taken = [x.input[1].name for x in skips]
    produced = [
        x.output.name
        for x in network.layers
        if x.name == "stem" or x.name.startswith("encoder")
    ]
    # The latest is taken back first.
    assert taken == produced[::-1]
    assert len(skips) == 2 * (2 + 1)


def test_attention_lies_where_it_was_asked_for():
    network = MagnitudePreservingUNet(
        **SMALL | {"attention_resolutions": (8,), "num_residual_blocks": 2}
    )
    names = [
        x.name
        for x in network.layers
        if getattr(x, "attention", None) is not None
    ]
    assert names == [
        "encoder_8x8_block_1",
        "encoder_8x8_block_2",
        "middle_block_1",
        "decoder_8x8_block_1",
        "decoder_8x8_block_2",
        "decoder_8x8_block_3",
    ]


def test_a_network_of_any_size_equals_the_one_of_that_size():
    anywhere = {
        "image_size": None,
        "attention_resolutions": (),
        "attention_levels": (1,),
    }
    free = MagnitudePreservingUNet(**SMALL | anywhere)
    fixed = open_gains(MagnitudePreservingUNet(**SMALL))
    free.set_weights(fixed.get_weights())
    # The same operations, with sizes known only at run time.
    np.testing.assert_allclose(
        free(make_inputs()), fixed(make_inputs()), atol=1e-6
    )
    oblong = make_inputs() | {"noisy_images": np.zeros((2, 6, 10, 1))}
    assert free(oblong).shape == (2, 6, 10, 1)
    with pytest.raises(ValueError, match="7x8 pixels. Crop, pad or resize"):
        free(make_inputs() | {"noisy_images": np.zeros((2, 7, 8, 1))})


def test_round_trips_keep_arguments_and_function(tmp_path):
    network = open_gains(
        MagnitudePreservingUNet(
            **SMALL, num_classes=3, null_label=True, dropout=0.1
        )
    )
    copy = MagnitudePreservingUNet.from_config(network.get_config())
    assert copy.get_config() == network.get_config()
    assert isinstance(copy.channel_multipliers, tuple)
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    inputs = make_inputs(labels=np.array([0, 3]))
    np.testing.assert_array_equal(loaded(inputs), network(inputs))


# The same code with other numbers of bits.
@pytest.mark.parametrize(
    "policy",
    ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)],
)
def test_mixed_precision_is_close_to_float32(policy):
    exact = open_gains(MagnitudePreservingUNet(**SMALL))
    mixed = MagnitudePreservingUNet(**SMALL, dtype=policy)
    mixed.set_weights(exact.get_weights())
    inputs = make_inputs()
    expected = np.asarray(exact(inputs))
    outputs = mixed(inputs)
    assert outputs.dtype == "float32"
    # A dozen blocks of roundings to 11 (float16) or 8 (bfloat16) bits.
    bound = {"mixed_float16": 0.01, "mixed_bfloat16": 0.08}[policy]
    difference = np.abs(np.asarray(outputs) - expected).max()
    assert difference <= bound * np.abs(expected).max()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"image_size": 9}, "image_size=9. Use 8 or 10"),
        ({"num_head_channels": 5}, "channels=16, num_head_channels=5"),
        ({"attention_resolutions": (5,)}, r"\[8, 4\] pixels.*Leave out \[5\]"),
        ({"attention_levels": (2,)}, r"from 0 to 1.*Leave out \[2\]"),
        ({"image_size": None}, "name the levels by attention_levels"),
        ({"num_classes": 0}, "pass num_classes=None"),
        ({"null_label": True}, "null_label=True, num_classes=None"),
        ({"channel_multipliers": ()}, "len.channel_multipliers.=0"),
        ({"base_channels": 0}, "base_channels=0"),
        ({"dropout": 1.5}, "dropout=1.5"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MagnitudePreservingUNet(**SMALL | arguments)
