"""Where the time of a training step goes on the device, by kind of kernel.

    KERAS_BACKEND=jax python benchmarks/step_profile.py --out=profile.json

Trains on one batch of random images, as `training.py` does, measures the
speed, then profiles some steps more. The kernels that the profiler saw are
summed by what they compute; `kernels` in the JSON holds each by name. The last
row is what a step takes longer, without the profiler, than all its kernels.
"""

import collections
import re
import tempfile
import time
from pathlib import Path

from harness.flags import (
    add_execution_flags,
    add_training_flags,
    batch_sizes,
    check_steps,
    make_parser,
)
from harness.report import spread
from harness.run import Run

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
    parser = make_parser(__doc__)
    add_execution_flags(parser)
    add_training_flags(
        parser, steps=50, steps_help="of a round", steps_per_execution=10
    )
    add = parser.add_argument
    add("--rounds", type=int, default=3, help="of --steps, for the speed")
    add("--executions", type=int, default=1, help="to profile")
    values = parser.parse_args(arguments)
    check_steps(parser, values)
    if len(batch_sizes(values)) > 1:
        parser.error(
            "One program is profiled at a time. Received: --batch_size="
            f"{values.batch_size}. Pass one."
        )
    return values


def main(arguments=None):
    """Measures and profiles; returns the results, a dict."""
    values = parse(arguments)
    from contestants import keras_training

    (batch_size,) = batch_sizes(values)
    run = Run("step_profile", values)
    train, facts = keras_training.make(
        vars(values)
        | {
            "batch_size": batch_size,
            "started": time.time(),
            "data": "synthetic",
            "data_dir": None,
            "devices": 1,
        }
    )
    runs = [train(num_steps=values.steps) for _ in range(values.rounds)]
    speed = spread([x["images_per_second"] for x in runs])
    run.results |= {
        "facts": facts,
        "runs": runs,
        "images_per_second": speed,
        "kernels": profiled(train, values),
    }
    step_seconds = batch_size / speed["median"]
    run.add_rows(by_kind(run.results["kernels"], step_seconds))
    print(f"{speed['median']:,.0f} images/s, {facts['backend']}")
    return run.finish(("kind", "ms a step", "share"), table_row)


def profiled(train, values):
    """Runs steps under the profiler; what the device computed in them.

    Returns:
        List of dicts with `name`, `operation`, `source`, and, of one step,
        `count` and `seconds` of each kernel, the longest first.
    """
    with tempfile.TemporaryDirectory(prefix="step_profile_") as folder:
        start, stop = profiler()
        start(folder)
        # It takes an execution of steps before those that it times.
        train(num_steps=values.executions * values.steps_per_execution)
        stop()
        (path,) = Path(folder).rglob("*.xplane.pb")
        num_steps = (1 + values.executions) * values.steps_per_execution
        return kernels(path, num_steps)


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


def by_kind(kernels, step_seconds):
    """Sums kernels by `KINDS`; adds what a step takes beside them."""
    sums = dict.fromkeys(KINDS, 0.0)
    for kernel in kernels:
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
