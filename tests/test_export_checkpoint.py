"""From a PyTorch checkpoint of guided-diffusion to exported files."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from weight_fixtures import fixture

from keras_unet_diffusion import UNet
from keras_unet_diffusion.weights import write_torch

README = (Path(__file__).parents[1] / "README.md").read_text()
# The recorded network is ADM for 64x64 pixels, narrower and shallower.
NARROW = {"base_channels": 64, "num_residual_blocks": 1}


@pytest.fixture(scope="module")
def recorded():
    return fixture("guided_adm64_narrow")


@pytest.fixture(scope="module")
def folder(recorded, tmp_path_factory):
    """Where the checkpoint lies under the name that the README gives it."""
    folder = tmp_path_factory.mktemp("openai")
    write_torch(folder / "64x64_diffusion.pt", recorded.tensors)
    return folder


def test_the_preset_with_weights_computes_what_was_recorded(folder, recorded):
    network = UNet.from_preset(
        "adm_imagenet64", weights=folder / "64x64_diffusion.pt", **NARROW
    )
    prediction = network(
        {
            "noisy_images": recorded.inputs["x"].transpose(0, 2, 3, 1),
            "noise_level": recorded.inputs["timesteps"].astype("float32"),
            "labels": recorded.inputs["class_labels"].astype("int32"),
        }
    )
    expected = recorded.outputs["expected"].transpose(0, 2, 3, 1)
    difference = np.abs(np.asarray(prediction) - expected).max()
    # Rounding alone costs 9.2e-6 (tests/fixtures/weights/README.md).
    assert difference <= 2e-5 * expected.std()


# Three minutes: all signatures of a network for 64x64 pixels.
@pytest.mark.slow
def test_the_readmes_five_lines_export_it_with_its_parity_table(
    folder, monkeypatch
):
    codes = re.findall(r"```python\n(.+?)```", README, flags=re.DOTALL)
    (code,) = [x for x in codes if "64x64_diffusion.pt" in x]
    assert len([x for x in code.splitlines() if x]) == 5
    arguments = ", ".join(f"{k}={v}" for k, v in NARROW.items())
    file = 'weights="64x64_diffusion.pt"'
    monkeypatch.chdir(folder)
    exec(code.replace(file, f"{file}, {arguments}"), {})
    exported = folder / "exported"
    rows = json.loads((exported / "parity.json").read_text())
    by_name = {(row["artifact"], row["signature"]): row for row in rows}
    for artifact, signature in (
        ("saved_model", "denoise"),
        ("saved_model", "generate ddim"),
        ("saved_model", "generate heun"),
        ("litert/float32.tflite", "denoise"),
    ):
        row = by_name[artifact, signature]
        # Two roundings of 9.2e-6 (the fixture's own floor) may add up.
        assert row["tolerance_of_spread"] <= 2.5e-5
        assert row["max_difference_of_spread"] <= row["tolerance_of_spread"]
    assert (
        by_name["saved_model", "generate ddim"]["tolerance_of_spread"] == 1e-5
    )
    manifest = json.loads((exported / "manifest.json").read_text())
    # Noise, and as many channels of learned variance.
    assert manifest["prediction_channels"] == 6
    assert manifest["image_shape"] == [64, 64, 3]
