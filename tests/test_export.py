"""Every artifact, loaded elsewhere, does what the Keras model does."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from export_fixtures import (
    code_blocks,
    generated,
    labelled_model,
    litert_runner,
    off,
    signature,
)

from keras_unet_diffusion.export import (
    artifacts,
    export_model,
    format_parity_table,
    rebuild_in_float32,
)
from keras_unet_diffusion.export.network import weight_bytes
from keras_unet_diffusion.export.proof import Proof
from keras_unet_diffusion.generation import ImageGenerator
from keras_unet_diffusion.network_calls import make_denoise
from keras_unet_diffusion.samplers import DDIM, make_sampler, sample

# One that draws noise and one that remembers; each takes its time to load.
CHOSEN = ("ddpm", "dpm_solver_2")


@pytest.fixture(scope="module")
def model():
    return labelled_model("mixed_bfloat16")


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """The folder of a model trained in bfloat16, and its parity table."""
    folder = tmp_path_factory.mktemp("export") / "exported"
    with pytest.MonkeyPatch.context() as patch:
        # Each takes seconds to convert.
        patch.setattr(artifacts, "PRECISIONS", ("float32", "float16"))
        patch.setattr(artifacts, "DYNAMIC_PRECISIONS", ())
        patch.setattr(artifacts, "missing_packages", lambda: {"onnx": ["it"]})
        rows = export_model(model, folder, samplers=CHOSEN)
    return folder, rows


def make_inputs(batch=3, level=500.0):
    random = np.random.default_rng(0)
    return {
        "noisy_images": random.standard_normal((batch, 8, 8, 1)).astype(
            "float32"
        ),
        "noise_level": np.full(batch, level, "float32"),
        "labels": np.arange(batch, dtype="int32"),
    }


def test_every_artifact_is_in_the_parity_table(exported):
    folder, rows = exported
    named = {(row["artifact"], row["signature"]) for row in rows}
    files = {
        (f"litert/{name}.tflite", signature)
        for name in ("float32", "float16")
        for signature in ("denoise", "generate")
    }
    assert named == files | {
        ("saved_model", "denoise"),
        ("saved_model", "step"),
        *(("saved_model", f"generate {name}") for name in CHOSEN),
    }
    assert json.loads((folder / "parity.json").read_text()) == rows
    table = format_parity_table(rows)
    assert all(row["artifact"] in table for row in rows)


def test_float32_artifacts_agree_with_keras(exported):
    for row in exported[1]:
        if "float16" not in row["artifact"] and row["signature"] == "denoise":
            # The bound that is promised for every export.
            assert row["max_difference_of_spread"] <= 1e-5


def test_the_table_tells_what_each_file_does_to_samples(exported):
    rows = {(x["artifact"], x["signature"]): x for x in exported[1]}
    float32 = rows["litert/float32.tflite", "generate"]
    float16 = rows["litert/float16.tflite", "generate"]
    for row in (float32, float16, rows["saved_model", "step"]):
        shift = np.subtract(row["channel_means"], row["keras_channel_means"])
        assert row["statistics_difference"] >= np.abs(shift).max()
        # What a process with an interpreter and numpy has at least.
        assert row["peak_bytes"] > 1e7
    # 24 bits and 11: each bit is 6 dB, and the images are the same.
    assert float32["psnr_db"] > float16["psnr_db"] + 30 > 60
    assert float16["tolerance_of_spread"] is None
    table = format_parity_table(exported[1])
    assert f"{float16['psnr_db']:.1f}" in table


def test_no_weight_is_stored_twice(model, exported):
    variables = exported[0] / "saved_model" / "variables"
    (data,) = variables.glob("variables.data-*")
    weights = weight_bytes(model.network)
    # The rest is the list of names.
    assert weights <= data.stat().st_size < 1.2 * weights


def test_litert_files_hold_the_weights(model, exported):
    weights = weight_bytes(model.network)
    for precision, share in (("float32", 1), ("float16", 0.5)):
        path = exported[0] / "litert" / f"{precision}.tflite"
        assert path.stat().st_size > share * weights


def test_float16_weights_hold_at_every_noise_level(model, exported):
    network = rebuild_in_float32(model.ema_network)
    run = litert_runner(exported[0] / "litert" / "float16.tflite")
    levels = np.arange(0, 1000, 27, dtype="float32")
    inputs = {
        name: np.repeat(x, len(levels), axis=0)
        for name, x in make_inputs(1).items()
    }
    inputs["noise_level"] = levels
    all_expected = np.asarray(network(inputs))
    for level, expected in zip(levels, all_expected, strict=True):
        output = run(**make_inputs(1, level))["prediction"][0]
        assert np.isfinite(output).all()
        # Weights of 11 bits, 5e-4 each, through a dozen layers.
        assert np.abs(output - expected).max() < 0.02 * expected.std()


def test_a_saved_model_takes_any_batch(model, exported):
    network = rebuild_in_float32(model.ema_network)
    denoise = signature(exported[0], "denoise")
    for batch in (1, 5):
        inputs = make_inputs(batch)
        output = denoise(
            **{name: tf.constant(value) for name, value in inputs.items()}
        )["prediction"]
        # Float32 roundings of numbers of size 1.
        np.testing.assert_allclose(output, network(inputs), atol=1e-5)


@pytest.mark.parametrize("sampler", CHOSEN)
def test_a_saved_model_generates_the_models_images(
    model, exported, sampler, untraced_loops
):
    generator = ImageGenerator(
        rebuild_in_float32(model.ema_network), model.process
    )
    expected = generator.generate(
        4, labels=3, num_steps=6, seed=11, sampler=sampler
    )
    images = generated(
        exported[0],
        seed=11,
        num_images=4,
        num_steps=6,
        sampler=sampler,
        labels=np.full(4, 3, "int32"),
    )
    # Float32 roundings, amplified by six steps of a random network.
    spread = max(1, np.abs(expected).max())
    np.testing.assert_allclose(images, expected, atol=1e-4 * spread)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"labels": [1, 2, 3]}, "labels must hold num_images numbers"),
        ({"sampler": "best"}, "sampler must be one of ddpm, dpm_solver_2"),
        ({"labels": [-1, 2]}, "labels must be numbers from 0 to 9"),
        ({"labels": [1, 10]}, "labels must be numbers from 0 to 9"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"num_steps": 0}, "num_steps must be at least 1"),
        ({"num_steps": 1001}, "num_steps is at most 1000"),
        (
            {"num_images": 0, "labels": np.zeros(0, "int32")},
            "num_images must be at least 1",
        ),
    ],
)
def test_a_saved_model_refuses_wrong_inputs(
    exported, wrong, message, places_unnamed
):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        generated(exported[0], **{"labels": [1, 2], "sampler": "ddpm"} | wrong)


def test_the_manifest_holds_the_schedule(model, exported):
    manifest = json.loads((exported[0] / "manifest.json").read_text())
    assert manifest["image_shape"] == [8, 8, 1]
    assert manifest["num_classes"] == 10
    assert manifest["prediction"] == "VelocityPrediction"
    assert len(manifest["alpha"]) == len(manifest["sigma"]) == 1000
    t = (np.array([0, 499, 999]) + 1) / 1000
    alpha = np.asarray(model.process.schedule.alpha(t))
    np.testing.assert_array_equal(
        np.array(manifest["alpha"])[[0, 499, 999]], alpha
    )


# "denoise" is the one that is off by default in test_export_faults.py.
@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param("denoise", marks=pytest.mark.slow),
        "step",
        "generate",
        None,
    ],
)
def test_a_signature_that_is_off_is_found(model, exported, wrong):
    network = rebuild_in_float32(model.ema_network)
    generator = ImageGenerator(network, model.process)
    samplers = {"ddpm": make_sampler("ddpm")}
    proof = Proof(exported[0], generator, (8, 8, 1), off(wrong))
    if wrong is None:
        proof.prove_saved_model(samplers)
        assert len(proof.rows) == 3
        return
    with pytest.raises(ValueError, match=f"{wrong}.* is off by"):
        proof.prove_saved_model(samplers)


def run_code(python, code, folder):
    """Runs code in a process whose current folder holds `exported`."""
    done = subprocess.run(
        [python, "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr


def test_the_readmes_tensorflow_code_runs_without_this_package(model, exported):
    code = (
        "import sys\nsys.modules['keras_unet_diffusion'] = None\n"
        + code_blocks()[0]
        + "import numpy\nnumpy.save('images.npy', images)\n"
    )
    folder = exported[0].parent
    run_code(sys.executable, code, folder)
    expected = ImageGenerator(
        rebuild_in_float32(model.ema_network), model.process
    ).generate(10, num_steps=20, seed=0, sampler="dpm_solver_2")
    # Float32 roundings, amplified by 20 steps of a random network.
    np.testing.assert_allclose(
        np.load(folder / "images.npy"), expected, atol=1e-3
    )


def litert_image(model, num_steps):
    """What the page's LiteRT code makes, by Keras."""
    network = rebuild_in_float32(model.ema_network)
    denoise = make_denoise(network, model.process, labels=np.int32([3]))
    noise = np.random.default_rng(0).standard_normal((1, 8, 8, 1))
    schedule = model.process.schedule
    return sample(DDIM(), denoise, noise, schedule, num_steps)


