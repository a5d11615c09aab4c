"""Seconds to the first training step under sets of compiler flags.

    python benchmarks/first_step.py --sets=default,autotune_0 --out=first.json

Each set runs in a fresh process: importing, building, tracing, compiling, the
first step; then the loss of each of --losses steps, and the speed of --steps
more. A row fails if a loss or a weight is not finite. A cache is tried twice,
empty and full. --flags="NAME=FLAGS" adds a set of one's own.
"""

import math

from harness.contest import Failed, fresh_folder
from harness.flags import (
    add_execution_flags,
    add_training_flags,
    batch_sizes,
    check_names,
    check_steps,
    make_parser,
)
from harness.report import peak_gibibytes, shown
from harness.run import Run

BACKENDS = ("tensorflow", "jax")
XLA_SETS = {
    "default": "",
    "autotune_0": "--xla_gpu_autotune_level=0",
    "autotune_2": "--xla_gpu_autotune_level=2",
    "no_command_buffers": "--xla_gpu_enable_command_buffer=",
    "no_triton_gemm": "--xla_gpu_enable_triton_gemm=false",
    "parallel_16": "--xla_gpu_force_compilation_parallelism=16",
    "no_latency_hiding": "--xla_gpu_enable_latency_hiding_scheduler=false",
}
# Not a set of flags, but one of what is compiled, or where that is kept.
OTHER_SETS = ("no_xla", "cache")
SETS = (*XLA_SETS, *OTHER_SETS)
COLUMNS = (
    "set",
    "backend",
    "batch",
    "import, s",
    "build, s",
    "tracing, s",
    "compiling, s",
    "first step, s",
    "images/s",
    "peak GiB",
    "verdict",
)


def parse(arguments=None):
    parser = make_parser(__doc__)
    add_execution_flags(parser)
    add_training_flags(
        parser, steps=50, steps_help="for the speed", steps_per_execution=1
    )
    add = parser.add_argument
    add("--sets", default=",".join(SETS), help=f"of {', '.join(SETS)}")
    add("--flags", action="append", default=[], metavar="NAME=FLAGS")
    add("--backends", default=",".join(BACKENDS))
    add("--losses", type=int, default=30, help="steps whose loss is shown")
    values = parser.parse_args(arguments)
    check_names(parser, "set", filter(None, values.sets.split(",")), SETS)
    check_names(parser, "backend", values.backends.split(","), BACKENDS)
    check_steps(parser, values)
    return values


def main(arguments=None):
    """Runs every set of the flags; returns the results, a dict."""
    values = parse(arguments)
    run = Run("first_step", values)
    for batch_size in batch_sizes(values):
        for backend in values.backends.split(","):
            for name, environment, changes in sets(
                values, backend, run.log_dir
            ):
                row = {
                    "set": name,
                    "backend": backend,
                    "batch_size": batch_size,
                    "environment": environment,
                }
                if run.is_over():
                    row["verdict"] = "not run: the time was over"
                else:
                    row |= measure(run, row, changes)
                show_losses(row)
                run.add_rows([row])
    return run.finish(COLUMNS, table_row)


def sets(values, backend, log_dir):
    """Yields names, variables of the process, and changes of the settings."""
    for name in filter(None, values.sets.split(",")):
        if name == "cache":
            environment = _cache_variables(backend, fresh_folder(log_dir))
            yield "cache, empty", environment, {}
            yield "cache, full", environment, {}
        elif name == "no_xla":
            # JAX has no other way to run than XLA.
            if backend == "tensorflow":
                yield name, {}, {"jit_compile": "false"}
        else:
            yield name, _flag_variables(XLA_SETS[name]), {}
    for flags in values.flags:
        name, _, flags = flags.partition("=")
        yield name, _flag_variables(flags), {}


def _flag_variables(flags):
    # "+": beside what the machine needs, such as where its CUDA is.
    return {"XLA_FLAGS": f"+{flags}"} if flags else {}


def _cache_variables(backend, folder):
    autotuning = f"--xla_gpu_per_fusion_autotune_cache_dir={folder}"
    if backend == "jax":
        return {
            "JAX_COMPILATION_CACHE_DIR": folder,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
    return {
        "TF_XLA_FLAGS": f"+--tf_xla_persistent_cache_directory={folder}",
        "XLA_FLAGS": f"+{autotuning}",
    }


def measure(run, row, changes):
    """Runs one process; returns what it saw, a dict."""
    values = run.values
    settings = {
        "preset": values.preset,
        "overrides": values.overrides,
        "batch_size": row["batch_size"],
        "dtype": values.dtype,
        "learning_rate": values.learning_rate,
        "steps_per_execution": values.steps_per_execution,
        "jit_compile": values.jit_compile,
        "data": "synthetic",
        "data_dir": None,
        "devices": 1,
    } | changes
    name = f"{row['set'].replace(', ', '_')}_{row['batch_size']}"
    environment = row["environment"] | {"KERAS_BACKEND": row["backend"]}
    found = {}
    try:
        worker = run.start(
            f"{row['backend']}/{name}", "keras_training", settings, environment
        )
        found["facts"] = worker.facts
        if values.losses:
            answer = worker.ask(num_steps=values.losses, every_loss=True)
            found["losses"] = [worker.facts["first_loss"], *answer["losses"]]
        found["speed"] = worker.ask(num_steps=values.steps)
        worker.close()
    except Failed as failure:
        return found | {"verdict": str(failure)}
    return found | {"verdict": verdict(found, values.dtype)}


def verdict(found, dtype):
    """ "ok", or the first step at which something was not finite."""
    for step, loss in enumerate(found.get("losses", ())):
        # float16 begins with a scale that is too large, and skips.
        if not math.isfinite(loss) and dtype != "float16":
            return f"FAILED: step {step} is not finite"
    speed = found["speed"]
    if not speed["weights_are_finite"]:
        return "FAILED: weights are not finite"
    if not math.isfinite(speed["loss"]):
        return "FAILED: a later loss is not finite"
    skipped = speed["skipped_steps"]
    return f"FAILED: {skipped} steps were not finite" if skipped else "ok"


def show_losses(row):
    """Prints the losses of a row, to be read from left to right."""
    where = f"{row['set']}, {row['backend']}, batch {row['batch_size']}"
    losses = " ".join(f"{loss:.3f}" for loss in row.get("losses", ()))
    print(f"{where}: {row['verdict']}; losses {losses or 'none'}", flush=True)


def table_row(row):
    """The cells of one row, as in `COLUMNS`."""
    facts, speed = row.get("facts", {}), row.get("speed", {})
    seconds = (
        "import_seconds",
        "build_seconds",
        "trace_seconds",
        "compile_seconds",
        "first_step_seconds",
    )
    return (
        row["set"],
        row["backend"],
        row["batch_size"],
        *(shown(facts.get(name), ".1f") for name in seconds),
        shown(speed.get("images_per_second"), ",.1f"),
        peak_gibibytes(speed),
        row["verdict"],
    )


if __name__ == "__main__":
    main()
