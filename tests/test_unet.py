"""The U-Net: published parameter counts, wiring, and its error messages."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import SMALL, randomize

from keras_unet_diffusion import UNet


def make_inputs(size=8, channels=1, batch=2, **extra):
    images = np.random.default_rng(0).standard_normal(
        (batch, size, size, channels)
    )
    levels = np.linspace(0, 999, batch).astype("float32")
    return {
        "noisy_images": images.astype("float32"),
        "noise_level": levels,
    } | extra


@pytest.mark.parametrize(
    "preset, parameters",
    # Counted on the original networks; tiny as its comment says.
    [
        ("ddpm_cifar10", 35_746_307),
        ("ddpm_256", 113_673_219),
        ("tiny", 627_433),
    ],
)
def test_published_presets_count_their_parameters(preset, parameters):
    assert UNet.from_preset(preset).count_params() == parameters


def test_every_preset_builds_and_says_its_size():
    for preset in UNet.presets():
        network = UNet.from_preset(preset, base_channels=32, num_groups=8)
        size, channels = network.image_size, network.image_channels
        assert network.output_shape == (None, size, size, channels)


def test_a_new_network_predicts_zero():
    outputs = UNet(**SMALL)(make_inputs())
    np.testing.assert_array_equal(outputs, np.zeros((2, 8, 8, 1)))


def test_the_noise_level_changes_the_prediction(small_network):
    inputs = make_inputs()
    other = inputs | {"noise_level": inputs["noise_level"] + 1}
    difference = np.abs(
        np.asarray(small_network(inputs)) - small_network(other)
    )
    assert difference.max(axis=(1, 2, 3)).min() > 1e-3


def test_the_label_changes_the_prediction(labelled_network):
    first = labelled_network(make_inputs(labels=np.array([1, 1])))
    second = labelled_network(make_inputs(labels=np.array([1, 2])))
    np.testing.assert_array_equal(first[0], second[0])
    assert np.abs(np.asarray(first[1]) - second[1]).max() > 1e-3


def test_images_of_a_batch_do_not_see_each_other(small_network):
    inputs = make_inputs(batch=4)
    together = small_network(inputs)
    alone = small_network({k: v[2:3] for k, v in inputs.items()})
    # Other batch sizes may take other convolution kernels: float32 rounding.
    np.testing.assert_allclose(together[2:3], alone, atol=1e-5)


def test_every_encoder_feature_is_concatenated_into_the_decoder():
    network = UNet.from_preset("tiny")
    skips = [
        layer
        for layer in network.layers
        if isinstance(layer, keras.layers.Concatenate)
    ]
    taken = {layer.input[1].name for layer in skips}
    produced = {
        layer.output.name
        for layer in network.layers
        if layer.name == "stem" or layer.name.startswith("encoder")
    }
    # A block that attention follows hands on what attention made of it.
    followed = {
        layer.input.name
        for layer in network.layers
        if layer.name.startswith("encoder") and "attention" in layer.name
    }
    assert taken == produced - followed
    assert len(skips) == 3 * (1 + 1)


def test_removing_a_skip_changes_the_output(small_network):
    inputs = make_inputs()
    before = np.asarray(small_network(inputs))
    block = small_network.get_layer("decoder_8x8_block_2")
    kernel, bias = block.conv_1.get_weights()
    kernel[:, :, 8:] = 0  # the half that comes from the stem
    block.conv_1.set_weights([kernel, bias])
    assert np.abs(before - small_network(inputs)).max() > 1e-3


def test_every_weight_receives_a_gradient(labelled_network):
    inputs = make_inputs(labels=np.array([1, 2]))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(labelled_network(inputs)))
    variables = labelled_network.trainable_variables
    for variable, gradient in zip(
        variables, tape.gradient(loss, variables), strict=True
    ):
        # The softmax cancels what is added to all keys alike.
        if "attention/key/bias" not in variable.path:
            assert np.abs(tf.convert_to_tensor(gradient)).max() > 0, (
                variable.path
            )


def test_attention_lies_where_it_was_asked_for():
    names = [
        layer.name
        for layer in UNet(
            **SMALL | {"attention_resolutions": (8,), "attention_levels": (1,)}
        ).layers
        if "attention" in layer.name
    ]
    assert names == [
        "encoder_8x8_attention_1",
        "encoder_4x4_attention_1",
        "middle_attention",
        "decoder_4x4_attention_1",
        "decoder_4x4_attention_2",
        "decoder_8x8_attention_1",
        "decoder_8x8_attention_2",
    ]


def test_a_network_of_any_size_equals_the_one_of_that_size():
    free = UNet(
        **SMALL
        | {
            "image_size": None,
            "attention_resolutions": (),
            "attention_levels": (1,),
        }
    )
    fixed = randomize(UNet(**SMALL))
    free.set_weights(fixed.get_weights())
    # The same operations, with sizes known only at run time.
    np.testing.assert_allclose(
        free(make_inputs()), fixed(make_inputs()), atol=1e-6
    )
    oblong = make_inputs() | {"noisy_images": np.zeros((2, 6, 10, 1))}
    assert free(oblong).shape == (2, 6, 10, 1)


def test_a_size_that_does_not_fit_is_refused_when_called():
    free = UNet(**SMALL | {"image_size": None, "attention_resolutions": ()})
    with pytest.raises(ValueError, match="7x8 pixels. Crop, pad or resize"):
        free(make_inputs() | {"noisy_images": np.zeros((2, 7, 8, 1))})


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"image_size": 9}, "multiple of 2. Received: image_size=9. Use 8 or"),
        ({"num_groups": 3}, "channels=8, num_groups=3"),
        ({"num_heads": 3}, "channels=16, num_heads=3"),
        ({"num_head_channels": 5}, "num_head_channels=5"),
        ({"attention_resolutions": (5,)}, r"\[8, 4\] pixels.*Leave out \[5\]"),
        ({"attention_levels": (2,)}, r"from 0 to 1.*Leave out \[2\]"),
        ({"image_size": None}, "name the levels by attention_levels"),
        ({"num_classes": 0}, "pass num_classes=None"),
        ({"channel_multipliers": ()}, "len.channel_multipliers.=0"),
        ({"dropout": 1.5}, "dropout=1.5"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        UNet(**SMALL | arguments)


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'ddpm'.*tiny, ddpm_cifar10"):
        UNet.from_preset("ddpm")


def test_config_round_trip_keeps_every_argument():
    network = UNet(
        **SMALL, scale_shift=True, downsample_padding=(1, 1), num_classes=4
    )
    copy = UNet.from_config(network.get_config())
    assert copy.get_config() == network.get_config()
    # JSON, in which a file is written, knows no tuples.
    assert isinstance(copy.channel_multipliers, tuple)


def test_keras_file_round_trip_is_exact(labelled_network, tmp_path):
    labelled_network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    inputs = make_inputs(labels=np.array([0, 9]))
    np.testing.assert_array_equal(loaded(inputs), labelled_network(inputs))


def test_stopping_the_noise_level_at_bfloat16_is_avoided():
    network = randomize(UNet(**SMALL, dtype="mixed_bfloat16"), scale=0.3)
    inputs = make_inputs() | {"noise_level": np.array([998.0, 998.0])}
    other = inputs | {"noise_level": np.array([999.0, 999.0])}
    assert np.abs(np.asarray(network(inputs)) - network(other)).max() > 1e-3
