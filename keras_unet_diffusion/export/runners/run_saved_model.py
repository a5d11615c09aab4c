"""Runs signatures of a SavedModel with TensorFlow alone.

    run_saved_model.py ARTIFACT SIGNATURE INPUTS.npz OUTPUTS.npz ...

A program of its own: the package that wrote the artifact cannot be imported.
The last three arguments may be repeated, see `serving.py`.
"""

import os
import sys

sys.modules["keras_unet_diffusion"] = None  # importing it now raises

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf  # noqa: E402
from serving import Signature, serve  # noqa: E402


def open_signature(artifact):
    model = tf.saved_model.load(artifact)

    def signature(name):
        function = model.signatures[name]

        def call(given):
            tensors = {key: tf.constant(x) for key, x in given.items()}
            return {key: x.numpy() for key, x in function(**tensors).items()}

        return Signature(call, function.structured_input_signature[1])

    return signature


serve(open_signature)
