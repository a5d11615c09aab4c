"""Training speed beside diffusers: images per second, memory, first step.

    python benchmarks/training.py --batch_size=256 --out=training.json

Each contestant is a process that stays alive; they train in turns, on the same
device, and do the same: noise, target, clipping and average included.
"""

import math

from harness.flags import (
    add_contest_flags,
    add_execution_flags,
    add_training_flags,
    check_names,
    check_steps,
    make_parser,
)
from harness.libraries import (
    CONTESTANTS,
    add_speed_ratios,
    run_batch_sizes,
    why_not_measured,
)
from harness.networks import ceiling, network_facts
from harness.report import (
    least_and_most,
    median_of,
    peak_gibibytes,
    shown,
    spread,
)
from harness.run import Run

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
    parser = make_parser(__doc__)
    add_execution_flags(parser)
    add_contest_flags(parser, CONTESTANTS)
    add_training_flags(
        parser,
        steps=200,
        steps_help="of one turn in a round",
        steps_per_execution=10,
    )
    add = parser.add_argument
    add("--data", default="synthetic", help="or a source, for Keras")
    add("--data_dir")
    add("--devices", type=int, default=1, help="of Keras, sharing a batch")
    add("--rematerialize", action="store_true", help="for Keras")
    add("--ceiling_size", type=int, default=8192, help="0 for no ceiling")
    values = parser.parse_args(arguments)
    names = values.contestants.split(",")
    check_names(parser, "contestant", names, CONTESTANTS)
    check_steps(parser, values)
    return values


def main(arguments=None):
    """Runs the contest of the flags; returns the results, a dict."""
    values = parse(arguments)
    run = Run("training", values)
    run.results["network"] = network_facts(
        values.preset, values.overrides, run.log_dir
    )
    run.results["ceiling"] = ceiling(
        values.ceiling_size, values.dtype, run.log_dir
    )
    run_batch_sizes(
        run,
        "training",
        settings={"learning_rate": values.learning_rate},
        ours={
            "overrides": values.overrides
            | {"rematerialize": values.rematerialize},
            "steps_per_execution": values.steps_per_execution,
            "data": values.data,
            "data_dir": values.data_dir,
            "devices": values.devices,
        },
        requests={"training": {"num_steps": values.steps}},
        summarize=summarize,
    )
    return run.finish(COLUMNS, table_row)


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
    add_speed_ratios(summaries)
    return summaries


def verdict(row, runs, results):
    """ "ok", or why a row's figures are not to be used."""
    reason = why_not_measured(row, runs, results["network"]["num_parameters"])
    if reason:
        return reason
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
    facts, speed = row.get("facts", {}), row.get("images_per_second")
    return (
        row["contestant"],
        row["batch_size"],
        median_of(speed, ",.1f"),
        least_and_most(speed, ",.1f"),
        shown(row.get("share_of_ceiling"), ".1%"),
        shown(row.get("speed_to_compiled_diffusers"), ".2f"),
        peak_gibibytes(row),
        shown(facts.get("first_step_seconds"), ".1f"),
        shown(facts.get("trace_seconds"), ".1f"),
        shown(facts.get("compile_seconds"), ".1f"),
        shown(row.get("loss"), ".4f"),
        row["verdict"],
    )


if __name__ == "__main__":
    main()
