"""Runs ONNX files with onnxruntime and numpy alone.

    run_onnx.py FOLDER SIGNATURE INPUTS.npz OUTPUTS.npz ...

A program of its own: neither TensorFlow nor the package that wrote the files
can be imported. The folder holds a file for each signature. The last three
arguments may be repeated, see `serving.py`.
"""

import sys
from pathlib import Path

for name in ("keras_unet_diffusion", "tensorflow", "keras", "tf2onnx"):
    sys.modules[name] = None  # importing it now raises

import onnxruntime  # noqa: E402
from serving import Signature, serve  # noqa: E402


def open_signature(folder):
    def signature(name):
        session = onnxruntime.InferenceSession(
            Path(folder, f"{name}.onnx"), providers=["CPUExecutionProvider"]
        )
        names = [x.name for x in session.get_outputs()]
        return Signature(
            lambda given: dict(
                zip(names, session.run(names, given), strict=True)
            ),
            [x.name for x in session.get_inputs()],
        )

    return signature


serve(open_signature)
