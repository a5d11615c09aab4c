"""Networks that are cut open do what their names say."""

import keras
import numpy as np
import pytest
from conftest import SMALL, randomize

from keras_unet_diffusion import DiffusionModel, UNet
from keras_unet_diffusion.layers import ResidualBlock
from keras_unet_diffusion.studies.gradient_flow import (
    BlockWithoutShortcut,
    without_shortcuts,
)
from keras_unet_diffusion.studies.surgery import (
    Roll,
    rewired,
    with_changed_level,
    with_noise_level_at_stem,
    with_shifted_prediction,
    without_noise_level,
)

# Sums of the same float32 numbers in another order, of outputs around 1.
ROUNDING = 1e-5


def make_inputs(noise_level=(500.0, 500.0)):
    random = np.random.default_rng(0)
    images = random.standard_normal((2, 8, 8, 1)).astype("float32")
    return {
        "noisy_images": images,
        "noise_level": np.array(noise_level, "float32"),
    }


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return randomize(UNet(**SMALL), scale=0.2)


def predict(network, inputs):
    return np.asarray(network(inputs))


def test_a_shifted_prediction_is_the_prediction_one_pixel_to_the_right(
    network,
):
    inputs = make_inputs()
    expected = predict(network, inputs)
    shifted = predict(with_shifted_prediction(network), inputs)
    np.testing.assert_allclose(
        shifted[:, :, 1:], expected[:, :, :-1], atol=ROUNDING
    )
    np.testing.assert_allclose(
        shifted[:, :, 0], expected[:, :, -1], atol=ROUNDING
    )


def test_without_a_noise_level_all_levels_are_level_zero(network):
    deaf = without_noise_level(network)
    expected = predict(network, make_inputs((0.0, 0.0)))
    assert np.abs(expected - predict(network, make_inputs())).max() > 0.01
    for level in (0.0, 500.0, 999.0):
        heard = predict(deaf, make_inputs((level, level)))
        np.testing.assert_allclose(heard, expected, atol=ROUNDING)


def test_a_noise_level_at_the_stem_is_all_that_is_told(network):
    at_stem = with_noise_level_at_stem(network)
    first, second = (
        predict(at_stem, make_inputs((level, level))) for level in (0.0, 900.0)
    )
    assert np.abs(first - second).max() > 1e-4
    injection = at_stem.get_layer("stem_injection")
    injection.set_weights([np.zeros_like(x) for x in injection.get_weights()])
    for level in (0.0, 900.0):
        # Without what the stem is told, it is the network that hears nothing.
        np.testing.assert_allclose(
            predict(at_stem, make_inputs((level, level))),
            predict(network, make_inputs((0.0, 0.0))),
            atol=ROUNDING,
        )


def test_levels_divide_between_them_what_the_decoder_gets(network):
    swap = Roll(1, axis=0)
    inputs = make_inputs()
    fine, coarse = (
        predict(with_changed_level(network, level, swap), inputs)
        for level in (0, 1)
    )
    # Of images A and B: the fine level of B with the coarse one of A, by the
    # one network in the place of A, by the other in that of B.
    np.testing.assert_allclose(fine, coarse[::-1], atol=ROUNDING)
    assert np.abs(fine - predict(network, inputs)).max() > 0.01


@pytest.mark.parametrize("level", [0, 1])
def test_the_features_of_an_equal_image_change_nothing(network, level):
    inputs = make_inputs()
    inputs["noisy_images"][1] = inputs["noisy_images"][0]
    changed = with_changed_level(network, level, Roll(1, axis=0))
    np.testing.assert_allclose(
        predict(changed, inputs), predict(network, inputs), atol=ROUNDING
    )


def test_a_level_that_does_not_exist_is_refused(network):
    with pytest.raises(ValueError, match="level=2 of 2"):
        with_changed_level(network, 2, Roll(1, axis=0))
    without_skips = UNet(**SMALL, skip_connections="none")
    with pytest.raises(ValueError, match="skip_connections='none'"):
        with_changed_level(without_skips, 0, Roll(1, axis=0))


def test_rewired_networks_share_their_weights(network):
    same = rewired(network, lambda layer, *a, **options: layer(*a, **options))
    ours = {id(x) for x in network.weights}
    assert {id(x) for x in same.weights} == ours
    np.testing.assert_array_equal(
        predict(same, make_inputs()), predict(network, make_inputs())
    )


@pytest.mark.parametrize(
    "change",
    [
        # Copying a U-Net takes seconds; these two have the most new layers.
        with_noise_level_at_stem,
        without_shortcuts,
        pytest.param(with_shifted_prediction, marks=pytest.mark.slow),
        pytest.param(without_noise_level, marks=pytest.mark.slow),
    ],
)
def test_a_changed_network_can_be_trained_and_copied(network, change):
    changed = change(network)
    # The model copies it by its config.
    copy = DiffusionModel(changed, seed=0).ema_network
    np.testing.assert_allclose(
        predict(copy, make_inputs()),
        predict(changed, make_inputs()),
        atol=ROUNDING,
    )


def test_a_block_without_its_shortcut_is_the_block_less_its_input():
    inputs = np.random.default_rng(0).standard_normal((2, 4, 4, 8))
    embedding = np.ones((2, 5))
    block = ResidualBlock(8, num_groups=2, initialization="diffusers")
    expected = np.asarray(block(inputs, embedding)) - inputs
    bare = BlockWithoutShortcut.from_config(block.get_config())
    bare(inputs, embedding)
    bare.set_weights(block.get_weights())
    # A difference of float32 numbers around 1.
    np.testing.assert_allclose(bare(inputs, embedding), expected, atol=1e-6)
    assert np.abs(expected).max() > 0.1
