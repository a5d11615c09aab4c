"""Networks on their way to files: rebuilt in float32, written for LiteRT."""

import keras
import numpy as np
import pytest
from conftest import SMALL, one_block_network, randomize
from export_fixtures import litert_runner

from keras_unet_diffusion import UNet, layers
from keras_unet_diffusion.export import rebuild_in_float32, write_litert

INPUTS = {
    "noisy_images": np.random.default_rng(0)
    .standard_normal((3, 8, 8, 1))
    .astype("float32"),
    "noise_level": np.full(3, 500, "float32"),
    "labels": np.arange(3, dtype="int32"),
}


# The model of test_export.py is of bfloat16.
@pytest.mark.parametrize(
    "policy",
    ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)],
)
def test_rebuilding_in_float32_keeps_weights_and_drops_the_policy(policy):
    mixed = randomize(UNet(**SMALL, num_classes=10, dtype=policy))
    rebuilt = rebuild_in_float32(mixed)
    assert {layer.compute_dtype for layer in rebuilt.layers} == {"float32"}
    exact = UNet.from_config(mixed.get_config() | {"dtype": "float32"})
    exact.set_weights(mixed.get_weights())
    np.testing.assert_array_equal(rebuilt(INPUTS), exact(INPUTS))


def test_rebuilding_works_for_any_functional_network():
    images = keras.Input((8, 8, 1), name="noisy_images")
    level = keras.Input((), name="noise_level")
    outputs = keras.layers.Conv2D(1, 3, padding="same", dtype="mixed_float16")(
        images
    )
    network = keras.Model(
        {"noisy_images": images, "noise_level": level}, outputs
    )
    rebuilt = rebuild_in_float32(network)
    assert {layer.compute_dtype for layer in rebuilt.layers} == {"float32"}


def test_a_litert_file_without_weights_is_refused(monkeypatch, tmp_path):
    network = one_block_network()
    monkeypatch.setattr(
        "keras_unet_diffusion.export.litert._convert", lambda *_: b"empty"
    )
    with pytest.raises(ValueError, match="left weights out.*5 bytes"):
        write_litert(tmp_path / "x.tflite", network, (8, 8, 1))
    assert list(tmp_path.iterdir()) == []


def test_float16_files_keep_the_waves_of_the_noise_level(tmp_path):
    # A network that shows the 64 sinusoids as an image of 8x8 pixels.
    images = keras.Input((8, 8, 1), name="noisy_images")
    level = keras.Input((), name="noise_level")
    waves = layers.SinusoidalEmbedding(64)(level)
    outputs = keras.layers.Conv2D(1, 1)(images)
    outputs = outputs + keras.layers.Reshape((8, 8, 1))(waves)
    network = keras.Model(
        {"noisy_images": images, "noise_level": level}, outputs
    )
    path = tmp_path / "waves.tflite"
    write_litert(path, network, (8, 8, 1), "float16")
    output = litert_runner(path)(
        noisy_images=np.zeros((1, 8, 8, 1), "float32"),
        noise_level=np.float32([999]),
    )["prediction"]
    frequencies = 10000.0 ** (-np.arange(32) / 31)

    def waves_of(frequencies):
        return np.concatenate(
            [np.sin(999 * frequencies), np.cos(999 * frequencies)]
        )

    exact = waves_of(frequencies)
    # 999 is known to 6e-5 in float32, and so is the phase.
    np.testing.assert_allclose(output.ravel(), exact, atol=3e-4)
    # The mistake that this test is for: a table rounded to float16.
    wrong = waves_of(frequencies.astype("float16").astype("float64"))
    assert np.abs(wrong - exact).max() > 0.1
