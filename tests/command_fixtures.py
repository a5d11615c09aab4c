"""What the tests of the commands share: a way to run one, a short run."""

import functools
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import leave_loops_untraced

from keras_unet_diffusion import DiffusionModel, UNet
from keras_unet_diffusion.cli import (
    export,
    sample,
    train,
    train_callbacks,
    train_model,
)
from keras_unet_diffusion.presets import PRESETS
from keras_unet_diffusion.training import LossByTime

ROOT = Path(__file__).parents[1]
COMMANDS = {"train": train, "sample": sample, "export": export}
# The smallest that the preset "tiny" allows.
SMALL = [
    "--image_size=8",
    "--attention_resolutions=4",
    "--base_channels=8",
    "--num_sampling_steps=2",
]
# What a run computes is tested elsewhere; most of its time is to trace a
# U-Net. See `cheap_runs`.
CHEAP = ["--preset=cheap", "--num_sampling_steps=2"]
CHEAP_PRESET = {
    "image_size": 8,
    "image_channels": 1,
    "base_channels": 4,
    "channel_multipliers": (1,),
    "num_residual_blocks": 1,
    "attention_resolutions": (),
    "middle_attention": False,
    "num_groups": 2,
}
FOUR_STEPS = [
    *CHEAP,
    "--train_steps=4",
    "--steps_per_epoch=2",
    "--checkpoint_epochs=1",
    "--sample_epochs=2",
    # Two batches to validate on.
    "--batch_size=150",
    "--validation_split=test",
]
FEW_IMAGES = ["--num_images=3", "--num_steps=2"]


@pytest.fixture
def command(capsys):
    """Runs a command in this process; gives its status, out and err."""

    def run(module, *arguments):
        capsys.readouterr()
        status = module.main(["kud", *map(str, arguments)])
        out, err = capsys.readouterr()
        return SimpleNamespace(status=status, out=out, err=err)

    return run


def _make_runs_cheap(monkeypatch):
    monkeypatch.setitem(PRESETS, "cheap", CHEAP_PRESET)
    few_levels = functools.partial(LossByTime, num_levels=2)
    monkeypatch.setattr(train_callbacks, "LossByTime", few_levels)


@pytest.fixture
def cheap_runs(monkeypatch):
    """Gives `kud-train` a preset of one level, "cheap"."""
    _make_runs_cheap(monkeypatch)


def _run_eagerly(monkeypatch):
    leave_loops_untraced(monkeypatch)
    for module in (train, train_model):
        monkeypatch.setattr(
            module, "execution", lambda values: {"run_eagerly": True}
        )


@pytest.fixture
def untraced(monkeypatch):
    """Runs of a few steps that do not wait for TensorFlow to trace them."""
    _run_eagerly(monkeypatch)


@pytest.fixture
def loaded_once(monkeypatch):
    """Lets all calls of `kud-sample` share a model, and its loops."""
    load = functools.cache(sample.load_diffusion_model)
    monkeypatch.setattr(sample, "load_diffusion_model", load)


@pytest.fixture
def cheap_model():
    """A model of the cheap preset with ten classes and random weights."""
    network = UNet(**CHEAP_PRESET, num_classes=10)
    random = np.random.default_rng(0)
    weights = network.get_weights()
    network.set_weights(
        [w + 0.1 * random.standard_normal(w.shape) for w in weights]
    )
    return DiffusionModel(network, seed=0)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The work directory of a short run; copy it before changing it."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        _make_runs_cheap(monkeypatch)
        _run_eagerly(monkeypatch)
        assert train.main(["kud", f"--workdir={workdir}", *FOUR_STEPS]) == 0
    return workdir


@pytest.fixture
def finished_copy(finished, tmp_path):
    """A copy of the work directory of the short run."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def files_under(folder):
    """Content of every file under a folder by its path."""
    paths = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def assert_one_line(result, *parts):
    """Asserts a user's error: status 1 and one line with the given parts."""
    assert result.status == 1
    (line,) = result.err.splitlines()
    assert line.startswith("Error: ")
    assert line.endswith(".")
    for part in parts:
        assert part in line


@pytest.fixture
def broken_places(tmp_path, finished):
    """Paths that the tables of errors name as {file}, {cut} and so on."""
    places = SimpleNamespace(
        run=finished,
        missing=tmp_path / "missing",
        file=tmp_path / "file",
        full=tmp_path / "full",
        bad=tmp_path / "bad",
        cut=tmp_path / "cut.keras",
        changed=tmp_path / "changed.keras",
        other_zip=tmp_path / "other.keras",
        other_model=tmp_path / "sequential.keras",
    )
    places.file.write_text("not a folder")
    places.full.mkdir()
    (places.full / "notes.txt").write_text("not a run")
    places.bad.mkdir()
    for k in range(3):
        (places.bad / f"bad_{k}.png").write_bytes(b"no image")
    content = bytearray((finished / "model.keras").read_bytes())
    places.cut.write_bytes(content[: len(content) // 2])
    content[len(content) // 2] ^= 255
    places.changed.write_bytes(content)
    with zipfile.ZipFile(places.other_zip, "w") as archive:
        archive.writestr("readme.txt", "not a model")
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(
        places.other_model
    )
    return places
