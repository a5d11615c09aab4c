"""The web page: its noise, what its server shows, and its use in a browser."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from example_cases import EXAMPLES, exported_files, needs

from keras_unet_diffusion import noise

WEB = EXAMPLES / "web"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
pytestmark = needs("node")


def run_node(script, *arguments, cwd=WEB):
    done = subprocess.run(
        ["node", "--input-type=module", "-e", script, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("size", [64, 27])
@pytest.mark.parametrize("seed", [0, 7, 2**40 + 5])
def test_the_noise_of_a_seed_is_the_librarys(seed, size):
    ours = run_node(
        'import {standardNormal} from "./noise.js";'
        "const [seed, size] = process.argv.slice(1).map(Number);"
        "console.log(JSON.stringify([...standardNormal(seed, size)]));",
        seed,
        size,
    )
    expected = noise.normal_images(seed, 0, 1, (size,))[0]
    # JavaScript computes in float64: what TensorFlow rounds is left, of
    # angles up to 2 pi 5e-7, multiplied by numbers up to 5.8.
    np.testing.assert_allclose(ours, expected, atol=5e-6)


def test_the_server_shows_the_page_and_the_model_and_nothing_else(tmp_path):
    exported = tmp_path / "exported"
    (exported / "litert").mkdir(parents=True)
    (exported / "litert" / "float32.tflite").write_bytes(b"model")
    (tmp_path / "secret").write_text("secret")
    script = """
        import {request} from "node:http";
        import {serve} from "./server.mjs";
        const [folder, ...paths] = process.argv.slice(1);
        const server = await serve(folder, 0);
        const {port} = server.address();
        const ask = (method, path) => new Promise((resolve) =>
          request({port, method, path}, (answer) => {
            answer.resume().on("end", () => resolve(answer.statusCode));
          }).end());
        const found = {};
        for (const path of paths) found[path] = await ask("GET", path);
        found.POST = await ask("POST", "/");
        server.close();
        console.log(JSON.stringify(found));
    """
    shown = ["/", "/page.js?x=1", "/style.css", "/model/litert/float32.tflite"]
    hidden = [
        "/server.mjs",
        "/package.json",
        "/model",
        "/model/../secret",
        "/model/..%2fsecret",
        "/model/%2e%2e/secret",
        "/model/..%5csecret",
        "/model/%00",
        "/model/%",
        "/runtime/../../../package.json",
        "//x/etc/passwd",
    ]
    found = run_node(script, exported, *shown, *hidden)
    assert found.pop("POST") == 405
    assert found == dict.fromkeys(shown, 200) | dict.fromkeys(hidden, 404)


def test_a_folder_without_a_model_is_refused(tmp_path):
    done = subprocess.run(
        ["node", "server.mjs", str(tmp_path), "0"],
        cwd=WEB,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "There is no exported model" in done.stderr


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page with its packages installed, in a folder of its own."""
    if shutil.which("npm") is None or not Path(CHROMIUM).exists():
        pytest.skip("npm or chromium not installed")
    folder = tmp_path_factory.mktemp("web") / "page"
    ignored = shutil.ignore_patterns("node_modules", "build")
    shutil.copytree(WEB, folder, ignore=ignored)
    done = subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"npm's packages cannot be installed: {done.stderr[-200:]}")
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return exported_files(tmp_path_factory.mktemp("web_model"))


@pytest.fixture(scope="module")
def report(page, exported, tmp_path_factory):
    """What a browser found that used the page; see `check_page.mjs`."""
    shots = tmp_path_factory.mktemp("shots")
    done = subprocess.run(
        ["npm", "test", "--silent", "--", str(exported), str(shots)],
        cwd=page,
        capture_output=True,
        text=True,
        env={**os.environ, "CHROMIUM": CHROMIUM},
    )
    assert done.returncode == 0, done.stderr
    assert len(list(shots.glob("*.png"))) == 2
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_finished_image_is_pythons_of_the_same_seed(report, exported):
    import tensorflow as tf

    order = report["order"]
    model = tf.saved_model.load(str(exported / "saved_model"))
    images = model.signatures["generate"](
        num_images=tf.constant(1),
        num_steps=tf.constant(int(order["steps"])),
        seed=tf.constant(int(order["seed"]), tf.int64),
        sampler=tf.constant("ddim"),
        labels=tf.constant([int(order["label"])]),
        guidance_scale=tf.constant(float(order["guidance"])),
    )["images"]
    expected = (np.clip(images[0], -1, 1) + 1) * 127.5
    pixels = np.reshape(report["first"]["pixels"], (*expected.shape[:2], 4))
    assert (pixels[..., 3] == 255).all()
    # Half a level by rounding to whole ones, and 1e-4 of the image for
    # float32 by other programs in each of eight steps.
    assert np.abs(pixels[..., :3] - expected).max() < 0.52
    assert report["isSameAgain"]


@pytest.mark.slow
def test_progress_and_the_result_are_announced(report):
    first = report["first"]
    assert first["progress"] == list(range(9))
    assert first["status"].startswith("Done: class 3, seed 7, 8 steps")
    assert first["label"] == "After step 8 of 8"
    assert first["gallery"].startswith("class 3, seed 7")


@pytest.mark.slow
def test_the_keyboard_starts_and_cancels_and_all_has_names(report):
    cancelled = report["cancelled"]
    assert cancelled["focused"] == "cancel"
    assert cancelled["then"] == "generate"
    assert 2 <= cancelled["step"] < 400
    assert report["unnamed"] == []


@pytest.mark.slow
def test_nothing_is_fetched_elsewhere_and_no_error_shown(report):
    elsewhere = [
        x
        for x in report["addresses"]
        if not x.startswith((report["address"], "data:"))
        and not x.startswith("blob:" + report["address"])
    ]
    assert elsewhere == []
    assert report["problems"] == report["phone"]["problems"] == []


@pytest.mark.slow
def test_the_page_fits_a_phone(report):
    assert report["phone"]["width"] <= 360
