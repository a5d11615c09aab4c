"""Tables, numbers and budgets of the studies' command."""

import re

import numpy as np
import pytest

from keras_unet_diffusion.cli.command import parse_flags
from keras_unet_diffusion.cli.study import define_flags, main, make_budget
from keras_unet_diffusion.studies.budget import CIFAR10, DIGITS
from keras_unet_diffusion.studies.report import (
    Result,
    cell_text,
    load_result,
)


@pytest.mark.parametrize(
    "cell, text",
    [
        ("none", "none"),
        (151234, "151,234"),
        (0.123456, "0.123"),
        (0.0, "0"),
        (2.0, "2.00"),
        (1234.5, "1,230"),
        # Deviation of 1, 2, 3 with n - 1: exactly 1.
        ([1.0, 2.0, 3.0], "2.00 ± 1.0"),
        (np.array([0.5, 0.5]), "0.500 ± 0"),
        ([0.25], "0.250"),
    ],
)
def test_a_cell_has_three_digits_and_its_spread(cell, text):
    assert cell_text(cell) == text


def make_result():
    return Result(
        "skips",
        ("network", "loss"),
        [["none", np.array([0.25, 0.75])], ["added", 0.5]],
        {"losses": {"none": np.ones((2, 3)) / 3}},
        {"seconds": 12},
    )


def test_the_table_is_markdown():
    assert make_result().table().splitlines() == [
        "| network | loss |",
        "|---|---|",
        "| none | 0.500 ± 0.35 |",
        "| added | 0.500 |",
    ]


def test_a_result_is_read_as_it_was_written(tmp_path):
    result = make_result()
    loaded = load_result(result.save(tmp_path))
    assert loaded.table() == result.table()
    assert loaded.setting == result.setting
    # Six digits are kept.
    np.testing.assert_allclose(
        loaded.series["losses"]["none"], np.ones((2, 3)) / 3, rtol=1e-5
    )


def test_a_row_without_a_cell_is_refused():
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        Result("skips", ("network", "loss"), [["none"]], {})


def budget_of(*flags):
    return make_budget(parse_flags(define_flags, ["kud-study", *flags]))


def test_flags_change_the_named_budget():
    assert budget_of() == DIGITS
    assert budget_of("--budget=cifar10") == CIFAR10
    changed = budget_of(
        "--source=folder:photos", "--seeds=3,4", "--train_steps=60"
    )
    assert changed.source == "folder:photos"
    assert changed.seeds == (3, 4) and changed.train_steps == 60
    assert changed.batch_size == DIGITS.batch_size


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--study=skips"], "no --out"),
        (["--study=skips", "--out=D", "--seeds=a"], "Received: --seeds=a"),
        (["--study=nothing", "--out=D"], "value should be one of"),
    ],
)
def test_a_wrong_flag_is_an_error_of_one_line(
    flags, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(["kud-study", *flags]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.slow
def test_the_command_trains_measures_and_draws(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    status = main(
        [
            "kud-study",
            "--study=plain_cnn",
            f"--out={tmp_path}",
            "--seeds=0,1",
            "--train_steps=60",
            "--base_channels=8",
            "--validation_images=32",
        ]
    )
    assert status == 0
    result = load_result(tmp_path / "plain_cnn.json")
    assert result.table() in capsys.readouterr().out
    losses = np.array([result.series["losses"][row[0]] for row in result.rows])
    assert losses.shape == (2, 2, 8)
    # Untrained they predict 0 and have 1.
    assert losses.mean() < 0.5
    assert re.match(b"\x89PNG", (tmp_path / "plain_cnn.png").read_bytes())
