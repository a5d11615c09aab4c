"""Exported files of a network that can be guided."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import SMALL, randomize
from export_fixtures import code_blocks, generated

from keras_unet_diffusion import DDIM, DiffusionModel, UNet
from keras_unet_diffusion.data import to_uint8
from keras_unet_diffusion.export import export_model
from keras_unet_diffusion.samplers import (
    DPMSolverPP,
    LeadingGrid,
    make_sampler,
)

# Exporting and loading four loops takes minutes.
pytestmark = pytest.mark.slow
SAMPLERS = {
    "ddim": DDIM(),
    "dpm_solver_2": make_sampler("dpm_solver_2"),
    "unfinished": DDIM(final_denoising=False),
    "late": DPMSolverPP(grid=LeadingGrid(offset=1)),
}


@pytest.fixture(scope="module")
def model():
    network = UNet(**SMALL, num_classes=10, null_label="learned")
    return DiffusionModel(randomize(network))


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """The folder with the files of a model that knows a null label."""
    folder = tmp_path_factory.mktemp("export") / "exported"
    export_model(model, folder, samplers=SAMPLERS)
    return folder


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_guidance_is_an_input_of_a_network_with_a_null_label(
    scale, model, exported
):
    images = generated(exported, labels=[1, 2], guidance_scale=scale)
    expected = model.generate(
        2, labels=[1, 2], num_steps=3, seed=5, guidance_scale=scale
    )
    # Float32 roundings, amplified by guidance and three steps.
    np.testing.assert_allclose(images, expected, atol=1e-4)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"guidance_scale": np.nan}, "guidance_scale must be a number"),
        ({"guidance_scale": np.inf}, "guidance_scale must be a number"),
        ({"guidance_scale": -0.5}, "guidance_scale must be .* at least 0"),
        # Number 10 is the null label.
        ({"labels": [1, 11]}, "labels must be numbers from 0 to 10"),
        (
            {"sampler": "unfinished", "num_steps": 1000},
            "num_steps is at most 1000, or one less",
        ),
        (
            {"sampler": "late", "num_steps": 1000},
            "Two steps of the grid coincide",
        ),
    ],
)
def test_what_the_model_refuses_is_refused_by_its_files(
    wrong, message, model, exported, places_unnamed
):
    inputs = {"labels": [1, 2], "guidance_scale": 1.0, "num_steps": 3} | wrong
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        generated(exported, **inputs)
    inputs["sampler"] = SAMPLERS[inputs.get("sampler", "ddim")]
    # The last of the wrong inputs is the one that is named.
    with pytest.raises(ValueError, match=list(wrong)[-1]):
        model.generate(2, seed=5, **inputs)


def test_the_readmes_tensorflow_code_knows_guidance_and_makes_bytes(
    model, exported, monkeypatch
):
    monkeypatch.chdir(exported.parent)
    results = {}
    exec(code_blocks()[0], results)
    expected = model.generate(
        10,
        labels=range(10),
        num_steps=20,
        seed=0,
        sampler="dpm_solver_2",
        guidance_scale=2.0,
    )
    # Else this would not show that images are clipped.
    assert np.abs(expected).max() > 1.01
    pixels = results["pixels"].numpy().astype("int")
    # Rounding the other way where float32 is off.
    assert np.abs(pixels - to_uint8(expected)).max() <= 1
