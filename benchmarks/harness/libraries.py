"""This library and diffusers in one contest, by batch size."""

import functools

from harness.contest import fresh_folder
from harness.flags import batch_sizes

# Names of contestants: this library by backend, diffusers by compiled or not.
OURS = {"keras-tensorflow": "tensorflow", "keras-jax": "jax"}
DIFFUSERS = {"diffusers-eager": False, "diffusers-compiled": True}
CONTESTANTS = (*OURS, *DIFFUSERS)


def run_batch_sizes(run, task, settings, ours, requests, summarize):
    """Runs a contest for each of `--batch_size`, one after another.

    Args:
        run: a `Run`, whose results hold the `network_facts` as `network`.
        task: str; the modules `keras_TASK` and `diffusers_TASK` take part.
        settings: dict, for both libraries, beside what all tasks need.
        ours: dict, for this library alone.
        requests: dict, see `run_contest`.
        summarize: function of what `run_contest` returns, a batch size and
            the results to rows of the table.
    """
    for batch_size in batch_sizes(run.values):
        run.contest(
            make_starts(run, task, settings | {"batch_size": batch_size}, ours),
            requests,
            functools.partial(
                summarize, batch_size=batch_size, results=run.results
            ),
            lambda answer: f"{answer['images_per_second']:,.1f} images/s",
        )


def make_starts(run, task, settings, ours):
    """Functions that start the processes of `--contestants`, by name."""
    values, network = run.values, run.results["network"]
    settings = {"preset": values.preset, "dtype": values.dtype} | settings
    starts = {}
    for name in values.contestants.split(","):
        if name in OURS:
            module = f"keras_{task}"
            environment = {"KERAS_BACKEND": OURS[name]}
            if values.xla_flags:
                environment["XLA_FLAGS"] = f"+{values.xla_flags}"
            special = {
                "overrides": values.overrides,
                "jit_compile": values.jit_compile,
            } | ours
        else:
            module = f"diffusers_{task}"
            environment = {"TORCHINDUCTOR_CACHE_DIR": fresh_folder(run.log_dir)}
            special = {
                "config": network["diffusers_config"],
                "image_shape": network["image_shape"],
                "compiled": DIFFUSERS[name],
                "compile_mode": values.compile_mode,
            }
        starts[name] = functools.partial(
            run.start, name, module, settings | special, environment
        )
    return starts


def why_not_measured(row, runs, num_parameters):
    """Why there are no figures of the contest's network, str; None if there
    are.

    Args:
        row: dict of a contestant, see `run_contest`.
        runs: list of its answers.
        num_parameters: int, of the network that all are to have.
    """
    if "error" in row:
        return row["error"]
    if not runs:
        return "no round was run: the time was over"
    if row["facts"]["num_parameters"] != num_parameters:
        return f"FAILED: not a network of {num_parameters} parameters"
    return None


def add_speed_ratios(rows):
    """Adds `speed_to_compiled_diffusers` to rows of the table that have a
    speed, where diffusers did the same."""

    def case(row):
        return row.get("sampler"), row.get("num_steps")

    theirs = {
        case(row): row["images_per_second"]["median"]
        for row in rows
        if row["contestant"] == "diffusers-compiled" and row["verdict"] == "ok"
    }
    for row in rows:
        if case(row) in theirs and "images_per_second" in row:
            ours = row["images_per_second"]["median"]
            row["speed_to_compiled_diffusers"] = ours / theirs[case(row)]
