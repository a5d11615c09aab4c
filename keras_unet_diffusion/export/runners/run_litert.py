"""Runs signatures of a LiteRT file with ai-edge-litert and numpy alone.

    run_litert.py ARTIFACT SIGNATURE INPUTS.npz OUTPUTS.npz ...

A program of its own: neither TensorFlow nor the package that wrote the
artifact can be imported. The last three arguments may be repeated, see
`serving.py`. Inputs hold a batch; files of one image at a time are called for
each.
"""

import sys

for name in ("keras_unet_diffusion", "tensorflow", "keras"):
    sys.modules[name] = None  # importing it now raises

from ai_edge_litert.interpreter import Interpreter  # noqa: E402
from serving import Signature, serve  # noqa: E402


def open_signature(artifact):
    interpreter = Interpreter(artifact)

    def signature(name):
        function = interpreter.get_signature_runner(name)
        inputs = function.get_input_details()
        shapes = [x["shape_signature"] for x in inputs.values()]
        takes_batches = any(-1 in shape[:1] for shape in shapes)
        return Signature(
            lambda given: function(**given),
            inputs,
            (lambda given: [given]) if takes_batches else each_image,
        )

    return signature


def each_image(given):
    """The inputs of one call after the other."""
    batched = [name for name, array in given.items() if array.ndim]
    if not batched:
        return [given]
    return [
        given | {name: given[name][k : k + 1] for name in batched}
        for k in range(len(given[batched[0]]))
    ]


serve(open_signature)
