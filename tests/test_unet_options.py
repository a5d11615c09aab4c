"""Every option of the U-Net builds, runs, and does what it says."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import SMALL
from unet_fixtures import layer_outputs, make_inputs, names_of, small_unet

from keras_unet_diffusion import UNet, layers
from keras_unet_diffusion.unet_arguments import CHOICES

# One changed option each; with those that it needs.
OPTIONS = [
    {},
    {"stem_channels": 12},
    {"attention_levels": (0,)},
    {"decoder_attention": "last"},
    {"decoder_attention": "none"},
    {"middle_attention": False},
    {"middle_attention_norm": False},
    {"num_head_channels": 4},
    {"query_key_norm": True},
    {"scale_shift": True},
    {"downsampling": "average_pool"},
    {"downsampling": "residual_block", "resampling_shortcut": "conv"},
    {"downsample_padding": (1, 1)},
    {"upsampling": "nearest"},
    {"upsampling": "nearest", "resampling_kernel": (1, 3, 3, 1)},
    {"upsampling": "bilinear_conv"},
    {"upsampling": "bilinear"},
    {"upsampling": "transposed_conv"},
    {"upsampling": "residual_block"},
    {"skip_connections": "add"},
    {"skip_connections": "none"},
    {"skip_scale": 0.5**0.5},
    {"residual_scale": 0.5**0.5},
    {"encoder_pyramid": "skip"},
    {"encoder_pyramid": "residual"},
    {"decoder_pyramid": "skip"},
    {"decoder_pyramid": "residual"},
    {"num_groups": 32, "min_group_channels": 4},
    {"noise_level_embedding": "fourier", "fourier_scale": 1.0},
    {"embedding_order": "cos_sin", "frequency_shift": 0},
    {"noise_channels": 9, "embedding_channels": 10},
    {"output_channels": 2},
    {"num_classes": 3},
    {"num_classes": 3, "label_embedding": "one_hot"},
    {"num_classes": 3, "null_label": "learned"},
    {"num_classes": 3, "null_label": "zero"},
    {"augmentation_channels": 9},
    {"super_resolution_factor": 2},
    {"context_channels": 6},
]


def option_name(options):
    return "-".join(f"{x}={y}" for x, y in options.items()) or "default"


# Those that give the default's layers other numbers or a weight of another
# size: gradients flow as in it.
LIKE_THE_DEFAULT = (
    "stem_channels",
    "num_head_channels",
    "downsample_padding",
    "skip_scale",
    "residual_scale",
    "num_groups",
    "embedding_order",
    "noise_channels",
    "output_channels",
)
# Those that leave out layers of the default or have them elsewhere.
LIKE_THE_DEFAULT += ("attention_levels", "decoder_attention")
LIKE_THE_DEFAULT += ("middle_attention", "middle_attention_norm")


@functools.cache
def built(name):
    """The network of an option, by its name; others may change its weights."""
    (options,) = (x for x in OPTIONS if option_name(x) == name)
    return small_unet(**options)


@pytest.fixture(scope="module")
def default():
    """The network whose options are all at their defaults."""
    return small_unet()


def test_the_table_has_every_choice_of_every_option(default):
    config = default.get_config()
    for name, choices in CHOICES.items():
        chosen = {options.get(name, config[name]) for options in OPTIONS}
        assert chosen == set(choices)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(
            options,
            id=option_name(options),
            marks=[pytest.mark.slow]
            if any(name in options for name in LIKE_THE_DEFAULT)
            else [],
        )
        for options in OPTIONS
    ],
)
def test_every_weight_receives_a_gradient(options):
    network = built(option_name(options))
    inputs = make_inputs(network)
    if network.num_classes is not None:
        last_label = 3 if network.null_label == "learned" else 2
        inputs = make_inputs(network, batch=4)
        inputs["labels"] = np.array([0, 1, 2, last_label])
    with tf.GradientTape() as tape:
        outputs = network(inputs)
        loss = tf.reduce_mean(tf.square(outputs))
    channels = network.output_channels or 1
    assert outputs.shape == (len(inputs["noise_level"]), 8, 8, channels)
    assert np.isfinite(outputs).all()
    variables = network.trainable_variables
    for variable, gradient in zip(
        variables, tape.gradient(loss, variables), strict=True
    ):
        # The softmax cancels what is added to all keys alike.
        if "attention" not in variable.path or "key/bias" not in variable.path:
            gradient = np.asarray(tf.convert_to_tensor(gradient))
            assert np.abs(gradient).max() > 0, variable.path


@pytest.mark.parametrize("options", OPTIONS[1:], ids=option_name)
def test_every_option_changes_the_network(options, default):
    network = built(option_name(options))
    inputs = make_inputs(network)
    shapes = [[x.shape for x in n.weights] for n in (network, default)]
    if shapes[0] == shapes[1]:
        network.set_weights(default.get_weights())
        known = {name: inputs[name] for name in default.input}
        difference = np.asarray(network(inputs)) - default(known)
        assert np.abs(difference).max() > 1e-3


@pytest.mark.parametrize(
    "where, expected",
    [
        ("all", ["decoder_4x4_attention_1", "decoder_4x4_attention_2"]),
        ("last", ["decoder_4x4_attention_2"]),
        ("none", []),
    ],
)
def test_the_decoder_attends_where_it_was_asked_to(where, expected):
    network = UNet(**SMALL, decoder_attention=where)
    assert names_of(network, "decoder", "attention") == expected
    assert names_of(network, "encoder", "attention") == [
        "encoder_4x4_attention_1"
    ]


def test_the_middle_attends_unless_told_otherwise():
    assert names_of(UNet(**SMALL), "middle_attention") == ["middle_attention"]
    without = UNet(**SMALL, middle_attention=False)
    assert names_of(without, "middle_attention") == []
    bare = UNet(**SMALL, middle_attention_norm=False)
    assert bare.get_layer("middle_attention").norm is None
    assert bare.get_layer("encoder_4x4_attention_1").norm is not None


def test_every_sum_with_a_shortcut_is_scaled():
    # In a new network of this family branches are 0: only shortcuts remain.
    network = UNet(**SMALL, residual_scale=0.5, initialization="adm")
    names = ["encoder_4x4_attention_1", "middle_block_1", "middle_attention"]
    names.append("middle_block_2")
    outputs = layer_outputs(network, make_inputs(network), *names)
    for before, after in zip(outputs, outputs[1:], strict=False):
        np.testing.assert_array_equal(after, 0.5 * before)


def test_levels_have_base_channels_times_their_multiplier():
    sizes = {"base_channels": 16, "channel_multipliers": (0.5, 1.5)}
    network = UNet(**SMALL | sizes)
    assert network.get_layer("stem").output.shape[-1] == 8
    assert network.get_layer("encoder_8x8_block_1").output.shape[-1] == 8
    assert network.get_layer("encoder_4x4_block_1").output.shape[-1] == 24
    assert network.get_layer("decoder_8x8_block_2").output.shape[-1] == 8


def test_the_stem_has_its_own_channels_if_told():
    network = UNet(**SMALL, stem_channels=12)
    assert network.get_layer("stem").output.shape[-1] == 12
    assert network.get_layer("encoder_8x8_block_1").output.shape[-1] == 8
    # The last skip is that of the stem.
    joined = network.get_layer("decoder_8x8_skip_2")
    assert joined.output.shape[-1] == 8 + 12


def test_group_options_and_heads_reach_every_layer():
    options = {"num_groups": 32, "min_group_channels": 4, "epsilon": 1e-5}
    network = UNet(**SMALL | options, num_head_channels=4)
    blocks = (layers.ResidualBlock, layers.SpatialSelfAttention)
    norms = [x for x in network.layers if isinstance(x, blocks)]
    norms.append(network.get_layer("output_norm"))
    assert len(norms) == 8 + 4 + 1
    for layer in norms:
        assert {x: getattr(layer, x) for x in options} == options
    assert network.get_layer("middle_attention").num_head_channels == 4


def test_variances_can_be_learned_beside_the_mean():
    network = small_unet(output_channels=2)
    outputs = network(make_inputs(network))
    assert outputs.shape == (2, 8, 8, 2)
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
