"""Runs signatures of a LiteRT file with ai-edge-litert and numpy alone.

    run_litert.py ARTIFACT SIGNATURE INPUTS.npz OUTPUTS.npz ...

A program of its own: neither TensorFlow nor the package that wrote the
artifact can be imported. The last three arguments may be repeated. Inputs hold
a batch; files of one image at a time are called for each. Of `step`, it runs
the loop: inputs are `noise`, `num_steps` and what else a step takes.
"""

import statistics
import sys
import time

for name in ("keras_unet_diffusion", "tensorflow", "keras"):
    sys.modules[name] = None  # importing it now raises

import numpy as np  # noqa: E402
from ai_edge_litert.interpreter import Interpreter  # noqa: E402

# Large networks are not called five times to be timed.
ENOUGH_MILLISECONDS = 5000


def main():
    artifact, *calls = sys.argv[1:]
    interpreter = Interpreter(artifact)
    for signature, inputs, outputs in zip(*[iter(calls)] * 3, strict=True):
        with np.load(inputs) as arrays:
            given = {name: arrays[name] for name in arrays}
        function = interpreter.get_signature_runner(signature)
        run = sample if signature == "step" else call
        images, milliseconds = [], []
        for arguments in each_image(function, given):
            output, times = run(function, arguments)
            images.append(output)
            milliseconds += times
        np.savez(
            outputs,
            output=np.concatenate(images),
            milliseconds=statistics.median(milliseconds),
            peak_bytes=peak_bytes(),
        )


def each_image(function, given):
    """The arguments of one call after the other."""
    inputs = function.get_input_details().values()
    if any(-1 in x["shape_signature"][:1] for x in inputs):
        return [given]
    batched = [name for name, array in given.items() if array.ndim]
    if not batched:
        return [given]
    return [
        given | {name: given[name][k : k + 1] for name in batched}
        for k in range(len(given[batched[0]]))
    ]


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
    arguments = dict(arguments)
    num_steps = int(arguments["num_steps"])
    x_t = arguments.pop("noise")
    remembers = "previous_estimate" in step.get_input_details()
    x_0, milliseconds = np.zeros_like(x_t), []
    for k in range(num_steps):
        if remembers:
            arguments["previous_estimate"] = x_0
        began = time.perf_counter()
        result = step(x_t=x_t, step=np.int32(k), **arguments)
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
