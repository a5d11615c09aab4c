"""What all runners do: read inputs, call and time a signature, write outputs.

Like them it stands alone: it imports numpy and nothing of the package.
"""

import statistics
import sys
import time

import numpy as np

# Large networks are not called five times to be timed.
ENOUGH_MILLISECONDS = 5000


def serve(open_signature):
    """Runs what the command line asks for.

    It names an artifact and, for each call, a signature, a file of inputs and
    a file for the outputs. Of `step`, the loop is run: inputs are `noise`,
    `num_steps` and what else a step takes.

    Args:
        open_signature: function of the artifact's path that returns a function
            of a signature's name to a `Signature`.
    """
    artifact, *calls = sys.argv[1:]
    signature_of = open_signature(artifact)
    for name, inputs, outputs in zip(*[iter(calls)] * 3, strict=True):
        with np.load(inputs) as arrays:
            given = {key: arrays[key] for key in arrays}
        signature = signature_of(name)
        run = _sample if name == "step" else _call
        images, milliseconds = [], []
        for arguments in signature.split(given):
            output, times = run(signature, arguments)
            images.append(output)
            milliseconds += times
        np.savez(
            outputs,
            output=np.concatenate(images),
            milliseconds=statistics.median(milliseconds),
            peak_bytes=_peak_bytes(),
        )


class Signature:
    """A function of an artifact.

    Args:
        function: function of a dict of arrays to a dict of arrays.
        input_names: collection of str.
        split: function of the inputs to a list of the inputs of single calls.
    """

    def __init__(self, function, input_names, split=lambda given: [given]):
        self.function = function
        self.input_names = input_names
        self.split = split


def _call(signature, arguments):
    """The output of a function, and times of calls after the first."""
    (output,) = signature.function(arguments).values()
    milliseconds = []
    for _ in range(5):
        _, spent = _timed(signature, arguments)
        milliseconds.append(spent)
        if sum(milliseconds) > ENOUGH_MILLISECONDS:
            break
    return output, milliseconds


def _sample(signature, arguments):
    """The images that a host's loop makes, and the times of its steps."""
    given = dict(arguments)
    x_t = given.pop("noise")
    remembers = "previous_estimate" in signature.input_names
    x_0, milliseconds = np.zeros_like(x_t), []
    for k in range(int(given["num_steps"])):
        if remembers:
            given["previous_estimate"] = x_0
        now = given | {"x_t": x_t, "step": np.array(k, "int32")}
        results, spent = _timed(signature, now)
        x_t, x_0 = results["x_next"], results["x_0"]
        milliseconds.append(spent)
    return x_t, milliseconds[1:] or milliseconds


def _timed(signature, arguments):
    began = time.perf_counter()
    results = signature.function(arguments)
    return results, 1000 * (time.perf_counter() - began)


def _peak_bytes():
    """The most memory that this process has had so far; 0 if unknown."""
    try:
        with open("/proc/self/status") as file:
            lines = [x.split() for x in file if x.startswith("VmHWM:")]
    except OSError:  # Only Linux tells.
        return 0
    return 1024 * int(lines[0][1])
