"""What tells the U-Net more: noise level, labels, images, sequences."""

import keras
import numpy as np
import pytest
from conftest import SMALL
from unet_fixtures import (
    layer_outputs,
    make_inputs,
    names_of,
    share_weights,
    small_unet,
)

from keras_unet_diffusion import UNet, layers


def max_change(network, inputs, **changed):
    """Largest |difference| that other inputs make to the output."""
    difference = np.asarray(network(inputs)) - network(inputs | changed)
    return np.abs(difference).max()


@pytest.mark.parametrize(
    "options, waves, embedding",
    [
        ({}, 8, 32),
        ({"noise_channels": 10}, 10, 32),
        ({"embedding_channels": 12}, 8, 12),
        ({"base_channels": 16}, 16, 64),
    ],
)
def test_the_embedding_has_the_channels_asked_for(options, waves, embedding):
    network = UNet(**SMALL | options)
    layer = network.get_layer("noise_level_embedding")
    assert layer.dense_1.kernel.shape == (waves, embedding)
    assert layer.dense_2.kernel.shape == (embedding, embedding)
    block = network.get_layer("middle_block_1")
    assert block.injection.kernel.shape[0] == embedding


def test_the_waves_are_those_asked_for():
    network = UNet(**SMALL, embedding_order="cos_sin", frequency_shift=0)
    waves = network.get_layer("noise_level_embedding").waves
    assert isinstance(waves, layers.SinusoidalEmbedding)
    # Level 0: cosines first, all 1; then sines, all 0.
    np.testing.assert_array_equal(waves(np.zeros(1))[0], [1] * 4 + [0] * 4)
    assert waves.frequency_shift == 0
    network = UNet(**SMALL, noise_level_embedding="fourier", fourier_scale=2.0)
    waves = network.get_layer("noise_level_embedding").waves
    assert isinstance(waves, layers.FourierEmbedding)
    assert waves.scale == 2.0


def test_labels_of_a_table_are_added_after_the_perceptron():
    network = small_unet(num_classes=3)
    table = network.get_layer("label_embedding").table
    assert table.shape == (3, 32)
    inputs = make_inputs(network) | {"labels": np.array([2, 0])}
    level, both = layer_outputs(
        network, inputs, "noise_level_embedding", "conditioning"
    )
    # One float32 sum.
    expected = level + np.asarray(table)[[2, 0]]
    np.testing.assert_allclose(both, expected, atol=1e-6)


def test_one_hot_labels_are_added_to_the_waves():
    network = small_unet(num_classes=3, label_embedding="one_hot")
    layer = network.get_layer("label_embedding")
    assert layer.table.shape == (3, 8)
    assert layer.bias.shape == (8,)
    inputs = make_inputs(network) | {"labels": np.array([2, 0])}
    (embedded,) = layer_outputs(network, inputs, "noise_level_embedding")
    rows = 3**0.5 * np.asarray(layer.table)[[2, 0]] + np.asarray(layer.bias)
    alone = network.get_layer("noise_level_embedding")
    expected = alone(inputs["noise_level"], rows)
    np.testing.assert_allclose(embedded, expected, atol=1e-5)
    # Nothing else is added behind the perceptron.
    assert names_of(network, "conditioning") == []


def test_a_zero_null_label_makes_a_network_without_labels():
    labelled = small_unet(num_classes=3, null_label="zero")
    plain = small_unet()
    share_weights(labelled, plain)
    inputs = make_inputs(labelled)
    noisy = {name: inputs[name] for name in plain.input}
    null = labelled(inputs | {"labels": np.array([3, 3])})
    # Sums with zero are exact.
    np.testing.assert_array_equal(null, plain(noisy))
    assert max_change(labelled, inputs, labels=np.array([3, 3])) > 1e-3


@pytest.mark.parametrize(
    "label_embedding",
    # As a row it is like the others of the table that it is looked up in.
    [pytest.param("table", marks=pytest.mark.slow), "one_hot"],
)
def test_a_learned_null_label_is_a_label_of_its_own(label_embedding):
    network = small_unet(
        num_classes=3, null_label="learned", label_embedding=label_embedding
    )
    assert network.get_layer("label_embedding").table.shape[0] == 4
    inputs = make_inputs(network) | {"labels": np.array([3, 3])}
    for label in range(3):
        other = np.array([label, label])
        assert max_change(network, inputs, labels=other) > 1e-3


