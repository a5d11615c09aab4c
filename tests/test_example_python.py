"""The Python examples, run as a user runs them."""

import numpy as np
import pytest
import tensorflow as tf
from example_cases import exported_files, run_script
from PIL import Image

# Exporting takes a minute.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return exported_files(tmp_path_factory.mktemp("python"))


def steps_of_saved_model(exported, noise, num_steps, labels, scale):
    """Bytes of what the SavedModel makes of noise, `(batch, height, width)`."""
    model = tf.saved_model.load(str(exported / "saved_model"))
    x_t = tf.constant(noise)
    for i in range(num_steps):
        x_t = model.signatures["step"](
            x_t=x_t,
            step=tf.constant(i),
            num_steps=tf.constant(num_steps),
            labels=tf.constant(labels),
            guidance_scale=tf.constant(scale),
        )["x_next"]
    return (np.clip(x_t, -1, 1)[..., 0] + 1) * 127.5


def read_row(path, count):
    with Image.open(path) as picture:
        return np.stack(np.split(np.asarray(picture), count, axis=1))


def test_tensorflow_alone_makes_the_pictures_of_a_seed(exported, tmp_path):
    run_script(
        "python_tensorflow.py",
        exported,
        "--labels=3,1",
        "--steps=4",
        "--seed=5",
        "--guidance=2",
        cwd=tmp_path,
    )
    model = tf.saved_model.load(str(exported / "saved_model"))
    images = model.signatures["generate"](
        num_images=tf.constant(2),
        num_steps=tf.constant(4),
        seed=tf.constant(5, tf.int64),
        sampler=tf.constant("ddim"),
        labels=tf.constant([3, 1]),
        guidance_scale=tf.constant(2.0),
    )["images"]
    expected = (np.clip(images, -1, 1)[..., 0] + 1) * 127.5
    # Half a level by rounding to whole ones, and 1e-5 of float32 noise.
    assert np.abs(read_row(tmp_path / "images.png", 2) - expected).max() < 0.51


def test_litert_alone_makes_what_the_saved_model_makes(exported, tmp_path):
    printed = run_script(
        "python_litert.py",
        exported,
        "--label=3",
        "--steps=4",
        "--guidance=2",
        cwd=tmp_path,
    )
    assert "step 4 of 4" in printed
    noise = np.random.default_rng(0).standard_normal((1, 8, 8, 1))
    expected = steps_of_saved_model(
        exported, noise.astype("float32"), 4, [3], 2.0
    )
    # Half a level by rounding, and 1e-4 for four steps of another runtime.
    assert np.abs(read_row(tmp_path / "image.png", 1) - expected).max() < 0.52


def test_onnxruntime_alone_makes_what_the_saved_model_makes(exported, tmp_path):
    pytest.importorskip("onnxruntime")
    if not (exported / "onnx" / "step.onnx").exists():
        pytest.skip("no ONNX files were exported: tf2onnx not installed")
    run_script(
        "python_onnx.py",
        exported,
        "--labels=3,1",
        "--steps=4",
        "--guidance=2",
        cwd=tmp_path,
    )
    noise = np.random.default_rng(0).standard_normal((2, 8, 8, 1))
    expected = steps_of_saved_model(
        exported, noise.astype("float32"), 4, [3, 1], 2.0
    )
    # As of LiteRT.
    assert np.abs(read_row(tmp_path / "images.png", 2) - expected).max() < 0.52
