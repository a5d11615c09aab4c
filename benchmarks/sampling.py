"""Sampling speed beside diffusers: images per second, by steps and batch.

    python benchmarks/sampling.py --batch_size=256,1000 --out=sampling.json

Each contestant is a process that stays alive; they sample in turns, on the
same device. Networks have random weights of the same shape: the time does not
depend on them. Images are counted when they are numpy arrays on the host.
"""

from harness.flags import (
    add_contest_flags,
    add_execution_flags,
    check_names,
    make_parser,
)
from harness.libraries import (
    CONTESTANTS,
    add_speed_ratios,
    run_batch_sizes,
    why_not_measured,
)
from harness.networks import network_facts
from harness.report import (
    least_and_most,
    median_of,
    peak_gibibytes,
    shown,
    spread,
)
from harness.run import Run

SAMPLERS = ("dpm_solver_2", "ddim")
COLUMNS = (
    "sampler",
    "steps",
    "contestant",
    "batch",
    "images/s",
    "least, most",
    "to compiled diffusers",
    "peak GiB",
    "first images, s",
    "verdict",
)


def parse(arguments=None):
    parser = make_parser(__doc__)
    add_execution_flags(parser)
    add_contest_flags(parser, CONTESTANTS)
    add = parser.add_argument
    add(
        "--cases",
        default="dpm_solver_2:20,ddim:50",
        help=f"of {', '.join(SAMPLERS)}, each with its number of steps",
    )
    add("--batches", type=int, default=4, help="of one turn in a round")
    values = parser.parse_args(arguments)
    names = values.contestants.split(",")
    check_names(parser, "contestant", names, CONTESTANTS)
    names = [case["sampler"] for case in cases_of(values)]
    check_names(parser, "sampler", names, SAMPLERS)
    return values


def cases_of(values):
    """What is sampled: dicts of `sampler` and `num_steps`."""
    pairs = (case.partition(":") for case in values.cases.split(","))
    return [
        {"sampler": sampler, "num_steps": int(steps)}
        for sampler, _, steps in pairs
    ]


def main(arguments=None):
    """Runs the contest of the flags; returns the results, a dict."""
    values = parse(arguments)
    run = Run("sampling", values)
    run.results["network"] = network_facts(
        values.preset, values.overrides, run.log_dir
    )
    cases = cases_of(values)
    run_batch_sizes(
        run,
        "sampling",
        settings={"cases": cases},
        ours={},
        requests={
            f"{case['sampler']}:{case['num_steps']}": case
            | {"num_batches": values.batches}
            for case in cases
        },
        summarize=summarize,
    )
    return run.finish(COLUMNS, table_row)


def summarize(rows, batch_size, results):
    """One entry for each case and contestant."""
    summaries = []
    for name, row in rows.items():
        # Who could not start has no cases: one entry says so.
        for case, runs in row.get("runs", {"": []}).items():
            sampler, _, steps = case.partition(":")
            summary = {
                "sampler": sampler or None,
                "num_steps": int(steps or 0) or None,
                "contestant": name,
                "batch_size": batch_size,
                "facts": row.get("facts", {}),
                "runs": runs,
                "verdict": verdict(row, runs, results["network"]),
            }
            if runs:
                speed = spread([run["images_per_second"] for run in runs])
                summary["images_per_second"] = speed
            summaries.append(summary)
    add_speed_ratios(summaries)
    return sorted(summaries, key=lambda x: (str(x["sampler"]), x["batch_size"]))


def verdict(row, runs, network):
    """ "ok", or why a row's figures are not to be used."""
    reason = why_not_measured(row, runs, network["num_parameters"])
    if reason:
        return reason
    if not all(run["images_are_finite"] for run in runs):
        return "FAILED: images are not finite"
    return "ok"


def table_row(row):
    """The cells of one row, as in `COLUMNS`."""
    speed = row.get("images_per_second")
    last = row["runs"][-1] if row["runs"] else {}
    return (
        row["sampler"],
        row["num_steps"],
        row["contestant"],
        row["batch_size"],
        median_of(speed, ",.1f"),
        least_and_most(speed, ",.1f"),
        shown(row.get("speed_to_compiled_diffusers"), ".2f"),
        peak_gibibytes(last),
        shown(row["facts"].get("first_images_seconds"), ".1f"),
        row["verdict"],
    )


if __name__ == "__main__":
    main()