def test_augmentation_is_linear_without_a_bias():
    network, plain = small_unet(augmentation_channels=9), small_unet()
    layer = network.get_layer("augmentation_embedding")
    assert [x.shape for x in layer.weights] == [(9, 8)]
    share_weights(network, plain)
    inputs = make_inputs(network)
    # Generated images are not augmented: zeros say nothing.
    zeros = inputs | {"augmentation": np.zeros((2, 9), "float32")}
    noisy = {name: inputs[name] for name in plain.input}
    np.testing.assert_array_equal(network(zeros), plain(noisy))
    assert max_change(network, zeros, augmentation=np.ones((2, 9))) > 1e-3


def test_augmentation_and_one_hot_labels_are_both_added_to_the_waves():
    network = small_unet(
        augmentation_channels=9, num_classes=3, label_embedding="one_hot"
    )
    inputs = make_inputs(network)
    labels, augmentation, embedded = layer_outputs(
        network,
        inputs,
        "label_embedding",
        "augmentation_embedding",
        "noise_level_embedding",
    )
    alone = network.get_layer("noise_level_embedding")
    expected = alone(inputs["noise_level"], labels + augmentation)
    np.testing.assert_allclose(embedded, expected, atol=1e-5)


def test_the_low_resolution_image_comes_bilinearly_after_the_noisy_one():
    network = small_unet(image_channels=3, super_resolution_factor=4)
    inputs = make_inputs(network)
    assert inputs["low_resolution_images"].shape == (2, 2, 2, 3)
    (joined,) = layer_outputs(network, inputs, "stem_inputs")
    np.testing.assert_array_equal(joined[..., :3], inputs["noisy_images"])
    enlarged = layers.BilinearUpsample(4)(inputs["low_resolution_images"])
    np.testing.assert_array_equal(joined[..., 3:], enlarged)
    assert network.get_layer("stem").kernel.shape == (3, 3, 6, 8)
    assert network.output_shape == (None, 8, 8, 3)
    other = np.zeros((2, 2, 2, 3), "float32")
    assert max_change(network, inputs, low_resolution_images=other) > 1e-3


def test_a_low_resolution_image_stays_float32_in_a_mixed_network():
    # 8 bits of bfloat16 would be steps of pixels at their extremes.
    network = UNet(**SMALL, super_resolution_factor=2, dtype="mixed_bfloat16")
    for name in ("low_resolution_upsample", "stem_inputs"):
        assert network.get_layer(name).output.dtype == "float32"


def test_a_context_is_attended_to_wherever_pixels_are():
    network = small_unet(context_channels=6, attention_levels=(0,))
    to_pixels = [x for x in names_of(network, "attention") if "cross" not in x]
    to_context = names_of(network, "cross_attention")
    assert len(to_context) == len(to_pixels) == 2 + 1 + 4
    assert to_context == [
        x.replace("attention", "cross_attention") for x in to_pixels
    ]


def test_a_context_of_any_length_changes_the_prediction():
    network = small_unet(context_channels=6)
    random = np.random.default_rng(1)
    for tokens in (2, 9):
        context = random.standard_normal((2, tokens, 6)).astype("float32")
        inputs = make_inputs(network) | {"context": context}
        assert max_change(network, inputs, context=-context) > 1e-3
        # Attention knows no order of tokens; float32 sums do.
        assert max_change(network, inputs, context=context[:, ::-1]) < 1e-4


def test_query_key_norm_bounds_the_logits_of_every_attention():
    network = small_unet(query_key_norm=True, context_channels=6)
    attentions = [network.get_layer(x) for x in names_of(network, "attention")]
    assert len(attentions) == 2 * (1 + 1 + 2)
    inputs = make_inputs(network)
    before = np.asarray(network(inputs))
    for attention in attentions:
        for dense in (attention.query, attention.key):
            # Logits a million times larger, if nothing bounded them.
            dense.set_weights([1000 * x for x in dense.get_weights()])
    # Only the epsilon under the root knows, against heads of size 0.1.
    np.testing.assert_allclose(network(inputs), before, atol=1e-3)


def test_every_condition_works_at_once_and_in_half_precision():
    network = small_unet(
        num_classes=3,
        null_label="learned",
        augmentation_channels=9,
        super_resolution_factor=2,
        context_channels=6,
        noise_level_embedding="fourier",
    )
    config = network.get_config() | {"dtype": "mixed_bfloat16"}
    mixed = UNet.from_config(config)
    mixed.set_weights(network.get_weights())
    inputs = make_inputs(network)
    exact, outputs = np.asarray(network(inputs)), mixed(inputs)
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
    # bfloat16 has 8 bits, and a network rounds some tens of times in a row.
    assert np.abs(exact - outputs).max() < 0.1 * np.abs(exact).max()
