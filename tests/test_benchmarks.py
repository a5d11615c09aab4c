"""The benchmarks: honest verdicts, and flags that mean something."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
# As when a script there is run.
sys.path.append(str(BENCHMARKS))

import cpu_step  # noqa: E402
import first_step  # noqa: E402
import input_pipeline  # noqa: E402
import sampling  # noqa: E402
import step_profile  # noqa: E402
import training  # noqa: E402
from contestants.keras_training import LossReader  # noqa: E402


def test_a_step_on_a_processor_is_compared_round_by_round():
    def rounds(*steps):
        return {
            "facts": {"first_step_seconds": 3.0},
            "runs": {
                "steps": [
                    {
                        "wall_milliseconds": milliseconds,
                        "processor_milliseconds": milliseconds,
                        "loss": 1.0,
                        "peak_process_bytes": 2**30,
                    }
                    for milliseconds in steps
                ]
            },
        }

    rows = {
        "keras-float32": rounds([10.0, 10.0, 70.0], [20.0]),
        "diffusers-float32": rounds([15.0], [10.0]),
        "keras-bfloat16": {"error": "ended: no such instructions"},
    }
    ours, theirs, failed = cpu_step.summarize(rows)
    assert ours["speedups"] == [1.5, 0.5]
    assert ours["wall_milliseconds"] == {"median": 15.0, "min": 10, "max": 70}
    assert "speedups" not in theirs and failed["speedups"] == []
    cells = [cpu_step.table_row(row) for row in (ours, theirs, failed)]
    assert {len(row) for row in cells} == {len(cpu_step.COLUMNS)}


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


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        (training, ["--contestants=made-up"]),
        (training, ["--steps=5", "--steps_per_execution=2"]),
        (first_step, ["--steps=5", "--steps_per_execution=2"]),
        (sampling, ["--contestants=made-up"]),
        (sampling, ["--cases=made_up:20"]),
        (first_step, ["--sets=made_up"]),
        (first_step, ["--backends=made_up"]),
        (cpu_step, ["--cores=0"]),
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


def test_kernels_are_summed_by_what_they_compute():
    def kernel(name, milliseconds, operation=""):
        seconds = milliseconds / 1000
        return {"name": name, "operation": operation, "seconds": seconds}

    rows = step_profile.by_kind(
        [
            kernel("sm90_xmma_fprop_implicit_gemm_bf16", 8, "cudnn-conv.1"),
            kernel("nvjet_sm90_128x128", 4, "command_buffer_7"),
            # What it ends in counts, not that it converts numbers.
            kernel("input_convert_reduce_fusion_3", 2),
            kernel("loop_convert_fusion", 1),
            kernel("MemcpyD2D", 0.5),
        ],
        step_seconds=0.02,
    )
    cells = [step_profile.table_row(row) for row in rows]
    assert cells == [
        ("convolution", "8.00", "40.0%"),
        ("matrix product", "4.00", "20.0%"),
        ("sums (normalization, gradients)", "2.00", "10.0%"),
        ("moving and transposing", "0.50", "2.5%"),
        ("other arithmetic", "1.00", "5.0%"),
        ("waiting", "4.50", "22.5%"),
    ]


def test_a_profile_is_of_one_batch_size(capsys):
    with pytest.raises(SystemExit):
        step_profile.parse(["--batch_size=128,256"])
    assert "--batch_size=128,256. Pass one." in capsys.readouterr().err
