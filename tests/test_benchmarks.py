"""The benchmarks: fair turns, honest verdicts, and what is missing."""

import json
import math
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
# As when a script there is run.
sys.path.append(str(BENCHMARKS))

import first_step  # noqa: E402
import input_pipeline  # noqa: E402
import sampling  # noqa: E402
import training  # noqa: E402
from contestants.keras_training import LossReader  # noqa: E402
from harness import contest  # noqa: E402
from harness.contest import Failed, Worker, run_contest  # noqa: E402
from harness.report import save  # noqa: E402


class Told:
    """A contestant that notes what it is told, and fails if asked to."""

    def __init__(self, name, told, fails_at=None):
        self.name, self.told, self.fails_at = name, told, fails_at
        self.facts = {}
        told.append(f"{name} starts")

    def ask(self, **request):
        self.told.append(f"{self.name} runs")
        if self.told.count(f"{self.name} runs") == self.fails_at:
            raise Failed("ended: out of memory")
        return request

    def close(self):
        self.told.append(f"{self.name} ends")


def contest_of(told, num_rounds, seconds=60.0, **starts):
    starts = starts or {
        name: lambda name=name: Told(name, told) for name in "ab"
    }
    deadline = time.monotonic() + seconds
    return run_contest(starts, {"x": {"n": 5}}, num_rounds, deadline)


def test_contestants_run_in_turns_and_each_begins_as_often():
    told = []
    rows = contest_of(told, 2)
    turns = ["a runs", "b runs", "b runs", "a runs"]
    assert told == ["a starts", "b starts", *turns, "a ends", "b ends"]
    assert rows["a"]["runs"] == {"x": [{"n": 5}, {"n": 5}]}


def test_who_cannot_start_or_go_on_leaves_the_others_alone():
    told = []

    def missing():
        raise Failed("not installed: diffusers")

    rows = contest_of(
        told,
        3,
        good=lambda: Told("good", told),
        missing=missing,
        failing=lambda: Told("failing", told, fails_at=2),
    )
    assert rows["missing"] == {"error": "not installed: diffusers"}
    assert rows["failing"]["error"] == "ended: out of memory"
    assert len(rows["failing"]["runs"]["x"]) == 1
    assert len(rows["good"]["runs"]["x"]) == 3


def test_no_round_begins_when_the_time_is_over():
    rows = contest_of([], 2, seconds=-1.0)
    assert rows["a"]["runs"] == {"x": []}


def network_in_results(**settings):
    return {
        "network": {"num_parameters": 7},
        "settings": {"dtype": "bfloat16"} | settings,
    }


def verdict_of(runs, first_loss=1.0, num_parameters=7, **settings):
    good = {"loss": 1.0, "skipped_steps": 0, "weights_are_finite": True}
    facts = {"first_loss": first_loss, "num_parameters": num_parameters}
    runs = [good | run for run in runs]
    return training.verdict(
        {"facts": facts}, runs, network_in_results(**settings)
    )


@pytest.mark.parametrize(
    ("runs", "options", "reason"),
    [
        ([{"loss": math.nan}], {}, "loss is not finite"),
        ([{"loss": math.inf}, {}], {}, "loss is not finite"),
        ([{}], {"first_loss": math.nan}, "loss is not finite"),
        ([{"weights_are_finite": False}], {}, "weights are not finite"),
        ([{"skipped_steps": 1}, {}], {}, "1 steps were not finite"),
        ([{"skipped_steps": 1}], {"dtype": "float16"}, "1 steps were not"),
        ([{"loss": 2.0}], {}, "the loss rose from 1.000 to 2.000"),
        ([{}], {"num_parameters": 6}, "not a network of 7 parameters"),
    ],
)
def test_a_row_that_did_not_train_fails(runs, options, reason):
    verdict = verdict_of(runs, **options)
    assert verdict.startswith("FAILED") and reason in verdict


def test_a_row_that_trained_is_ok_also_while_float16_finds_its_scale():
    assert verdict_of([{}, {"loss": 0.9}]) == "ok"
    assert verdict_of([{"skipped_steps": 3}, {}], dtype="float16") == "ok"


def test_a_speed_is_a_share_of_the_ceiling_by_the_operations():
    results = network_in_results()
    results["network"]["training_flops"] = 2e9
    results["ceiling"] = {"teraflops": 10.0}
    run = {
        "loss": 1.0,
        "skipped_steps": 0,
        "weights_are_finite": True,
        "peak_device_bytes": None,
        "peak_process_bytes": 1,
    }
    speeds = {"diffusers-compiled": (400.0,), "ours": (900.0, 1000.0, 1500.0)}
    rows = {
        name: {
            "facts": {"first_loss": 1.0, "num_parameters": 7},
            "runs": {
                "training": [run | {"images_per_second": x} for x in images]
            },
        }
        for name, images in speeds.items()
    }
    _, ours = training.summarize(rows, 32, results)
    # 1000 images/s of 2 GFLOP each are 2 of the 10 TFLOP/s.
    assert ours["share_of_ceiling"] == pytest.approx(0.2)
    assert ours["speed_to_compiled_diffusers"] == pytest.approx(2.5)
    assert ours["images_per_second"]["max"] == 1500.0


