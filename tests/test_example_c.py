"""The C program: how it is built, what it refuses, what it generates."""

import importlib.util
import shutil
import subprocess
import sys

import numpy as np
import pytest
from example_cases import EXAMPLES, exported_files, needs
from PIL import Image

pytestmark = [
    needs("cc", "make"),
    pytest.mark.skipif(
        sys.platform != "linux" or not importlib.util.find_spec("tensorflow"),
        reason="TensorFlow's C library for Linux not installed",
    ),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The program, built in a copy of its folder."""
    folder = tmp_path_factory.mktemp("c")
    for path in (EXAMPLES / "c").iterdir():
        if path.suffix in (".c", ".h") or path.name == "Makefile":
            shutil.copy(path, folder)
    built = subprocess.run(
        ["make", f"PYTHON={sys.executable}"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    return folder / "generate"


def run(program, *arguments):
    return subprocess.run(
        [str(program), *map(str, arguments)],
        cwd=program.parent,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "which model?"),
        (["model", "other"], "unknown argument. Received: other"),
        (["model", "--labels=1,", "--seed=1"], "--labels takes up to 256"),
        (["model", "--labels=1", "--count=2"], "--labels and --count"),
        (["model", "--seed=-1"], "--seed takes a whole number from 0"),
        (["model", "--steps=2x"], "--steps takes a whole number from 1"),
        (["model", "--guidance=nan"], "--guidance takes a number from 0"),
        (["model", "--guidance=1e39"], "--guidance takes a number from 0"),
    ],
)
def test_bad_arguments_are_refused_by_name(program, arguments, message):
    done = run(program, *arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_folder_without_a_model_is_refused(program, tmp_path):
    done = run(program, tmp_path, "--labels=1")
    assert done.returncode == 1
    assert "loading the model failed" in done.stderr


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return exported_files(tmp_path_factory.mktemp("c_model"))


@pytest.mark.slow
def test_its_picture_is_the_one_that_tensorflow_makes(program, exported):
    import tensorflow as tf

    out = program.parent / "images.pgm"
    done = run(
        program,
        exported / "saved_model",
        "--seed=5",
        "--steps=4",
        "--labels=3,1",
        "--guidance=2",
        f"--out={out}",
    )
    assert done.returncode == 0, done.stderr
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
    with Image.open(out) as picture:
        ours = np.stack(np.split(np.asarray(picture), 2, axis=1))
    # Half a level by rounding to whole ones, and 1e-5 of float32 noise.
    assert np.abs(ours - expected).max() < 0.51


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--count=1"], "the model was trained with classes. Pass --labels"),
        (["--labels=11"], "labels must be numbers from 0 to"),
        (["--labels=1", "--steps=1001"], "num_steps"),
        (["--labels=1", "--sampler=best"], "sampler must be one of ddim"),
        (["--labels=1", "--out=none/x.ppm"], "cannot write none/x.ppm"),
    ],
)
def test_what_the_model_refuses_is_told(program, exported, arguments, message):
    done = run(program, exported / "saved_model", "--steps=1", *arguments)
    assert done.returncode == 1
    assert message in done.stderr
