"""A training step on a processor beside diffusers', in turns.

    python benchmarks/cpu_step.py --cores=2 --out=cpu_step.json

Two processes for each dtype, this library's and diffusers', stay alive and
take steps in turns, on the same cores. A step draws noise, computes loss and
gradients, clips them, updates weights by AdamW, and moves an average of them.
Diffusers runs eagerly, channels last, with PyTorch's fused AdamW; bfloat16 is
autocast there and `mixed_bfloat16` here.

Run it on an idle machine: where another process takes a core, PyTorch's
threads wait for each other in a loop, and steps take several times as long.
Then --cores=1 and the time of the core, not of the clock, still tell.
"""

import functools
import os
import statistics
from pathlib import Path

from harness.flags import make_parser
from harness.networks import network_facts
from harness.report import (
    least_and_most,
    median_of,
    peak_gibibytes,
    shown,
    spread,
)
from harness.run import Run

LIBRARIES = ("keras", "diffusers")
BFLOAT16_FEATURES = ("amx_bf16", "avx512_bf16")
COLUMNS = (
    "contestant",
    "step, ms",
    "least, most",
    "core ms",
    "times as fast",
    "in each round",
    "first step, s",
    "peak GiB",
    "loss",
)


def parse(arguments=None):
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--batch_size", type=int, default=4)
    add("--dtypes", default="float32,bfloat16")
    add("--cores", type=int, default=2)
    add("--rounds", type=int, default=10)
    add("--steps", type=int, default=5, help="of one turn in a round")
    add("--learning_rate", type=float, default=2e-4)
    values = parser.parse_args(arguments)
    available = len(os.sched_getaffinity(0))
    if not 1 <= values.cores <= available:
        parser.error(
            f"--cores must be from 1 to {available}, as this process may use "
            f"so many. Received: --cores={values.cores}. Choose fewer."
        )
    return values


def main(arguments=None):
    """Runs the contest of the flags; returns the results, a dict."""
    values = parse(arguments)
    # Inherited by the contestants, whose pools of threads are as large.
    cores = sorted(os.sched_getaffinity(0))[: values.cores]
    os.sched_setaffinity(0, cores)
    run = Run("cpu_step", values)
    hardware = run.results["hardware"]
    hardware |= {
        "cores_used": values.cores,
        "bfloat16": bfloat16_features(),
        "load_before": os.getloadavg()[0],
    }
    network = network_facts(values.preset, values.overrides, run.log_dir)
    run.contest(
        make_starts(run, network),
        {"steps": {"num_steps": values.steps}},
        summarize,
        lambda answer: (
            f"{statistics.median(answer['wall_milliseconds']):,.0f} ms a step"
        ),
    )
    hardware["load_after"] = os.getloadavg()[0]
    results = run.finish(COLUMNS, table_row)
    print(
        f"{hardware['cpu']}, {values.cores} cores, bfloat16 instructions: "
        f"{', '.join(hardware['bfloat16']) or 'none'}; load "
        f"{hardware['load_before']:.1f} before, of which nothing is ours, "
        f"{hardware['load_after']:.1f} after."
    )
    return results


def bfloat16_features():
    """Names of the processor's instructions for bfloat16, a list."""
    path = Path("/proc/cpuinfo")
    words = path.read_text().split() if path.exists() else []
    return [name for name in BFLOAT16_FEATURES if name in words]


def make_starts(run, network):
    """Functions that start each contestant's process, by its name."""
    values = run.values
    environment = {
        # The processor alone, also where there is a card.
        "CUDA_VISIBLE_DEVICES": "",
        "KERAS_BACKEND": "tensorflow",
        "OMP_NUM_THREADS": str(values.cores),
    }
    starts = {}
    for dtype in values.dtypes.split(","):
        for library in LIBRARIES:
            settings = {
                "library": library,
                "preset": values.preset,
                "overrides": values.overrides,
                "config": network["diffusers_config"],
                "image_shape": network["image_shape"],
                "compiled": False,
                "batch_size": values.batch_size,
                "dtype": dtype,
                "learning_rate": values.learning_rate,
            }
            name = f"{library}-{dtype}"
            starts[name] = functools.partial(
                run.start, name, "cpu_steps", settings, environment
            )
    return starts


def summarize(rows):
    """One entry for each contestant: figures over all steps, and ratios."""
    summaries = []
    for name, row in rows.items():
        summary = {"contestant": name, **row}
        runs = row.get("runs", {}).get("steps", [])
        if runs:
            for unit in ("wall_milliseconds", "processor_milliseconds"):
                steps = [x for run in runs for x in run[unit]]
                summary[unit] = spread(steps)
            summary["loss"] = runs[-1]["loss"]
            summary["peak_process_bytes"] = runs[-1]["peak_process_bytes"]
        library, _, dtype = name.partition("-")
        if library == "keras":
            other = rows.get(f"diffusers-{dtype}", {}).get("runs", {})
            summary["speedups"] = speedups(runs, other.get("steps", []))
        summaries.append(summary)
    return summaries


def speedups(runs, others):
    """How many times as fast a run was as the other's, round by round."""
    return [
        statistics.median(other["wall_milliseconds"])
        / statistics.median(run["wall_milliseconds"])
        for run, other in zip(runs, others, strict=False)
    ]


def table_row(row):
    """The cells of one contestant, as in `COLUMNS`."""
    if "wall_milliseconds" not in row:
        return (row["contestant"], row.get("error"), *[None] * 7)
    wall, core = row["wall_milliseconds"], row["processor_milliseconds"]
    ratios = row.get("speedups")
    return (
        row["contestant"],
        median_of(wall, ",.0f"),
        least_and_most(wall, ",.0f"),
        median_of(core, ",.0f"),
        f"{statistics.median(ratios):.2f}" if ratios else None,
        f"{min(ratios):.2f} to {max(ratios):.2f}" if ratios else None,
        shown(row["facts"]["first_step_seconds"], ".1f"),
        peak_gibibytes(row),
        shown(row["loss"], ".4f"),
    )


if __name__ == "__main__":
    main()
