"""Every recipe runs: its flags, two steps, a small substitute for its cost."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from keras_unet_diffusion.cli import train
from keras_unet_diffusion.cli.command import parse_flags
from keras_unet_diffusion.cli.train_checks import check_flags
from keras_unet_diffusion.cli.train_flags import define_flags
from keras_unet_diffusion.presets import PRESETS
from keras_unet_diffusion.training import HalfLifeAverage, load_model

RECIPES = sorted(
    (Path(__file__).parents[1] / "train" / "recipes").glob("*.flags")
)
# What makes a recipe cheap without making it another: steps and width, and
# two levels of one block, see below.
CHEAPER = {
    "cifar10_ddpm": [
        "--batch_size=8",
        "--train_steps=2",
        "--base_channels=32",
        "--num_sampling_steps=1",
        "--sample_epochs=2",
        "--checkpoint_epochs=1",
    ],
    "cifar10_half_hour": [
        "--batch_size=8",
        "--train_steps=2",
        "--warmup_steps=1",
        "--base_channels=32",
        "--num_sampling_steps=1",
        "--sample_epochs=2",
        "--checkpoint_epochs=1",
    ],
}


def _recipe(path):
    return parse_flags(define_flags, ["", f"--flagfile={path}"])


def _write_cifar10(data_dir):
    """Writes a set of the name and form of CIFAR-10, of 20 random images."""
    random = np.random.default_rng(0)
    names = ["airplane", "automobile", "bird", "cat", "deer"]
    names += ["dog", "frog", "horse", "ship", "truck"]

    def examples(split, num_images):
        for i in range(num_images):
            pixels = random.integers(0, 256, (32, 32, 3), "uint8")
            yield (
                f"{split}{i}",
                {"id": f"{split}{i}", "image": pixels, "label": i % 10},
            )

    tfds.dataset_builders.store_as_tfds_dataset(
        name="cifar10",
        version="3.0.2",
        features=tfds.features.FeaturesDict(
            {
                "id": tfds.features.Text(),
                "image": tfds.features.Image(shape=(32, 32, 3)),
                "label": tfds.features.ClassLabel(names=names),
            }
        ),
        data_dir=str(data_dir),
        split_datasets={
            "train": examples("train", 16),
            "test": examples("test", 4),
        },
        disable_shuffling=True,
    )


def test_every_recipe_has_a_cheaper_substitute():
    assert {path.stem for path in RECIPES} == set(CHEAPER)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_parses_and_its_numbers_fit_together(path):
    values = _recipe(path)
    lines = path.read_text().splitlines()
    given = sum(line.startswith("--") for line in lines)
    # No flag twice: the later one would win without a word.
    assert sum(values[name].present for name in values) == given
    check_flags(values)
    # Another recipe's work directory would be refused, or go on with it.
    assert values.workdir == f"runs/{path.stem}"


# All recipes are parsed and checked above; each of these takes half a minute.
@pytest.mark.slow
@pytest.mark.usefixtures("cheap_runs", "untraced")
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_trains_two_steps_as_it_says(
    path, monkeypatch, tmp_path, capsys
):
    values = _recipe(path)
    shallow = PRESETS[values.preset] | {
        "channel_multipliers": (1, 2),
        "num_residual_blocks": 1,
    }
    monkeypatch.setitem(PRESETS, values.preset, shallow)
    _write_cifar10(tmp_path / "data")
    workdir = tmp_path / "run"
    # One epoch: the samples are those of the end.
    status = train.main(
        [
            "kud-train",
            f"--flagfile={path}",
            f"--workdir={workdir}",
            f"--data_dir={tmp_path / 'data'}",
            *CHEAPER[path.stem],
        ]
    )
    assert status == 0, capsys.readouterr().err
    model = load_model(workdir)
    assert model.optimizer.iterations == 2
    assert model.network.dtype_policy.name == values.dtype_policy
    # Unless told otherwise, those of the set.
    num_classes = 10 if values.num_classes is None else values.num_classes
    assert model.network.num_classes == (num_classes or None)
    (average,) = model.averages
    if values.half_life_images is None:
        assert average.decay == values.ema_decay
    else:
        assert average == HalfLifeAverage(values.half_life_images)
    assert model.clip_norm == values.clip_norm
    for part, flag in (
        (model.process.schedule, values.schedule),
        (model.process.prediction, values.prediction),
        (model.process.weighting, values.weighting),
    ):
        # "linear" names LinearSchedule, "min_snr" MinSNRWeighting.
        assert flag.replace("_", "") in type(part).__name__.lower()
    assert (workdir / "samples.png").stat().st_size > 0