@pytest.mark.parametrize(
    ("found", "dtype", "expected"),
    [
        ({"losses": [1.0, 0.9]}, "bfloat16", "ok"),
        ({"losses": [1.0, math.nan]}, "bfloat16", "FAILED: step 1 is not"),
        ({"losses": [1.0, math.nan]}, "float16", "ok"),
        ({"skipped_steps": 2}, "float16", "FAILED: 2 steps were not finite"),
        ({"weights_are_finite": False}, "float32", "FAILED: weights are not"),
    ],
)
def test_a_set_of_flags_fails_at_the_first_step_that_is_not_finite(
    found, dtype, expected
):
    good = {"loss": 1.0, "skipped_steps": 0, "weights_are_finite": True}
    found = {"losses": found.pop("losses", [1.0]), "speed": good | found}
    assert first_step.verdict(found, dtype).startswith(expected)


def test_losses_of_steps_come_back_from_the_means_of_the_epoch():
    reader = LossReader(num_skipped=4)
    # Losses 3, 1, one that was skipped, and 5; means leave the third out.
    logs = [(3.0, 4), (2.0, 4), (2.0, 5), (3.0, 5)]
    for batch, (mean, skipped) in enumerate(logs):
        reader(batch, {"loss": mean, "skipped_steps": skipped})
    np.testing.assert_allclose(reader.losses, [3.0, 1.0, np.nan, 5.0])


def test_results_are_strict_json_also_where_a_loss_is_no_number(tmp_path):
    save({"rows": [{"loss": math.nan}]}, tmp_path / "out.json")

    def refuse(constant):
        raise AssertionError(constant)

    text = (tmp_path / "out.json").read_text()
    results = json.loads(text, parse_constant=refuse)
    assert results == {"rows": [{"loss": "nan"}]}


@pytest.fixture
def hidden(tmp_path, monkeypatch):
    """A folder of modules that are as if they were not installed."""

    def hide(name):
        path = tmp_path / f"{name}.py"
        path.write_text(f"raise ModuleNotFoundError(name={name!r})")
        paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))

    return hide


def test_a_library_that_is_missing_is_named(hidden, tmp_path):
    hidden("diffusers")
    with pytest.raises(Failed, match="not installed: diffusers"):
        Worker("d", "diffusers_training", {}, log_dir=tmp_path)


def test_a_contestant_that_breaks_says_why(hidden, tmp_path):
    hidden("torch")  # The ceiling looks for it, and then finds it broken.
    (tmp_path / "torch.py").write_text("raise RuntimeError('no card')")
    settings = {"size": 8, "dtype": "float32", "repeats": 1}
    with pytest.raises(Failed, match="RuntimeError: no card .see .*d.log"):
        Worker("d", "matrix_ceiling", settings, log_dir=tmp_path)


def test_a_contestant_that_takes_too_long_is_ended(hidden, tmp_path):
    hidden("torch")
    (tmp_path / "torch.py").write_text("import time; time.sleep(600)")
    settings = {"size": 8, "dtype": "float32", "repeats": 1}
    deadline = time.monotonic() + 1.0
    with pytest.raises(Failed, match="the time was over"):
        Worker("d", "matrix_ceiling", settings, {}, tmp_path, deadline)


def test_a_variable_is_added_to_what_the_machine_needs(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--machine")
    environment = contest._environment({"XLA_FLAGS": "+--own", "NEW": "1"})
    assert environment["XLA_FLAGS"] == "--machine --own"
    assert environment["NEW"] == "1"


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        (training, ["--contestants=made-up"]),
        (training, ["--steps=5", "--steps_per_execution=2"]),
        (sampling, ["--cases=made_up:20"]),
        (first_step, ["--sets=made_up"]),
        (first_step, ["--backends=made_up"]),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_runs(
    script, arguments, capsys
):
    with pytest.raises(SystemExit):
        script.main(arguments)
    assert "Received" in capsys.readouterr().err


def test_the_input_pipeline_is_measured(tmp_path, capsys):
    results = input_pipeline.main(
        [
            "--num_images=40",
            "--written_size=8",
            "--image_size=8",
            "--batch_size=4",
            "--batches=3",
            "--rounds=2",
            "--step_ms=1",
            f"--out={tmp_path}/out.json",
        ]
    )
    rows = [(row["source"], row["decode"]) for row in results["rows"]]
    assert rows == [
        ("folder", "once"),
        ("folder", "each_epoch"),
        ("npz", "once"),
        ("synthetic", "once"),
    ]
    for row in results["rows"]:
        assert row["images_per_second"]["min"] > 0
        # Paced to 4 images a millisecond at most.
        assert 0 < row["share_of_training"] <= 1
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(rows)
    saved = json.loads((tmp_path / "out.json").read_text())
    assert saved["rows"] == results["rows"]
