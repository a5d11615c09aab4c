"""The command that trains: from its flags to a model, without a run."""

import keras
import pytest
from command_fixtures import CHEAP, assert_one_line

from keras_unet_diffusion.cli import train
from keras_unet_diffusion.cli.command import parse_flags
from keras_unet_diffusion.cli.train_checks import check_flags
from keras_unet_diffusion.cli.train_flags import define_flags
from keras_unet_diffusion.cli.train_model import (
    _optimizer,
    build_model,
    build_network,
)
from keras_unet_diffusion.data import open_source
from keras_unet_diffusion.training import (
    FusedAdam,
    HalfLifeAverage,
    PowerFunctionAverage,
)

pytestmark = pytest.mark.usefixtures("cheap_runs")


def _values(*flags):
    """Parsed flags of the command that trains, checked."""
    values = parse_flags(define_flags, ["kud", *CHEAP, *flags])
    check_flags(values)
    return values


def _model(*flags):
    """The model that the command would train."""
    values = _values(*flags)
    source = open_source("digits", "train", None)
    return build_model(values, build_network(values, source))


def test_averages_accumulation_and_optimizer_are_those_of_the_flags():
    model = _model(
        "--optimizer=lion",
        "--weight_decay=0.01",
        "--accumulation_steps=2",
        "--half_life_images=500",
        "--power_averages=0.05,0.1",
    )
    assert type(model.optimizer) is keras.optimizers.Lion
    assert model.optimizer.weight_decay == 0.01
    assert model.accumulation_steps == 2
    assert model.averages == (
        HalfLifeAverage(500),
        PowerFunctionAverage(0.05),
        PowerFunctionAverage(0.1),
    )
    # The first is the one in use.
    assert len(model.averaged_networks) == 3
    assert model.ema_network is model.averaged_networks[0]


@pytest.mark.parametrize("flags", [[], ["--optimizer=AdamW"]])
def test_adam_is_one_that_updates_all_weights_at_once(flags):
    optimizer = _optimizer(_values(*flags, "--weight_decay=0.02"))
    assert type(optimizer) is FusedAdam
    assert optimizer.weight_decay == 0.02
    assert _optimizer(_values(*flags)).weight_decay is None


@pytest.mark.parametrize(
    "flags, update, share",
    [
        (["--learning_rate_schedule=constant"], 900, 1),
        # Halfway from the warm-up to the last of 300 updates, and that.
        (["--learning_rate_schedule=cosine"], 200, 1 / 2),
        (["--learning_rate_schedule=cosine"], 300, 0),
        # The root of 160 / 640.
        (
            ["--learning_rate_schedule=inverse_root", "--decay_steps=160"],
            640,
            1 / 2,
        ),
    ],
)
def test_the_learning_rate_is_that_of_its_schedule(flags, update, share):
    values = _values(
        *flags,
        "--learning_rate=0.01",
        "--train_steps=600",
        "--accumulation_steps=2",
        "--warmup_steps=100",
    )
    optimizer = _optimizer(values)
    optimizer.build([])
    optimizer.iterations.assign(update)
    # Rounding in float32.
    assert float(optimizer.learning_rate) == pytest.approx(
        0.01 * share, rel=1e-5, abs=1e-8
    )


def test_a_preset_is_trained_without_what_the_loss_or_the_data_lacks():
    flags = [
        "--preset=edm_imagenet64_adm",
        "--num_classes=0",
        "--base_channels=32",
        "--image_size=8",
        "--attention_resolutions=1",
    ]
    values = parse_flags(define_flags, ["kud", *flags])
    source = open_source("digits", "train", None)
    network = build_network(values, source)
    # Learned variances, and a null label where there are no labels.
    assert network.null_label is None
    assert network.output_shape == (None, 8, 8, 1)


# Flags of training after the short ones, and what the one line must hold.
ERRORS = {
    "no accumulation": ("--accumulation_steps=0", "--accumulation_steps=0"),
    "gradients without an update": (
        "--train_steps=4 --accumulation_steps=8",
        "--train_steps=4",
        "--accumulation_steps=8",
    ),
    "no devices": ("--num_devices=0", "--num_devices=0"),
    "uneven devices": (
        "--batch_size=10 --num_devices=4",
        "--batch_size=10",
        "--num_devices=4",
    ),
    "too many devices": (
        "--batch_size=1000 --num_devices=1000",
        "num_devices=1000",
    ),
    "unknown optimizer": ("--optimizer=best", "--optimizer=best", "lion"),
    "growing weights": ("--weight_decay=-1", "--weight_decay=-1"),
    "decay is no number": ("--weight_decay=nan", "--weight_decay=nan"),
    "unknown learning rates": (
        "--learning_rate_schedule=linear",
        "=linear",
        "<constant|cosine|inverse_root>",
    ),
    "falling without a schedule": ("--decay_steps=9", "--decay_steps=9"),
    "falling at an unknown time": (
        "--learning_rate_schedule=inverse_root",
        "--decay_steps=None",
    ),
    "falling before the start": (
        "--learning_rate_schedule=inverse_root --decay_steps=-1",
        "decay_steps=-1",
    ),
    "warm-up to the end": (
        "--learning_rate_schedule=cosine --train_steps=50",
        "total_steps=50",
        "warmup_steps=100",
    ),
    "two averages in use": (
        "--ema_decay=0.9 --half_life_images=100",
        "--ema_decay=0.9",
        "--half_life_images=100",
    ),
    "half-life": ("--half_life_images=0", "half_life_images=0"),
    "averages in words": ("--power_averages=a", "--power_averages=a"),
    "too long an average": ("--power_averages=0.5", "=0.5", "0.2886"),
    "no checkpoint kept": ("--keep_checkpoints=0", "--keep_checkpoints=0"),
    "no step skipped": ("--max_skipped_steps=0", "--max_skipped_steps=0"),
    "half a profile": ("--profile_batches=5", "--profile_batches=5", "50,60"),
    "profile backwards": ("--profile_batches=6,5", "--profile_batches=6,5"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_train_says_in_one_line_what_is_wrong_with_its_training(
    case, command, tmp_path
):
    arguments, *parts = ERRORS[case]
    workdir = tmp_path / "run"
    result = command(train, f"--workdir={workdir}", *CHEAP, *arguments.split())
    assert_one_line(result, *parts)
    # So the corrected command finds it free.
    assert not workdir.exists()
