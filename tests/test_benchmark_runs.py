"""Each benchmark runs as a user runs it, with the smallest network."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SMALL = json.dumps(
    {
        "image_size": 16,
        "base_channels": 8,
        "channel_multipliers": [1, 2],
        "num_residual_blocks": 1,
        "num_groups": 4,
    }
)


def run_script(script, *arguments):
    """Runs a benchmark as a user does; returns its JSON."""
    out = Path(arguments[-1].partition("=")[2])
    environment = os.environ | {"PYTHONPATH": str(BENCHMARKS.parent)}
    subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *arguments],
        check=True,
        env=environment,
    )
    return json.loads(out.read_text())


def contestants():
    """Those of the other library that can run here."""
    found = importlib.util.find_spec("diffusers")
    return ["diffusers-eager"] if found else []


def keras_contestants():
    found = importlib.util.find_spec("jax")
    return ["keras-tensorflow", *(["keras-jax"] if found else [])]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_training_benchmark_runs(tmp_path, dtype):
    names = keras_contestants() + contestants()
    results = run_script(
        "training.py",
        f"--overrides={SMALL}",
        f"--contestants={','.join(names)}",
        f"--dtype={dtype}",
        "--batch_size=2",
        "--rounds=2",
        "--steps=2",
        "--steps_per_execution=2",
        "--ceiling_size=64",
        f"--log_dir={tmp_path}",
        f"--out={tmp_path}/out.json",
    )
    assert {x["contestant"]: x["verdict"] for x in results["rows"]} == (
        dict.fromkeys(names, "ok")
    )
    for row in results["rows"]:
        assert len(row["runs"]["training"]) == 2
        assert row["facts"]["first_step_seconds"] > 0
        assert row["peak_process_bytes"] > 2**20


@pytest.mark.slow
def test_the_sampling_benchmark_runs(tmp_path):
    names = ["keras-tensorflow", *contestants()]
    results = run_script(
        "sampling.py",
        f"--overrides={SMALL}",
        f"--contestants={','.join(names)}",
        "--dtype=float32",
        "--cases=dpm_solver_2:3,ddim:2",
        "--batch_size=2",
        "--rounds=2",
        "--batches=1",
        f"--log_dir={tmp_path}",
        f"--out={tmp_path}/out.json",
    )
    assert [x["verdict"] for x in results["rows"]] == 2 * len(names) * ["ok"]


@pytest.mark.slow
def test_the_first_step_benchmark_runs(tmp_path):
    results = run_script(
        "first_step.py",
        f"--overrides={SMALL}",
        "--backends=tensorflow",
        "--sets=no_xla",
        "--flags=own=--xla_cpu_enable_fast_math=false",
        "--batch_size=2",
        "--losses=3",
        "--steps=2",
        f"--log_dir={tmp_path}",
        f"--out={tmp_path}/out.json",
    )
    assert [row["set"] for row in results["rows"]] == ["no_xla", "own"]
    for row in results["rows"]:
        assert row["verdict"] == "ok"
        assert len(row["losses"]) == 4
    assert results["rows"][1]["facts"]["flags"]["XLA_FLAGS"].endswith(
        "--xla_cpu_enable_fast_math=false"
    )
