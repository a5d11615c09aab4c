"""Runs a signature of a LiteRT file with ai-edge-litert and numpy alone.

    run_litert.py ARTIFACT SIGNATURE INPUTS.npz OUTPUTS.npz

A program of its own: neither TensorFlow nor the package that wrote the
artifact can be imported. Inputs hold a batch; the file takes one at a time.
"""

import statistics
import sys
import time

for name in ("keras_unet_diffusion", "tensorflow", "keras"):
    sys.modules[name] = None  # importing it now raises

import numpy as np  # noqa: E402
from ai_edge_litert.interpreter import Interpreter  # noqa: E402


def main():
    artifact, signature, inputs, outputs = sys.argv[1:]
    with np.load(inputs) as arrays:
        batch = {name: arrays[name] for name in arrays}
    runner = Interpreter(artifact).get_signature_runner(signature)
    rows, milliseconds = [], []
    for k in range(len(batch["noise_level"])):
        arguments = {name: array[k : k + 1] for name, array in batch.items()}
        (row,) = runner(**arguments).values()
        rows.append(row)
        began = time.perf_counter()
        runner(**arguments)
        milliseconds.append(1000 * (time.perf_counter() - began))
    np.savez(
        outputs,
        output=np.concatenate(rows),
        milliseconds=statistics.median(milliseconds),
    )


main()
