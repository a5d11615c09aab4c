"""What lies beside the artifacts: card, picture, weights, manifest."""

import contextlib
import io
import json
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
from conftest import randomize
from export_fixtures import LabelledCNN, signature, write_few
from PIL import Image

from keras_unet_diffusion import (
    CosineSchedule,
    DiffusionModel,
    DiffusionProcess,
    Heun,
    VelocityPrediction,
)
from keras_unet_diffusion.cli.export import main
from keras_unet_diffusion.data import to_model_range, to_uint8
from keras_unet_diffusion.export import (
    artifacts,
    check_artifacts,
    format_parity_table,
    load_exported_network,
)
from keras_unet_diffusion.export.manifest import (
    describe_model,
    write_manifest,
)
from keras_unet_diffusion.export.network import weight_bytes


@pytest.fixture(scope="module")
def model():
    process = DiffusionProcess(CosineSchedule(), VelocityPrediction())
    return DiffusionModel(randomize(LabelledCNN()), process)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """The folder of a model, its parity table, and what the command said."""
    folder = tmp_path_factory.mktemp("export")
    model.save(folder / "model.keras")
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        write_few(patch)
        patch.setattr(
            "keras_unet_diffusion.cli.export.missing_packages",
            artifacts.missing_packages,
        )
        with contextlib.redirect_stdout(said):
            status = main(
                [
                    "export",
                    f"--checkpoint={folder / 'model.keras'}",
                    f"--out={folder / 'exported'}",
                    "--sampler=ddim",
                ]
            )
    assert status == 0
    rows = json.loads((folder / "exported" / "parity.json").read_text())
    return folder / "exported", rows, said.getvalue()


def test_the_command_prints_the_table_what_is_left_out_and_the_hash(exported):
    folder, rows, said = exported
    assert format_parity_table(rows) in said
    assert "Left out: onnx, for want of it. To have it, pip install" in said
    (digest,) = re.findall("SHA-256 of manifest.json: ([0-9a-f]{64})", said)
    assert check_artifacts(folder, manifest_sha256=digest)["num_classes"] == 10


def test_the_command_tells_of_each_file_how_long_it_took(exported):
    lines = exported[2].splitlines()
    told = [re.fullmatch(r" *\d+\.\d s  (.*)", line) for line in lines]
    files = "saved_model/", "litert/float32.tflite"
    expected = [
        f"{file} {done}" for done in ("written", "compared") for file in files
    ]
    expected.insert(1, "weights.safetensors written")
    assert [match[1] for match in told if match] == expected


def test_the_cards_code_runs_in_the_folder(exported, monkeypatch, tmp_path):
    folder = tmp_path / "exported"
    shutil.copytree(exported[0], folder)
    assert check_artifacts(folder)["num_classes"] == 10
    monkeypatch.chdir(folder)
    text = (folder / "README.md").read_text()
    blocks = [x.split("```")[0] for x in text.split("```python\n")[1:]]
    verify, tensorflow, litert, *onnx, weights = blocks
    exec(verify, {})
    values = {}
    exec(tensorflow, values)
    assert values["pixels"].shape == (4, 8, 8, 1)
    assert Image.open(folder / "image_3.png").size == (8, 8)
    values = {}
    exec(litert, values)
    assert values["pixels"].shape == (1, 8, 8, 1)
    values = {}
    exec(weights, values)
    assert values["model"].network.num_classes == 10
    (folder / "litert" / "float32.tflite").write_bytes(b"")
    with pytest.raises(SystemExit, match="float32.tflite is not the file"):
        exec(verify, {})


def test_the_picture_shows_keras_and_each_file_that_samples(exported):
    picture = Image.open(exported[0] / "samples.png")
    sampling = [x for x in exported[1] if "psnr_db" in x]
    # A row has images of 64 pixels, a caption of 14 and three gaps of 4.
    assert picture.height == (1 + len(sampling)) * (64 + 14 + 12) + 4


def test_the_exported_weights_are_those_of_the_averaged_network(
    model, exported
):
    path = exported[0] / "weights.safetensors"
    network, process = load_exported_network(path)
    assert process == model.process
    for found, expected in zip(
        network.get_weights(), model.ema_network.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    assert path.stat().st_size < 1.1 * weight_bytes(network) + 30_000


def test_pixels_go_through_the_files_range_and_back(exported):
    pixels = np.arange(256, dtype="uint8").reshape(1, 16, 16, 1)
    encode = signature(exported[0], "encode_image")
    decode = signature(exported[0], "decode_image")
    images = encode(pixels=tf.constant(pixels))["images"]
    # The graph multiplies by 1 / 127.5 instead: roundings of 6e-8.
    np.testing.assert_allclose(images, to_model_range(pixels), atol=2e-7)
    np.testing.assert_array_equal(decode(images=images)["pixels"], pixels)
    wide = tf.constant([-9.0, 0.3, 9.0], shape=(1, 3, 1, 1))
    np.testing.assert_array_equal(decode(images=wide)["pixels"], to_uint8(wide))
    with pytest.raises(tf.errors.InvalidArgumentError, match="not NaN"):
        decode(images=wide * np.nan)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"labels": [1]}, "labels must hold one for each image"),
        ({"labels": [1, 10]}, "labels must be numbers from 0 to 9"),
        ({"step": 3}, "step must be a number from 0 to num_steps - 1"),
        ({"step": -1}, "step must be a number from 0 to num_steps - 1"),
        ({"num_steps": 1001}, "num_steps is at most 1000"),
    ],
)
def test_a_step_refuses_wrong_inputs(exported, wrong, message, places_unnamed):
    inputs = {"step": 0, "num_steps": 3, "labels": [1, 2]} | wrong
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        signature(exported[0], "step")(
            x_t=tf.zeros((2, 8, 8, 1)),
            **{name: tf.constant(x) for name, x in inputs.items()},
        )


def test_the_manifest_tells_shape_type_and_range_of_every_input(exported):
    manifest = check_artifacts(exported[0])
    for name in manifest["signatures"]["saved_model"]:
        described = manifest["signatures"]["saved_model"][name]["inputs"]
        found = signature(exported[0], name).structured_input_signature[1]
        assert set(described) == set(found)
        for key, spec in found.items():
            assert described[key]["dtype"] == spec.dtype.name
            assert described[key]["shape"] == spec.shape.as_list()
    of_file = manifest["signatures"]["litert/float32.tflite"]
    assert set(of_file) == {"denoise", "step", "generate", "generate_seeded"}
    assert of_file["generate"]["inputs"] == {
        "labels": {"shape": [1], "dtype": "int32", "range": [0, 9]},
        "noise": {"shape": [1, 8, 8, 1], "dtype": "float32"},
        "num_steps": {"shape": [], "dtype": "int32", "range": [1, 1000]},
    }
    seeded = of_file["generate_seeded"]["inputs"]["seed"]
    assert seeded["range"] == [0, 2**31 - 1]


def test_the_manifest_is_json_also_of_what_is_infinite(tmp_path):
    facts = describe_model(
        LabelledCNN(), DiffusionProcess(), {"heun": Heun()}, (8, 8, 1)
    )
    (tmp_path / "file").write_bytes(b"x")
    write_manifest(tmp_path, facts)
    # It refuses Infinity, as readers in other languages do.
    samplers = check_artifacts(tmp_path)["generate"]["samplers"]
    assert samplers["heun"]["config"]["churn_max"] == "inf"
