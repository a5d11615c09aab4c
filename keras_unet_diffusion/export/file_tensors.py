"""What the signatures of LiteRT and ONNX files take and return."""

import numpy as np
from ai_edge_litert.interpreter import Interpreter

_ONNX_TYPES = {"tensor(float)": "float32", "tensor(int32)": "int32"}


def litert_tensors(path):
    """Reads the shapes of all signatures of a LiteRT file.

    Args:
        path: of the file.

    Returns:
        Dict by signature of a pair, inputs and outputs: dicts by name of the
        shape, None where dynamic, and the name of the dtype.
    """
    interpreter = Interpreter(str(path))
    tensors = {}
    for name in interpreter.get_signature_list():
        runner = interpreter.get_signature_runner(name)
        tensors[name] = (
            _described(runner.get_input_details()),
            _described(runner.get_output_details()),
        )
    return tensors


def _described(details):
    return {
        name: (
            tuple(
                None if size < 0 else int(size)
                for size in tensor["shape_signature"]
            ),
            np.dtype(tensor["dtype"]).name,
        )
        for name, tensor in sorted(details.items())
    }


def onnx_tensors(path):
    """Reads the shapes of an ONNX file.

    Args:
        path: of the file.

    Returns:
        A pair like those of `litert_tensors`.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(path), providers=["CPUExecutionProvider"]
    )
    return tuple(
        {
            tensor.name: (
                # Names are given to what is dynamic.
                tuple(x if isinstance(x, int) else None for x in tensor.shape),
                _ONNX_TYPES[tensor.type],
            )
            for tensor in tensors
        }
        for tensors in (session.get_inputs(), session.get_outputs())
    )
