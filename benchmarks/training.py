"""Training speed beside diffusers: images per second, memory, first step.

    python benchmarks/training.py --batch_size=256 --out=training.json

Each contestant is a process that stays alive; they train in turns, on the same
device, and do the same: noise, target, clipping and average included.
"""

import argparse
import json
import math
import tempfile
import time

from harness.contest import Worker, fresh_folder, run_contest
from harness.networks import ceiling, network_facts
from harness.report import context, gibibytes, print_table, save, spread

OURS = {"keras-tensorflow": "tensorflow", "keras-jax": "jax"}
DIFFUSERS = {"diffusers-eager": False, "diffusers-compiled": True}
CONTESTANTS = (*OURS, *DIFFUSERS)
COLUMNS = (
    "contestant",
    "batch",
    "images/s",
    "least, most",
    "of ceiling",
    "to compiled diffusers",
    "peak GiB",
    "first step, s",
    "tracing, s",
    "compiling, s",
    "loss",
    "verdict",
)


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--preset", default="ddpm_cifar10")
    add("--batch_size", default="256", help="or several, by commas")
    add("--dtype", default="bfloat16", help="bfloat16, float16, float32")
    add("--contestants", default=",".join(CONTESTANTS))
    add("--rounds", type=int, default=3)
    add("--steps", type=int, default=200, help="of one turn in a round")
    add("--minutes", type=float, default=60.0, help="no longer than that")
    add("--steps_per_execution", type=int, default=10, help="of Keras")
    add("--jit_compile", default="auto", choices=("auto", "true", "false"))
    add("--xla_flags", default="", help="for Keras on both backends")
    add("--compile_mode", default="default", help="of torch.compile")
    add("--data", default="synthetic", help="or a source, for Keras")
    add("--data_dir")
    add("--learning_rate", type=float, default=2e-4)
    add("--devices", type=int, default=1, help="of Keras, sharing a batch")
    add("--rematerialize", action="store_true", help="for Keras")
    add(
        "--overrides",
        type=json.loads,
        default={},
        help="arguments other than the preset's, JSON",
    )
    add("--ceiling_size", type=int, default=8192, help="0 for no ceiling")
    add("--log_dir", help="for what the processes print")
    add("--out", help="file for the results, JSON")
    values = parser.parse_args(arguments)
    unknown = set(values.contestants.split(",")) - set(CONTESTANTS)
    if unknown:
        parser.error(
            f"There is no such contestant. Received: {', '.join(unknown)}. "
            f"Choose of {', '.join(CONTESTANTS)}."
        )
    if values.steps % values.steps_per_execution:
        parser.error(
            "Keras takes --steps_per_execution steps at once. Received: "
            f"--steps={values.steps} --steps_per_execution="
            f"{values.steps_per_execution}. Make one a multiple of the other."
        )
    return values


def main(arguments=None):
    """Runs the contest of the flags; returns the results, a dict."""
    values = parse(arguments)
    deadline = time.monotonic() + 60 * values.minutes
    log_dir = values.log_dir or tempfile.mkdtemp(prefix="training_")
    results = context() | {"settings": vars(values)}
    results["network"] = network_facts(values.preset, values.overrides, log_dir)
    results["ceiling"] = ceiling(values.ceiling_size, values.dtype, log_dir)
    results["rows"] = []
    for batch_size in map(int, values.batch_size.split(",")):
        done = results["rows"]

        def report(rows, done=done, batch_size=batch_size):
            summaries = summarize(rows, batch_size, results)
            save(results | {"rows": done + summaries}, values.out)
            return summaries

        starts = make_starts(
            values, batch_size, results["network"], log_dir, deadline
        )
        requests = {"training": {"num_steps": values.steps}}
        rows = run_contest(starts, requests, values.rounds, deadline, report)
        results["rows"] = done + report(rows)
    print_table(COLUMNS, map(table_row, results["rows"]))
    save(results, values.out)
    return results


