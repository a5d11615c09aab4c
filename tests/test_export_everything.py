"""The command makes everything, for networks of every kind."""

import importlib.util
import json

import numpy as np
import pytest
from conftest import SMALL, randomize
from export_fixtures import LabelledCNN, generated

from keras_unet_diffusion import (
    CosineSchedule,
    DiffusionModel,
    DiffusionProcess,
    UNet,
    VelocityPrediction,
)
from keras_unet_diffusion.cli.export import main
from keras_unet_diffusion.export import check_artifacts

# To convert all files of one network takes minutes.
pytestmark = pytest.mark.slow


def export(folder, network, *flags):
    """Exports by the command; returns the manifest and the parity table."""
    process = DiffusionProcess(CosineSchedule(), VelocityPrediction())
    model = DiffusionModel(randomize(network), process)
    model.save(folder / "model.keras")
    out = folder / "exported"
    arguments = [f"--checkpoint={folder / 'model.keras'}", f"--out={out}"]
    assert main(["export", *arguments, "--sampler=ddim", *flags]) == 0
    rows = json.loads((out / "parity.json").read_text())
    by_name = {(row["artifact"], row["signature"]): row for row in rows}
    return model, check_artifacts(out), by_name


def opset_of(path):
    """The opset that an ONNX file names, None if there is no such file."""
    if not path.exists():
        return None
    import onnx

    versions = {x.domain: x.version for x in onnx.load(path).opset_import}
    return versions[""]


def check_files(folder, manifest, rows):
    """Every file that can be made here is there, described and compared."""
    names = ["float32", "float16", "dynamic_int8", "float32_dynamic"]
    if importlib.util.find_spec("ai_edge_quantizer"):
        names.append("weight_int8")
    files = {f"litert/{name}.tflite" for name in names}
    pairs = {(file, name) for file in files for name in ("denoise", "generate")}
    assert manifest["onnx_opset"] == opset_of(folder / "onnx" / "step.onnx")
    if importlib.util.find_spec("tf2onnx"):
        onnx = {(f"onnx/{name}.onnx", name) for name in ("denoise", "step")}
        files |= {file for file, _ in onnx}
        pairs |= onnx
    of_saved_model = ("denoise", "step", "generate ddim")
    pairs |= {("saved_model", name) for name in of_saved_model}
    assert set(rows) == pairs
    assert set(manifest["signatures"]) == files | {"saved_model"}
    others = {"README.md", "samples.png", "parity.json", "weights.safetensors"}
    found = {x for x in manifest["files"] if not x.startswith("saved_model/")}
    assert found == files | others


def test_a_guided_network_is_exported_in_every_form(tmp_path, monkeypatch):
    _, manifest, rows = export(tmp_path, LabelledCNN(null_label="learned"))
    check_files(tmp_path / "exported", manifest, rows)
    monkeypatch.chdir(tmp_path / "exported")
    text = (tmp_path / "exported" / "README.md").read_text()
    for block in text.split("```python\n")[1:]:
        values = {}
        exec(block.split("```")[0], values)
        if "pixels" in values:
            assert values["pixels"].shape[1:] == (8, 8, 1)


def test_a_network_of_any_size_is_exported_in_every_form(tmp_path):
    arguments = {"attention_resolutions": (), "middle_attention": False}
    network = UNet(**SMALL | arguments | {"image_size": None})
    _, manifest, rows = export(tmp_path, network, "--image_size=8")
    check_files(tmp_path / "exported", manifest, rows)
    of_file = manifest["signatures"]["litert/float32_dynamic.tflite"]
    shape = of_file["denoise"]["inputs"]["noisy_images"]["shape"]
    assert shape == [None, None, None, 1]


def test_xla_compiles_the_network_where_it_is_loaded(tmp_path):
    model, manifest, _ = export(tmp_path, LabelledCNN(), "--xla")
    data = (
        tmp_path / "exported" / "saved_model" / "saved_model.pb"
    ).read_bytes()
    assert b"_XlaMustCompile" in data
    images = generated(tmp_path / "exported", labels=[1, 2])
    expected = model.generate(2, labels=[1, 2], num_steps=3, seed=5)
    # Float32 roundings, amplified by three steps of a random network.
    np.testing.assert_allclose(images, expected, atol=1e-4)
