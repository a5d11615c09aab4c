"""Exports that fail leave nothing; networks of any size succeed."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import SMALL, one_block_network, randomize
from export_fixtures import (
    generated,
    off,
    sampled_by_steps,
    signature,
    write_few,
)

from keras_unet_diffusion import (
    DiffusionModel,
    DiffusionProcess,
    FlowSchedule,
    NoisePrediction,
    UNet,
)
from keras_unet_diffusion.export import artifacts, export_model, parity
from keras_unet_diffusion.network_calls import make_denoise
from keras_unet_diffusion.samplers import DDIM, sample


def test_an_artifact_that_is_off_leaves_nothing(monkeypatch, tmp_path):
    write_few(monkeypatch)
    monkeypatch.setattr(artifacts, "PRECISIONS", ())
    monkeypatch.setattr(artifacts, "run_elsewhere", off("denoise"))
    model = DiffusionModel(one_block_network())
    with pytest.raises(ValueError, match="does not compute what the Keras"):
        export_model(model, tmp_path / "out", samplers=["ddim"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_are_no_numbers_fail_without_a_tolerance(value, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"x")
    result = {"output": np.array([1.0, value]), "milliseconds": 1.0}
    with pytest.raises(ValueError, match="does not compute"):
        parity.compare("x", path, "denoise", result, np.array([1.0, 2.0]))


@pytest.mark.usefixtures("compared_here")
def test_a_network_that_was_never_trained_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(artifacts, "PRECISIONS", ())
    # Its last layer is exactly zero, and so is all that it predicts.
    network = one_block_network()
    last = network.layers[-1]
    last.set_weights([np.zeros_like(w) for w in last.get_weights()])
    with pytest.raises(ValueError, match="Train it first"):
        export_model(
            DiffusionModel(network), tmp_path / "out", samplers=["ddim"]
        )
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_sample_is_refused_before_anything_is_done(
    monkeypatch, tmp_path
):
    network = one_block_network()
    process = DiffusionProcess(FlowSchedule(), NoisePrediction())
    model = DiffusionModel(network, process)
    # As `generate` does: of noise alone the noise says nothing.
    with pytest.raises(ValueError, match="says nothing of the image"):
        model.generate(1, num_steps=2)
    # Called, it would raise a TypeError.
    monkeypatch.setattr(artifacts, "rebuild_in_float32", None)
    message = "says nothing of the image.*Received.*Train with Velocity"
    with pytest.raises(ValueError, match=message):
        export_model(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_results_is_not_written_over(tmp_path):
    model = DiffusionModel(one_block_network())
    (tmp_path / "kept.txt").write_text("kept")
    with pytest.raises(ValueError, match="not empty"):
        export_model(model, tmp_path)
    with pytest.raises(ValueError, match="Leave image_size out"):
        export_model(model, tmp_path / "out", image_size=16)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


@pytest.mark.usefixtures("compared_here")
@pytest.mark.slow
def test_an_unlabelled_network_of_any_size_is_exported(tmp_path):
    arguments = {"attention_resolutions": (), "middle_attention": False}
    network = UNet(**SMALL | arguments | {"image_size": None})
    model = DiffusionModel(randomize(network))
    with pytest.raises(ValueError, match="any size"):
        export_model(model, tmp_path / "out")
    with pytest.raises(ValueError, match="image_size=7"):
        export_model(model, tmp_path / "out", image_size=7)
    export_model(model, tmp_path / "out", samplers=["ddim"], image_size=12)
    images = generated(tmp_path / "out", num_images=1, num_steps=1)
    assert images.shape == (1, 12, 12, 1)
    output = signature(tmp_path / "out", "denoise")(
        noisy_images=tf.zeros((1, 6, 10, 1)), noise_level=tf.zeros(1)
    )["prediction"]
    assert output.shape == (1, 6, 10, 1)
    noise = np.random.default_rng(0).standard_normal((1, 6, 10, 1))
    step = signature(tmp_path / "out", "step")
    image = sampled_by_steps(step, noise.astype("float32"), 2)
    expected = sample(
        DDIM(),
        make_denoise(network, model.process),
        noise,
        model.process.schedule,
        2,
    )
    # Float32 roundings, amplified by two steps of a random network.
    np.testing.assert_allclose(image, expected, atol=1e-4)
    with pytest.raises(tf.errors.InvalidArgumentError, match="multiples of 2"):
        sampled_by_steps(step, np.zeros((1, 6, 7, 1), "float32"), 1)
