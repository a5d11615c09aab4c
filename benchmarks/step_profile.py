"""Where the time of a training step goes on the device, by kind of kernel.

    KERAS_BACKEND=jax python benchmarks/step_profile.py --out=profile.json

Trains on one batch of random images, as `training.py` does, measures the
speed, then profiles some steps more. The kernels that the profiler saw are
summed by what they compute; `kernels` in the JSON holds each by name. The last
row is what a step takes longer, without the profiler, than all its kernels.
"""

import argparse
import collections
import json
import re
import tempfile
import time
from pathlib import Path

from harness.report import context, print_table, save, spread

# The first that is found in a kernel's name or operation; what XLA fused is
# named by what the fusion ends in.
KINDS = {
    "convolution": r"conv(?!ert)|fprop|dgrad|wgrad|cudnn",
    "matrix product": r"gemm|nvjet|cublas|cutlass|dot",
    "sums (normalization, gradients)": r"reduce",
    "moving and transposing": (
        r"memcpy|memset|copy|transpose|concatenate|pad|slice"
    ),
    "other arithmetic": r"",
}


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--preset", default="ddpm_cifar10")
    add("--batch_size", type=int, default=256)
    add("--dtype", default="bfloat16", help="bfloat16, float16, float32")
    add("--rounds", type=int, default=3, help="of --steps, for the speed")
    add("--steps", type=int, default=50, help="of a round")
    add("--profiled_steps", type=int, default=10)
    add("--steps_per_execution", type=int, default=10)
    add("--jit_compile", default="auto", choices=("auto", "true", "false"))
    add("--learning_rate", type=float, default=2e-4)
    add(
        "--overrides",
        type=json.loads,
        default={},
        help="arguments other than the preset's, JSON",
    )
    add("--out", help="file for the results, JSON")
    return parser.parse_args(arguments)


def main(arguments=None):
    """Measures and profiles; returns the results, a dict."""
    values = parse(arguments)
    from contestants import keras_training

    settings = vars(values) | {
        "started": time.time(),
        "data": "synthetic",
        "data_dir": None,
        "devices": 1,
    }
    run, facts = keras_training.make(settings)
    runs = [run(num_steps=values.steps) for _ in range(values.rounds)]
    results = context() | {"settings": vars(values), "facts": facts}
    results["runs"] = runs
    speed = spread([x["images_per_second"] for x in runs])
    results["images_per_second"] = speed
    results["kernels"] = profiled(run, values)
    results["rows"] = by_kind(results, values.batch_size / speed["median"])
    print(f"{speed['median']:,.0f} images/s, {facts['backend']}")
    print_table(("kind", "ms a step", "share"), map(table_row, results["rows"]))
    save(results, values.out)
    return results


def profiled(run, values):
    """Runs steps under the profiler; what the device computed in them.

    Returns:
        List of dicts with `name`, `operation`, `source`, and, of one step,
        `count` and `seconds` of each kernel, the longest first.
    """
    with tempfile.TemporaryDirectory(prefix="step_profile_") as folder:
        start, stop = profiler()
        start(folder)
        run(num_steps=values.profiled_steps)
        stop()
        (path,) = Path(folder).rglob("*.xplane.pb")
        # `run` takes an execution of steps before those that it times.
        return kernels(path, values.profiled_steps + values.steps_per_execution)


def profiler():
    """Functions that start, with a folder, and stop the profiler."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        return jax.profiler.start_trace, jax.profiler.stop_trace
    import tensorflow as tf

    experimental = tf.profiler.experimental
    return experimental.start, experimental.stop


def kernels(path, num_steps):
    """Reads the kernels of the first device from a profile, for one step."""
    from jax.profiler import ProfileData

    planes = list(ProfileData.from_file(str(path)).planes)
    devices = [x for x in planes if x.name.startswith("/device:GPU")]
    if not devices:
        raise SystemExit(
            "The profile has no device's kernels. Received planes: "
            f"{', '.join(x.name for x in planes)}. Run it on a GPU."
        )
    seconds, counts = collections.Counter(), collections.Counter()
    for line in devices[0].lines:
        if not line.name.startswith("Stream"):
            continue  # Other lines tell the same by module and by operation.
        for event in line.events:
            stats = {name: str(value) for name, value in event.stats if name}
            operation = stats.get("hlo_op") or stats.get("name", "")
            key = (event.name, operation, stats.get("tf_op", ""))
            seconds[key] += event.duration_ns * 1e-9
            counts[key] += 1
    return [
        {
            "name": key[0],
            "operation": key[1],
            "source": key[2],
            "count": counts[key] / num_steps,
            "seconds": value / num_steps,
        }
        for key, value in seconds.most_common()
    ]


def by_kind(results, step_seconds):
    """Sums kernels by `KINDS`; adds what a step takes beside them."""
    sums = dict.fromkeys(KINDS, 0.0)
    for kernel in results["kernels"]:
        operation = kernel["operation"]
        # Those that were sent together bear the name of their bundle.
        if operation.startswith("command_buffer"):
            operation = ""
        text = f"{kernel['name']} {operation}".lower()
        kind = next(k for k, words in KINDS.items() if re.search(words, text))
        sums[kind] += kernel["seconds"]
    sums["waiting"] = step_seconds - sum(sums.values())
    return [
        {"kind": kind, "seconds": x, "share": x / step_seconds}
        for kind, x in sums.items()
    ]


def table_row(row):
    """The cells of one kind."""
    return row["kind"], f"{1000 * row['seconds']:.2f}", f"{row['share']:.1%}"


if __name__ == "__main__":
    main()
