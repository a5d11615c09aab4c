"""Sampling speed beside diffusers: images per second, by steps and batch.

    python benchmarks/sampling.py --batch_size=256,1000 --out=sampling.json

Each contestant is a process that stays alive; they sample in turns, on the
same device. Networks have random weights of the same shape: the time does not
depend on them. Images are counted when they are numpy arrays on the host.
"""

import argparse
import json
import tempfile
import time

from harness.contest import Worker, fresh_folder, run_contest
from harness.networks import network_facts
from harness.report import context, gibibytes, print_table, save, spread

OURS = {"keras-tensorflow": "tensorflow", "keras-jax": "jax"}
DIFFUSERS = {"diffusers-eager": False, "diffusers-compiled": True}
CONTESTANTS = (*OURS, *DIFFUSERS)
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--preset", default="ddpm_cifar10")
    add("--batch_size", default="256", help="or several, by commas")
    add("--dtype", default="bfloat16", help="bfloat16, float16, float32")
    add("--contestants", default=",".join(CONTESTANTS))
    add(
        "--cases",
        default="dpm_solver_2:20,ddim:50",
        help=f"of {', '.join(SAMPLERS)}, each with its number of steps",
    )
    add("--rounds", type=int, default=3)
    add("--batches", type=int, default=4, help="of one turn in a round")
    add("--minutes", type=float, default=60.0, help="no longer than that")
    add("--jit_compile", default="auto", choices=("auto", "true", "false"))
    add("--xla_flags", default="", help="for Keras on both backends")
    add("--compile_mode", default="default", help="of torch.compile")
    add(
        "--overrides",
        type=json.loads,
        default={},
        help="arguments other than the preset's, JSON",
    )
    add("--log_dir", help="for what the processes print")
    add("--out", help="file for the results, JSON")
    values = parser.parse_args(arguments)
    unknown = set(values.contestants.split(",")) - set(CONTESTANTS)
    unknown |= {case["sampler"] for case in cases_of(values)} - set(SAMPLERS)
    if unknown:
        parser.error(
            "There is no such contestant or sampler. Received: "
            f"{', '.join(unknown)}. Choose of {', '.join(CONTESTANTS)}; "
            f"{', '.join(SAMPLERS)}."
        )
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
    deadline = time.monotonic() + 60 * values.minutes
    log_dir = values.log_dir or tempfile.mkdtemp(prefix="sampling_")
    results = context() | {"settings": vars(values)}
    network = network_facts(values.preset, values.overrides, log_dir)
    results |= {"network": network, "rows": []}
    requests = {
        f"{case['sampler']}:{case['num_steps']}": case
        | {"num_batches": values.batches}
        for case in cases_of(values)
    }
    for batch_size in map(int, values.batch_size.split(",")):
        done = results["rows"]

        def report(rows, done=done, batch_size=batch_size):
            summaries = summarize(rows, batch_size, network)
            save(results | {"rows": done + summaries}, values.out)
            return summaries

        starts = make_starts(values, batch_size, network, log_dir, deadline)
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
        "cases": cases_of(values),
    }
    starts = {}
    for name in values.contestants.split(","):
        environment = {}
        if name in OURS:
            module = "keras_sampling"
            environment["KERAS_BACKEND"] = OURS[name]
            if values.xla_flags:
                environment["XLA_FLAGS"] = f"+{values.xla_flags}"
            settings = common | {
                "overrides": values.overrides,
                "jit_compile": values.jit_compile,
            }
        else:
            environment["TORCHINDUCTOR_CACHE_DIR"] = fresh_folder(log_dir)
            module = "diffusers_sampling"
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


def summarize(rows, batch_size, network):
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
                "verdict": verdict(row, runs, network),
            }
            if runs:
                speed = spread([run["images_per_second"] for run in runs])
                summary["images_per_second"] = speed
            summaries.append(summary)
    best = {
        (x["sampler"], x["num_steps"]): x["images_per_second"]["median"]
        for x in summaries
        if x["contestant"] == "diffusers-compiled" and x["verdict"] == "ok"
    }
    for summary in summaries:
        case = (summary["sampler"], summary["num_steps"])
        if case in best and summary["runs"]:
            median = summary["images_per_second"]["median"]
            summary["speed_to_compiled_diffusers"] = median / best[case]
    return sorted(summaries, key=lambda x: (str(x["sampler"]), x["batch_size"]))


def verdict(row, runs, network):
    """ "ok", or why a row's figures are not to be used."""
    if "error" in row:
        return row["error"]
    if not runs:
        return "no round was run: the time was over"
    if row["facts"]["num_parameters"] != network["num_parameters"]:
        return f"FAILED: not of {network['num_parameters']} parameters"
    if not all(run["images_are_finite"] for run in runs):
        return "FAILED: images are not finite"
    return "ok"


def table_row(row):
    """The cells of one row, as in `COLUMNS`."""
    speed = row.get("images_per_second")
    ratio = row.get("speed_to_compiled_diffusers")
    last = row["runs"][-1] if row["runs"] else {}
    peak = last.get("peak_device_bytes") or last.get("peak_process_bytes")
    first = row["facts"].get("first_images_seconds")
    return (
        row["sampler"],
        row["num_steps"],
        row["contestant"],
        row["batch_size"],
        speed and f"{speed['median']:,.1f}",
        speed and f"{speed['min']:,.1f}, {speed['max']:,.1f}",
        ratio and f"{ratio:.2f}",
        gibibytes(peak),
        first and f"{first:.1f}",
        row["verdict"],
    )


if __name__ == "__main__":
    main()