NOT_NEEDED = ("tensorflow", "keras", "keras_unet_diffusion")


def test_the_readmes_litert_code_runs_without_tensorflow(model, exported):
    code = "import sys\n"
    code += "".join(f"sys.modules[{x!r}] = None\n" for x in NOT_NEEDED)
    assert "np.int32(50)" in code_blocks()[1]
    # Five steps instead of fifty.
    code += code_blocks()[1].replace("np.int32(50)", "np.int32(5)")
    code += "np.save('image.npy', images)\n"
    folder = exported[0].parent
    run_code(sys.executable, code, folder)
    # Float32 roundings, amplified by the steps of a random network.
    np.testing.assert_allclose(
        np.load(folder / "image.npy"), litert_image(model, 5), atol=1e-3
    )


# It waits for a package registry.
@pytest.mark.slow
def test_the_readmes_litert_code_runs_with_litert_and_numpy_alone(
    model, exported
):
    folder = exported[0].parent
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "ai-edge-litert", "numpy"],
        check=True,
    )
    code = code_blocks()[1] + "np.save('alone.npy', images)\n"
    for missing in NOT_NEEDED:
        code += (
            f"try:\n    import {missing}\n"
            f"except ImportError:\n    pass\n"
            f"else:\n    raise SystemExit('{missing} is there')\n"
        )
    run_code(python, code, folder)
    # As above.
    np.testing.assert_allclose(
        np.load(folder / "alone.npy"), litert_image(model, 50), atol=1e-3
    )
