"""Contests between libraries: fair turns, and who cannot take part."""

import json
import math
import os
import sys
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
# As when a script there is run.
sys.path.append(str(BENCHMARKS))

import training  # noqa: E402
from harness import contest  # noqa: E402
from harness.contest import Failed, Worker, run_contest  # noqa: E402
from harness.libraries import make_starts  # noqa: E402
from harness.report import save  # noqa: E402
from harness.run import Run  # noqa: E402


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


def test_after_each_turn_it_is_said_what_was_found(capsys):
    starts = {"a": lambda: Told("a", [])}
    deadline = time.monotonic() + 60.0
    run_contest(
        starts,
        {"x": {"n": 5}},
        1,
        deadline,
        describe=lambda answer: f"{answer['n']} ms a step",
    )
    assert capsys.readouterr().err.endswith("a, x: 5 ms a step\n")


def started(arguments, ours):
    """What `training.py` would start, by name: module, settings, variables."""
    values = training.parse(arguments)
    run = Run("training", values)
    run.results["network"] = {"diffusers_config": {}, "image_shape": [8, 8, 3]}
    run.start = lambda name, *told: told
    starts = make_starts(run, "training", {"batch_size": 4}, ours)
    return {name: start() for name, start in starts.items()}


def test_both_libraries_are_told_the_same_and_each_what_is_its_own(tmp_path):
    told = started(
        ["--dtype=float32", "--xla_flags=--own", f"--log_dir={tmp_path}"],
        ours={"devices": 2, "overrides": {"rematerialize": True}},
    )
    for _, settings, _ in told.values():
        assert settings["batch_size"] == 4
        assert settings["dtype"] == "float32"
    module, settings, environment = told["keras-jax"]
    assert module == "keras_training"
    assert environment == {"KERAS_BACKEND": "jax", "XLA_FLAGS": "+--own"}
    assert settings["devices"] == 2
    assert settings["overrides"] == {"rematerialize": True}
    module, settings, environment = told["diffusers-compiled"]
    assert module == "diffusers_training"
    assert settings["compiled"] and "devices" not in settings
    # Each compiler's cache is empty at first, so no two have the same.
    caches = {
        environment["TORCHINDUCTOR_CACHE_DIR"]
        for name, (_, _, environment) in told.items()
        if name.startswith("diffusers")
    }
    assert len(caches) == 2


def test_results_are_saved_after_every_round(tmp_path):
    values = training.parse(
        ["--rounds=2", f"--out={tmp_path}/out.json", f"--log_dir={tmp_path}"]
    )
    run = Run("training", values)
    saved = []

    class Reader(Told):
        def ask(self, **request):
            if (tmp_path / "out.json").exists():
                text = (tmp_path / "out.json").read_text()
                saved.append(json.loads(text)["rows"])
            return super().ask(**request)

    run.add_rows([{"earlier": 1}])
    run.contest(
        {"a": lambda: Reader("a", [])},
        {"x": {}},
        lambda found: [{"turns": len(found["a"]["runs"]["x"])}],
        describe=None,
    )
    assert saved == [[{"earlier": 1}], [{"earlier": 1}, {"turns": 1}]]
    assert run.results["rows"] == [{"earlier": 1}, {"turns": 2}]


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
