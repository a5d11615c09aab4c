"""Every artifact, loaded elsewhere, does what the Keras model does."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import SMALL, randomize
from export_fixtures import code_blocks

from keras_unet_diffusion import (
    CosineSchedule,
    DiffusionModel,
    DiffusionProcess,
    UNet,
    VelocityPrediction,
    layers,
)
from keras_unet_diffusion.export import (
    artifacts,
    export_model,
    format_parity_table,
    parity,
    rebuild_in_float32,
    write_litert,
)
from keras_unet_diffusion.export.network import weight_bytes
from keras_unet_diffusion.generation import ImageGenerator
from keras_unet_diffusion.network_calls import make_denoise
from keras_unet_diffusion.samplers import DDIM, sample


def make_model(policy="float32"):
    keras.utils.set_random_seed(0)
    network = UNet(**SMALL, num_classes=10, dtype=policy)
    process = DiffusionProcess(CosineSchedule(), VelocityPrediction())
    return DiffusionModel(randomize(network), process)


@pytest.fixture(scope="module")
def model():
    return make_model("mixed_bfloat16")


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """The folder of a model trained in bfloat16, and its parity table."""
    folder = tmp_path_factory.mktemp("export") / "exported"
    rows = export_model(model, folder)
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
    assert named == {
        ("saved_model", "denoise"),
        *(("saved_model", f"generate {name}") for name in artifacts.SAMPLERS),
        ("denoise_float32.tflite", "denoise"),
        ("denoise_float16.tflite", "denoise"),
    }
    assert json.loads((folder / "parity.json").read_text()) == rows
    table = format_parity_table(rows)
    assert all(row["artifact"] in table for row in rows)


def test_float32_artifacts_agree_with_keras(exported):
    for row in exported[1]:
        if "float16" not in row["artifact"]:
            # The bound that is promised for every export.
            assert row["max_difference_of_spread"] <= 1e-5


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_rebuilding_in_float32_keeps_weights_and_drops_the_policy(policy):
    mixed = make_model(policy).ema_network
    rebuilt = rebuild_in_float32(mixed)
    assert {layer.compute_dtype for layer in rebuilt.layers} == {"float32"}
    exact = UNet.from_config(mixed.get_config() | {"dtype": "float32"})
    exact.set_weights(mixed.get_weights())
    np.testing.assert_array_equal(rebuilt(make_inputs()), exact(make_inputs()))


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


def test_no_weight_is_stored_twice(model, exported):
    variables = exported[0] / "saved_model" / "variables"
    (data,) = variables.glob("variables.data-*")
    weights = weight_bytes(model.network)
    # The rest is the list of names.
    assert weights <= data.stat().st_size < 1.2 * weights


def test_litert_files_hold_the_weights(model, exported):
    weights = weight_bytes(model.network)
    for precision, share in (("float32", 1), ("float16", 0.5)):
        path = exported[0] / "litert" / f"denoise_{precision}.tflite"
        assert path.stat().st_size > share * weights


def test_a_litert_file_without_weights_is_refused(model, monkeypatch, tmp_path):
    network = rebuild_in_float32(model.ema_network)
    monkeypatch.setattr(
        "keras_unet_diffusion.export.litert._convert", lambda *_: b"empty"
    )
    with pytest.raises(ValueError, match="left weights out.*5 bytes"):
        write_litert(tmp_path / "x.tflite", network, (8, 8, 1))
    assert list(tmp_path.iterdir()) == []


def run_litert(path, **inputs):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path)).get_signature_runner("denoise")
    return runner(**inputs)["prediction"]


def test_float16_weights_hold_at_every_noise_level(model, exported):
    network = rebuild_in_float32(model.ema_network)
    path = exported[0] / "litert" / "denoise_float16.tflite"
    for level in np.arange(0, 1000, 27, dtype="float32"):
        inputs = make_inputs(1, level)
        output = run_litert(path, **inputs)
        assert np.isfinite(output).all()
        expected = np.asarray(network(inputs))
        # Weights of 11 bits, 5e-4 each, through a dozen layers.
        assert np.abs(output - expected).max() < 0.02 * expected.std()


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
    output = run_litert(
        path,
        noisy_images=np.zeros((1, 8, 8, 1), "float32"),
        noise_level=np.float32([999]),
    )
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


def test_a_saved_model_takes_any_batch(model, exported):
    network = rebuild_in_float32(model.ema_network)
    signatures = tf.saved_model.load(
        str(exported[0] / "saved_model")
    ).signatures
    for batch in (1, 5):
        inputs = make_inputs(batch)
        output = signatures["denoise"](
            **{name: tf.constant(value) for name, value in inputs.items()}
        )["prediction"]
        # Float32 roundings of numbers of size 1.
        np.testing.assert_allclose(output, network(inputs), atol=1e-5)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "heun"])
def test_a_saved_model_generates_the_models_images(model, exported, sampler):
    generator = ImageGenerator(
        rebuild_in_float32(model.ema_network), model.process
    )
    expected = generator.generate(
        4, labels=3, num_steps=6, seed=11, sampler=sampler
    )
    result = parity.run_elsewhere(
        "saved_model",
        exported[0] / "saved_model",
        "generate",
        {
            "num_images": np.int32(4),
            "num_steps": np.int32(6),
            "seed": np.int64(11),
            "sampler": np.array(sampler.encode()),
            "labels": np.full(4, 3, "int32"),
        },
    )
    # Float32 roundings, amplified by six steps of a random network.
    spread = max(1, np.abs(expected).max())
    np.testing.assert_allclose(result["output"], expected, atol=1e-4 * spread)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"labels": [1, 2, 3]}, "labels must hold num_images numbers"),
        ({"sampler": "best"}, "sampler must be one of ddim, ddpm"),
        ({"labels": [-1, 2]}, "labels must be numbers from 0 to 9"),
        ({"labels": [1, 10]}, "labels must be numbers from 0 to 9"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"num_steps": 0}, "num_steps must be at least 1"),
        ({"num_steps": 1001}, "num_steps is at most 1000"),
        ({"num_images": 0, "labels": []}, "num_images must be at least 1"),
    ],
)
def test_a_saved_model_refuses_wrong_inputs(exported, wrong, message):
    generate = tf.saved_model.load(str(exported[0] / "saved_model")).signatures[
        "generate"
    ]
    arguments = {"num_images": 2, "num_steps": 2, "seed": 0, "labels": [1, 2]}
    arguments |= {"sampler": "ddim"} | wrong
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        generate(
            num_images=tf.constant(arguments["num_images"]),
            num_steps=tf.constant(arguments["num_steps"]),
            seed=tf.constant(arguments["seed"], tf.int64),
            sampler=tf.constant(arguments["sampler"]),
            labels=tf.constant(arguments["labels"], tf.int32),
        )


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


def test_an_artifact_that_is_off_fails_the_export(model, monkeypatch, tmp_path):
    monkeypatch.setattr(artifacts, "FLOAT32_TOLERANCE", 0.0)
    monkeypatch.setattr(
        artifacts,
        "run_elsewhere",
        lambda *_: {"output": np.ones((4, 8, 8, 1)), "milliseconds": 1.0},
    )
    with pytest.raises(ValueError, match="does not compute what the Keras"):
        export_model(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_are_no_numbers_fail_without_a_tolerance(value, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"x")
    result = {"output": np.array([1.0, value]), "milliseconds": 1.0}
    with pytest.raises(ValueError, match="does not compute"):
        parity.compare("x", path, "denoise", result, np.array([1.0, 2.0]))


def test_a_network_that_was_never_trained_says_so(tmp_path):
    # Its last layer is exactly zero, and so is all that it predicts.
    network = UNet(**SMALL, initialization="adm")
    with pytest.raises(ValueError, match="Train it first"):
        export_model(DiffusionModel(network), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_results_is_not_written_over(model, tmp_path):
    (tmp_path / "kept.txt").write_text("kept")
    with pytest.raises(ValueError, match="not empty"):
        export_model(model, tmp_path)
    with pytest.raises(ValueError, match="Leave image_size out"):
        export_model(model, tmp_path / "out", image_size=16)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_an_unlabelled_network_of_any_size_is_exported(tmp_path):
    network = UNet(**SMALL | {"image_size": None, "attention_resolutions": ()})
    model = DiffusionModel(randomize(network))
    with pytest.raises(ValueError, match="any size"):
        export_model(model, tmp_path / "out")
    with pytest.raises(ValueError, match="image_size=7"):
        export_model(model, tmp_path / "out", image_size=7)
    export_model(model, tmp_path / "out", image_size=12)
    signatures = tf.saved_model.load(
        str(tmp_path / "out" / "saved_model")
    ).signatures
    images = signatures["generate"](
        num_images=tf.constant(1),
        num_steps=tf.constant(1),
        seed=tf.constant(0, tf.int64),
        sampler=tf.constant("ddim"),
    )["images"]
    assert images.shape == (1, 12, 12, 1)
    output = signatures["denoise"](
        noisy_images=tf.zeros((1, 6, 10, 1)), noise_level=tf.zeros(1)
    )["prediction"]
    assert output.shape == (1, 6, 10, 1)


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
    code = code_blocks()[1] + "np.save('image.npy', x)\n"
    for missing in ("tensorflow", "keras", "keras_unet_diffusion"):
        code += (
            f"try:\n    import {missing}\n"
            f"except ImportError:\n    pass\n"
            f"else:\n    raise SystemExit('{missing} is there')\n"
        )
    run_code(python, code, folder)
    network = rebuild_in_float32(model.ema_network)
    denoise = make_denoise(network, model.process, labels=np.int32([3]))
    noise = np.random.default_rng(0).standard_normal((1, 8, 8, 1))
    schedule = model.process.schedule
    expected = sample(DDIM(), denoise, noise, schedule, num_steps=50)
    # As above.
    np.testing.assert_allclose(
        np.load(folder / "image.npy"), expected, atol=1e-3
    )
