"""Runs a signature of a SavedModel with TensorFlow alone.

    run_saved_model.py ARTIFACT SIGNATURE INPUTS.npz OUTPUTS.npz

A program of its own: the package that wrote the artifact cannot be imported.
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
    artifact, signature, inputs, outputs = sys.argv[1:]
    with np.load(inputs) as arrays:
        arguments = {name: tf.constant(arrays[name]) for name in arrays}
    function = tf.saved_model.load(artifact).signatures[signature]
    (output,) = function(**arguments).values()
    milliseconds = []
    for _ in range(5):
        began = time.perf_counter()
        function(**arguments)
        milliseconds.append(1000 * (time.perf_counter() - began))
        if sum(milliseconds) > ENOUGH_MILLISECONDS:
            break
    np.savez(
        outputs,
        output=output.numpy(),
        milliseconds=statistics.median(milliseconds),
    )


main()
