"""Runs signatures of a SavedModel with TensorFlow alone.

    run_saved_model.py ARTIFACT SIGNATURE INPUTS.npz OUTPUTS.npz ...

A program of its own: the package that wrote the artifact cannot be imported.
The last three arguments may be repeated. Of `step`, it runs the loop: inputs
are `noise`, `num_steps` and what else a step takes.
"""

import os
import statistics
import sys
import time

sys.modules["keras_unet_diffusion"] = None  # importing it now raises

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

# Large networks are not called five times to be timed.
ENOUGH_MILLISECONDS = 5000


def main():
    artifact, *calls = sys.argv[1:]
    model = tf.saved_model.load(artifact)
    for signature, inputs, outputs in zip(*[iter(calls)] * 3, strict=True):
        with np.load(inputs) as arrays:
            arguments = {name: tf.constant(arrays[name]) for name in arrays}
        function = model.signatures[signature]
        run = sample if signature == "step" else call
        output, milliseconds = run(function, arguments)
        np.savez(
            outputs,
            output=output.numpy(),
            milliseconds=statistics.median(milliseconds),
            peak_bytes=peak_bytes(),
        )


def call(function, arguments):
    """The output of a function, and times of calls after the first."""
    (output,) = function(**arguments).values()
    milliseconds = []
    for _ in range(5):
        began = time.perf_counter()
        function(**arguments)
        milliseconds.append(1000 * (time.perf_counter() - began))
        if sum(milliseconds) > ENOUGH_MILLISECONDS:
            break
    return output, milliseconds


def sample(step, arguments):
    """The images that a host's loop makes, and the times of its steps."""
    num_steps = int(arguments["num_steps"])
    x_t = arguments.pop("noise")
    remembers = "previous_estimate" in step.structured_input_signature[1]
    x_0, milliseconds = tf.zeros_like(x_t), []
    for k in range(num_steps):
        if remembers:
            arguments["previous_estimate"] = x_0
        began = time.perf_counter()
        result = step(x_t=x_t, step=tf.constant(k, tf.int32), **arguments)
        x_t, x_0 = result["x_next"], result["x_0"]
        milliseconds.append(1000 * (time.perf_counter() - began))
    return x_t, milliseconds[1:] or milliseconds


def peak_bytes():
    """The most memory that this process has had so far; 0 if unknown."""
    try:
        with open("/proc/self/status") as file:
            lines = [x.split() for x in file if x.startswith("VmHWM:")]
    except OSError:  # Only Linux tells.
        return 0
    return 1024 * int(lines[0][1])


main()
