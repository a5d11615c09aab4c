"""Exported networks of every kind: what they are given, what they weigh."""

import json

import numpy as np
import pytest
import tensorflow as tf
from conftest import SMALL, one_block_network, randomize
from export_fixtures import generated, signature

from keras_unet_diffusion import (
    DiffusionModel,
    DiffusionProcess,
    EDMPrediction,
    EDMSchedule,
    FlowPrediction,
    FlowSchedule,
    Heun,
    KarrasGrid,
    UNet,
)
from keras_unet_diffusion.export import export_model

# That they run in a process of their own is tested in test_export.py.
pytestmark = pytest.mark.usefixtures("compared_here")


@pytest.mark.slow
def test_networks_that_enlarge_and_see_their_estimates_take_them_as_inputs(
    tmp_path,
):
    # Of one level: what it is given is what is tested here.
    one_level = {"channel_multipliers": (1,), "attention_resolutions": ()}
    network = UNet(
        **SMALL | one_level, super_resolution_factor=2, self_conditioning=True
    )
    model = DiffusionModel(randomize(network))
    rows = export_model(model, tmp_path / "out", samplers=["ddim"])
    # Three of the SavedModel, two of LiteRT, all of them compared.
    assert len([x for x in rows if "onnx" not in x["artifact"]]) == 5
    low_resolution = np.random.default_rng(0).uniform(-1, 1, (2, 4, 4, 1))
    low_resolution = low_resolution.astype("float32")
    images = generated(tmp_path / "out", low_resolution_images=low_resolution)
    expected = model.generate(
        2, num_steps=3, seed=5, low_resolution_images=low_resolution
    )
    # Float32 roundings, amplified by three steps of a random network.
    np.testing.assert_allclose(images, expected, atol=1e-4)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must hold"):
        generated(tmp_path / "out", low_resolution_images=low_resolution[:1])
    denoise = signature(tmp_path / "out", "denoise")
    names = set(denoise.structured_input_signature[1])
    assert names == set(model.network.input)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert "low_resolution_images" in manifest["generate"]["inputs"]


@pytest.mark.slow
def test_the_readmes_formulas_scale_what_a_network_of_edm_is_given(tmp_path):
    process = DiffusionProcess(EDMSchedule(), EDMPrediction(sigma_data=0.7))
    model = DiffusionModel(one_block_network(), process)
    sampler = Heun(grid=KarrasGrid(rho=5.0))
    export_model(model, tmp_path / "out", samplers={"mine": sampler})
    images = generated(tmp_path / "out", sampler="mine")
    expected = model.generate(2, num_steps=3, seed=5, sampler=sampler)
    # Float32 roundings, amplified by the scale of sigma_max, 80.
    np.testing.assert_allclose(images, expected, atol=1e-3)

    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["num_timesteps"] is None and "alpha" not in manifest
    config = manifest["process"]["config"]["prediction"]["config"]
    sigma, x = 3.0, np.random.default_rng(0).normal(size=(1, 8, 8, 1))
    x = (sigma * x).astype("float32")
    total = sigma**2 + config["sigma_data"] ** 2
    prediction = signature(tmp_path / "out", "denoise")(
        noisy_images=tf.constant(x / np.float32(total**0.5)),
        noise_level=tf.constant([np.float32(np.log(sigma) / 4)]),
    )["prediction"]
    # Karras et al. 2022, table 1: c_skip and c_out.
    share = config["sigma_data"] ** 2 / total
    scale = sigma * config["sigma_data"] / total**0.5
    denoised = share * x + scale * prediction
    point = process.schedule.point_of_ratio(np.array([sigma]))
    noisy = x.astype("float64")
    predicted = model.ema_network(
        {
            "noisy_images": tf.cast(
                process.network_input(noisy, point), tf.float32
            ),
            "noise_level": tf.cast(process.noise_level_at(point), tf.float32),
        }
    )
    expected = process.estimate(noisy, tf.cast(predicted, tf.float64), point)
    # Roundings of numbers of size 10 in float32.
    np.testing.assert_allclose(denoised, expected[0], atol=1e-5)


@pytest.mark.slow
def test_samplers_add_no_weights_to_the_file(tmp_path):
    process = DiffusionProcess(FlowSchedule(), FlowPrediction())
    model = DiffusionModel(one_block_network(), process)
    sizes = []
    for samplers in (["ddim"], ["ddim", "heun", "flow_euler"]):
        out = tmp_path / str(len(samplers))
        rows = export_model(model, out, samplers=samplers)
        signatures = {row["signature"] for row in rows}
        assert {f"generate {name}" for name in samplers} < signatures
        (data,) = (out / "saved_model" / "variables").glob("*.data-*")
        sizes.append(data.stat().st_size)
    assert sizes[0] == sizes[1]


def test_a_sampler_that_does_not_fit_ends_the_export(tmp_path):
    model = DiffusionModel(one_block_network())
    with pytest.raises(ValueError, match="FlowSchedule"):
        export_model(model, tmp_path / "out", samplers=["flow_heun"])
    with pytest.raises(ValueError, match="no such sampler"):
        export_model(model, tmp_path / "out", samplers=["best"])
    assert list(tmp_path.iterdir()) == []