def make_starts(values, batch_size, network, log_dir, deadline):
    """Functions that start each contestant's process, by its name."""
    common = {
        "preset": values.preset,
        "batch_size": batch_size,
        "dtype": values.dtype,
        "learning_rate": values.learning_rate,
    }
    starts = {}
    for name in values.contestants.split(","):
        environment = {}
        if name in OURS:
            module = "keras_training"
            environment["KERAS_BACKEND"] = OURS[name]
            if values.xla_flags:
                environment["XLA_FLAGS"] = f"+{values.xla_flags}"
            settings = common | {
                "overrides": values.overrides
                | {"rematerialize": values.rematerialize},
                "steps_per_execution": values.steps_per_execution,
                "jit_compile": values.jit_compile,
                "data": values.data,
                "data_dir": values.data_dir,
                "devices": values.devices,
            }
        else:
            environment["TORCHINDUCTOR_CACHE_DIR"] = fresh_folder(log_dir)
            module = "diffusers_training"
            settings = common | {
                "config": network["diffusers_config"],
                "image_shape": network["image_shape"],
                "compiled": DIFFUSERS[name],
                "compile_mode": values.compile_mode,
            }

        def start(arguments=(name, module, settings, environment)):
            return Worker(*arguments, log_dir=log_dir, deadline=deadline)

        starts[name] = start
    return starts


def summarize(rows, batch_size, results):
    """One entry for each contestant: figures over rounds, and a verdict."""
    summaries = []
    for name, row in rows.items():
        summary = {"contestant": name, "batch_size": batch_size, **row}
        runs = row.get("runs", {}).get("training", [])
        if runs:
            speed = spread([run["images_per_second"] for run in runs])
            summary["images_per_second"] = speed
            summary["peak_device_bytes"] = runs[-1]["peak_device_bytes"]
            summary["peak_process_bytes"] = runs[-1]["peak_process_bytes"]
            summary["loss"] = runs[-1]["loss"]
            arithmetic = speed["median"] * results["network"]["training_flops"]
            if results["ceiling"]:
                most = results["ceiling"]["teraflops"] * 1e12
                summary["share_of_ceiling"] = arithmetic / most
        summary["verdict"] = verdict(row, runs, results)
        summaries.append(summary)
    best = [
        x["images_per_second"]["median"]
        for x in summaries
        if x["contestant"] == "diffusers-compiled" and x["verdict"] == "ok"
    ]
    for summary in summaries:
        if best and "images_per_second" in summary:
            median = summary["images_per_second"]["median"]
            summary["speed_to_compiled_diffusers"] = median / best[0]
    return summaries


def verdict(row, runs, results):
    """ "ok", or why a row's figures are not to be used."""
    if "error" in row:
        return row["error"]
    if not runs:
        return "no round was run: the time was over"
    num_parameters = results["network"]["num_parameters"]
    if row["facts"]["num_parameters"] != num_parameters:
        return f"FAILED: not a network of {num_parameters} parameters"
    first = row["facts"]["first_loss"]
    losses = [first, *(run["loss"] for run in runs)]
    if not all(run["weights_are_finite"] for run in runs):
        return "FAILED: weights are not finite"
    if not all(map(math.isfinite, losses)):
        return "FAILED: loss is not finite"
    # float16 begins with a scale that is too large, and skips until it fits.
    skipped = [run["skipped_steps"] or 0 for run in runs]
    is_float16 = results["settings"]["dtype"] == "float16"
    if sum(skipped) and (not is_float16 or skipped[-1]):
        return f"FAILED: {sum(skipped)} steps were not finite"
    # Random images have nothing to learn but that the noise is there.
    if losses[-1] > 1.2 * first:
        return f"FAILED: the loss rose from {first:.3f} to {losses[-1]:.3f}"
    return "ok"


def table_row(row):
    """The cells of one contestant, as in `COLUMNS`."""

    def shown(value, pattern):
        return None if value is None else format(value, pattern)

    facts, speed = row.get("facts", {}), row.get("images_per_second")
    peak = row.get("peak_device_bytes") or row.get("peak_process_bytes")
    return (
        row["contestant"],
        row["batch_size"],
        speed and shown(speed["median"], ",.1f"),
        speed and f"{speed['min']:,.1f}, {speed['max']:,.1f}",
        shown(row.get("share_of_ceiling"), ".1%"),
        shown(row.get("speed_to_compiled_diffusers"), ".2f"),
        gibibytes(peak),
        shown(facts.get("first_step_seconds"), ".1f"),
        shown(facts.get("trace_seconds"), ".1f"),
        shown(facts.get("compile_seconds"), ".1f"),
        shown(row.get("loss"), ".4f"),
        row["verdict"],
    )


if __name__ == "__main__":
    main()
