"""`kud-explain`: pages of checkpoints and presets, and what it refuses."""

import json
import re
import shutil

import numpy as np
import pytest
from command_fixtures import CHEAP_PRESET, assert_one_line
from conftest import one_block_network, randomize
from PIL import Image
from sklearn.datasets import load_digits

from keras_unet_diffusion import DiffusionModel, UNet
from keras_unet_diffusion.cli import explain, train_flags
from keras_unet_diffusion.cli.command import parse_flags
from keras_unet_diffusion.cli.explain import _process
from keras_unet_diffusion.cli.train_flag_file import write_flags
from keras_unet_diffusion.diffusion import (
    EDMPrediction,
    LinearSchedule,
    NoisePrediction,
)
from keras_unet_diffusion.presets import PRESETS
from keras_unet_diffusion.training import save_model

QUICK = ["--num_levels=1", "--num_steps=1", "--heat_maps=none"]
QUICKEST = [*QUICK, "--measured=none"]


def data_of(path):
    """What the page shows."""
    (text,) = re.findall(
        '<script type="application/json" id="data">(.*)</script>',
        path.read_text(),
    )
    return json.loads(text)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A work directory of a model of ten classes, trained on digits."""
    workdir = tmp_path_factory.mktemp("explain") / "my_run"
    workdir.mkdir()
    network = randomize(UNet(**CHEAP_PRESET, num_classes=10))
    model = DiffusionModel(network, seed=0)
    model.updates.steps_taken.assign(3)
    save_model(model, workdir / "model.keras")
    flags = ["", "--source=digits", "--split=test"]
    write_flags(workdir, parse_flags(train_flags.define_flags, flags))
    return workdir


@pytest.fixture
def cheap_presets(monkeypatch):
    """Presets of one level: "cheap" is grey, "colours" is not."""
    monkeypatch.setitem(PRESETS, "cheap", CHEAP_PRESET)
    colours = CHEAP_PRESET | {"image_channels": 3}
    monkeypatch.setitem(PRESETS, "colours", colours)
    any_size = CHEAP_PRESET | {"image_size": None}
    monkeypatch.setitem(PRESETS, "any_size", any_size)


def test_a_run_is_explained_on_an_image_that_it_was_trained_on(
    command, run, tmp_path
):
    out = tmp_path / "page.html"
    result = command(
        explain,
        f"--checkpoint={run}",
        f"--out={out}",
        "--image_number=7",
        *QUICK,
    )
    assert result.status == 0, result.err
    assert str(out) in result.out
    about = data_of(out)["about"]
    # The last 297 digits are the test split.
    label = int(load_digits().target[1500 + 7])
    assert about["label"] == label
    assert about["image"] == f"image 7 of digits, class {label}"
    assert about["is_trained"]
    assert about["told"] == f"class {label}"
    assert about["title"] == "my_run, explained"
    assert about["weights"] == f"Averaged weights of {run}: 3 steps on digits."


def test_one_may_choose_image_and_label(command, run, tmp_path):
    picture = tmp_path / "white.png"
    Image.fromarray(np.full((20, 30), 255, "uint8")).save(picture)
    arguments = [f"--checkpoint={run / 'model.keras'}", f"--image={picture}"]
    out = tmp_path / "page.html"
    result = command(explain, *arguments, f"--out={out}", *QUICKEST)
    assert_one_line(result, "Received: an image without a label", "--label")
    assert not out.exists()
    result = command(
        explain, *arguments, f"--out={out}", "--label=4", *QUICKEST
    )
    assert result.status == 0, result.err
    about = data_of(out)["about"]
    assert (about["label"], about["image"]) == (4, "white.png")
    # Of a file alone, nobody knows on what.
    assert about["weights"].endswith("model.keras: 3 steps.")
    assert "No --image" not in result.out


def test_classes_are_called_by_the_names_of_the_images_trained_on(
    command, run, tmp_path
):
    for name in ("cat", "ship"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        picture = Image.fromarray(np.zeros((8, 8), "uint8"))
        picture.save(tmp_path / "photos" / name / "1.png")
    run = shutil.copytree(run, tmp_path / "run")
    flags = ["", f"--source=folder:{tmp_path / 'photos'}"]
    write_flags(run, parse_flags(train_flags.define_flags, flags))
    arguments = [f"--checkpoint={run}", f"--out={tmp_path / 'page.html'}"]
    chosen = ["--image_number=0", "--label=1"]
    result = command(explain, *arguments, *chosen, *QUICKEST)
    assert result.status == 0, result.err
    about = data_of(tmp_path / "page.html")["about"]
    assert about["image"].endswith("photos, class cat")
    assert about["told"] == "class ship"


def test_a_preset_is_explained_and_said_to_be_untrained(
    command, cheap_presets, tmp_path
):
    out = tmp_path / "page.html"
    result = command(explain, "--preset=cheap", f"--out={out}", *QUICKEST)
    assert result.status == 0, result.err
    about = data_of(out)["about"]
    assert not about["is_trained"]
    assert about["image"].startswith("image 0 of digits")
    assert "--image=photos/cat/1.jpg." in result.out


@pytest.mark.slow
def test_the_same_command_writes_the_same_page(
    command, cheap_presets, tmp_path
):
    pages = [tmp_path / name for name in ("one.html", "two.html")]
    for out in pages:
        arguments = ["--preset=cheap", f"--out={out}", "--seed=5", *QUICK]
        assert command(explain, *arguments).status == 0
    # Weights and noise come of the seed.
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_a_network_of_colours_gets_a_photograph(
    command, cheap_presets, tmp_path
):
    out = tmp_path / "page.html"
    result = command(explain, "--preset=colours", f"--out={out}", *QUICKEST)
    assert result.status == 0, result.err
    about = data_of(out)["about"]
    assert about["image"] == "a photograph of a flower, as no --image was given"
    assert "following a photograph of a flower. Pass one of" in result.out
    assert about["channels"] == 3


def test_a_preset_is_explained_as_it_was_trained():
    ddpm = _process("ddpm_cifar10")
    assert (ddpm.schedule, ddpm.prediction) == (
        LinearSchedule(),
        NoisePrediction(),
    )
    assert _process("edm2_xs").prediction == EDMPrediction()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["Received: no --out"]),
        (["--out={tmp}/page.html"], ["One network", "Pass one of them"]),
        (
            ["--out={tmp}/page.html", "--preset=cheap", "--checkpoint=runs"],
            ["One network", "--checkpoint=runs and --preset=cheap"],
        ),
        (["--out={tmp}/page.txt", "--preset=cheap"], ["page.txt", ".html"]),
        (
            ["--out={tmp}/page.html", "--preset=none_such"],
            ["preset='none_such'", "Choose one of"],
        ),
        (
            ["--out={tmp}/page.html", "--checkpoint={tmp}/none"],
            ["{tmp}/none"],
        ),
        (
            ["--out={tmp}/page.html", "--preset=any_size"],
            ["image_size=None", "Pass"],
        ),
        (
            ["--out={tmp}/page.html", "--preset=cheap", "--num_steps=0"],
            ["--num_steps=0"],
        ),
        (
            ["--out={tmp}/page.html", "--preset=cheap", "--noise_level=-1"],
            ["--noise_level=-1"],
        ),
        (
            ["--out={tmp}/page.html", "--preset=cheap", "--label=1"],
            ["takes no labels", "--label=1"],
        ),
        (
            ["--out={tmp}/page.html", "--preset=cheap", "--image_number=1500"],
            ["images 0 to 1499", "--image_number=1500"],
        ),
        (
            [
                "--out={tmp}/page.html",
                "--preset=cheap",
                "--image={tmp}/no.png",
                "--source=digits",
            ],
            ["One image", "Leave one out"],
        ),
        (
            [
                "--out={tmp}/page.html",
                "--preset=cheap",
                "--image={tmp}/no.png",
            ],
            ["--image={tmp}/no.png, which does not exist"],
        ),
        (
            ["--out={tmp}/page.html", "--preset=cheap", "--image={tmp}"],
            ["--image={tmp}, which is a folder"],
        ),
        (
            ["--out={tmp}/page.html", "--preset=cheap", "--noise_level=1e9"],
            ["from 0.05 to 20", "noise_level=1000000000.0"],
        ),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    command, cheap_presets, tmp_path, arguments, parts
):
    arguments = [text.format(tmp=tmp_path) for text in arguments]
    result = command(explain, *arguments)
    assert_one_line(result, *(part.format(tmp=tmp_path) for part in parts))
    assert not (tmp_path / "page.html").exists()


def test_a_run_whose_images_are_gone_says_what_to_pass(command, run, tmp_path):
    run = shutil.copytree(run, tmp_path / "run")
    flags = ["", f"--source=folder:{tmp_path / 'gone'}"]
    write_flags(run, parse_flags(train_flags.define_flags, flags))
    result = command(
        explain, f"--checkpoint={run}", f"--out={tmp_path / 'page.html'}"
    )
    assert_one_line(result, "trained on cannot be opened", "gone", "--image or")


def test_a_network_of_someone_elses_is_refused(command, tmp_path):
    path = tmp_path / "other.keras"
    save_model(DiffusionModel(one_block_network()), path)
    result = command(
        explain, f"--checkpoint={path}", f"--out={tmp_path / 'page.html'}"
    )
    assert_one_line(result, "networks of this library", "Received", "UNet")


def test_a_label_that_the_network_does_not_know_is_refused(
    command, run, tmp_path
):
    result = command(
        explain,
        f"--checkpoint={run}",
        f"--out={tmp_path / 'page.html'}",
        "--label=10",
    )
    assert_one_line(result, "labels 0 to 9", "label=10")
