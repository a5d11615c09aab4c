"""Checkpoints of guided-diffusion, through us, into diffusers."""

import numpy as np
import pytest
from test_weight_fixtures import GATE, imported
from weight_fixtures import fixture

from keras_unet_diffusion.weights import save_checkpoint

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")


@pytest.mark.parametrize(
    "case", ["guided_legacy_heads", "guided_adm64_narrow", "improved_cifar10"]
)
def test_diffusers_computes_what_the_original_network_did(case, tmp_path):
    save_checkpoint(imported(case), tmp_path / "network", "diffusers")
    model = diffusers.UNet2DModel.from_pretrained(tmp_path / "network").eval()
    recorded = fixture(case)
    labels = recorded.inputs.get("class_labels")
    with torch.no_grad():
        prediction = model(
            torch.tensor(recorded.inputs["x"]),
            torch.tensor(recorded.inputs["timesteps"]),
            class_labels=None if labels is None else torch.tensor(labels),
        ).sample.numpy()
    expected = recorded.outputs["expected"]
    difference = np.abs(prediction - expected).max()
    assert difference <= GATE * expected.std()
