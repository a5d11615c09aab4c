"""Runs ONNX files with onnxruntime and numpy alone.

    run_onnx.py FOLDER SIGNATURE INPUTS.npz OUTPUTS.npz ...

A program of its own: neither TensorFlow nor the package that wrote the files
can be imported. The folder holds a file for each signature. The last three
arguments may be repeated. Of `step`, it runs the loop: inputs are `noise`,
`num_steps` and what else a step takes.
"""

import statistics
import sys
import time
from pathlib import Path

for name in ("keras_unet_diffusion", "tensorflow", "keras", "tf2onnx"):
    sys.modules[name] = None  # importing it now raises

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402

# Large networks are not called five times to be timed.
ENOUGH_MILLISECONDS = 5000


def main():
    folder, *calls = sys.argv[1:]
    for signature, inputs, outputs in zip(*[iter(calls)] * 3, strict=True):
        with np.load(inputs) as arrays:
            arguments = {name: arrays[name] for name in arrays}
        session = onnxruntime.InferenceSession(
            Path(folder, f"{signature}.onnx"),
            providers=["CPUExecutionProvider"],
        )
        run = sample if signature == "step" else call
        output, milliseconds = run(session, arguments)
        np.savez(
            outputs,
            output=output,
            milliseconds=statistics.median(milliseconds),
            peak_bytes=peak_bytes(),
        )


def call(session, arguments):
    """The output of a file, and times of calls after the first."""
    (output,) = session.run(None, arguments)
    milliseconds = []
    for _ in range(5):
        began = time.perf_counter()
        session.run(None, arguments)
        milliseconds.append(1000 * (time.perf_counter() - began))
        if sum(milliseconds) > ENOUGH_MILLISECONDS:
            break
    return output, milliseconds


def sample(session, arguments):
    """The images that a host's loop makes, and the times of its steps."""
    num_steps = int(arguments["num_steps"])
    x_t = arguments.pop("noise")
    remembers = any(x.name == "previous_estimate" for x in session.get_inputs())
    x_0, milliseconds = np.zeros_like(x_t), []
    for k in range(num_steps):
        if remembers:
            arguments["previous_estimate"] = x_0
        now = arguments | {"x_t": x_t, "step": np.array(k, "int32")}
        began = time.perf_counter()
        x_t, x_0 = session.run(["x_next", "x_0"], now)
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
