"""ONNX files of the denoiser and of a step, for onnxruntime and others."""

import contextlib
import os
from pathlib import Path

import numpy as np

from keras_unet_diffusion.export.signatures import denoise_function
from keras_unet_diffusion.export.step import step_function
from keras_unet_diffusion.files import written_whole

OPSET = 17
# What dynamic sizes of images are called.
_SIZES = ("batch", "height", "width")


def write_onnx(folder, network, process, image_shape):
    """Writes `denoise.onnx` and `step.onnx`; batch sizes are dynamic.

    There is no `generate`: a host loops over `step`, see `step_function`.
    Needs `tf2onnx` (`pip install keras_unet_diffusion[export]`).

    Args:
        folder: where the files shall be; each appears whole or not at all.
        network: a float32 `keras.Model`, see `rebuild_in_float32`.
        process: the `DiffusionProcess` that it was trained with.
        image_shape: `(height, width, channels)`; None for a height and width
            that are dynamic, if the network is of any size.

    Returns:
        Opset of the files, int.

    Raises:
        ValueError: `tf2onnx` is not installed, or an operation has no
            equivalent in ONNX.
    """
    batch_shape = (None, *image_shape)
    functions = {
        "denoise": denoise_function(network, batch_shape),
        # Nothing rounds tables here, and ONNX knows no bits of numbers.
        "step": step_function(network, process, batch_shape, as_bits=False),
    }
    for name, function in functions.items():
        data = _convert(function)
        with written_whole(Path(folder, f"{name}.onnx")) as temporary:
            temporary.write_bytes(data)
    return OPSET


def _convert(function):
    """The bytes of an ONNX file of a `tf.function` with a signature."""
    try:
        import onnx
        import tf2onnx
    except ImportError as error:
        raise ValueError(
            "ONNX files are made by tf2onnx. Received: an environment without "
            "it. Install it: pip install 'keras_unet_diffusion[export]'."
        ) from error
    with _in_place():
        model, _ = tf2onnx.convert.from_function(
            function,
            function.input_signature,
            opset=OPSET,
            custom_op_handlers={"Bitcast": (_float_of_bits, [])},
        )
    _check_operations(model)
    for tensor in (*model.graph.input, *model.graph.output):
        # Not "unk__12", which tf2onnx calls sizes that are dynamic.
        for dimension, size in zip(
            tensor.type.tensor_type.shape.dim, _SIZES, strict=False
        ):
            if dimension.dim_param:
                dimension.dim_param = size
    onnx.checker.check_model(model)
    return model.SerializeToString()


@contextlib.contextmanager
def _in_place():
    """Has tf2onnx optimize the graph that it has.

    Not a copy, weights included, for each of its fifteen optimizations: a
    quarter of the time and most of the memory. An optimization that fails then
    ends the export, instead of being left out.
    """
    name = "TF2ONNX_CATCH_ERRORS"
    before = os.environ.get(name)
    os.environ[name] = "FALSE"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _check_operations(model):
    import onnx

    unknown = {
        node.op_type
        for node in model.graph.node
        if node.domain not in ("", "ai.onnx") or not onnx.defs.has(node.op_type)
    }
    if unknown:
        raise ValueError(
            "The network cannot be written with the operations of ONNX. "
            f"Received: a network with {', '.join(sorted(unknown))}. Leave "
            "out the layers that need them."
        )


def _float_of_bits(graph, node, name, _):
    """Puts in what ONNX has in place of `tf.bitcast` to float32.

    The waves of the noise level are stored as bits. Of numbers that are finite
    and not below 2**-126; others become 0.
    """
    import onnx
    from tf2onnx import utils

    (bits,) = node.input
    shapes, dtypes = node.output_shapes, node.output_dtypes
    is_known = (
        graph.get_dtype(bits) == onnx.TensorProto.INT32
        and dtypes[0] == onnx.TensorProto.FLOAT
    )
    if not is_known:
        raise ValueError(
            "Only int32 numbers are taken for the bits of float32 ones. "
            f"Received: a Bitcast named {name}. Leave its layer out."
        )

    def constant(value, dtype):
        value = np.array(value, dtype)
        return graph.make_const(utils.make_name(name), value).output[0]

    def make(kind, *inputs, **attributes):
        return graph.make_node(kind, list(inputs), attr=attributes).output[0]

    is_negative = make("Less", bits, constant(0, "int32"))
    without_sign = make("Sub", bits, constant(-(2**31), "int32"))
    magnitude = make("Where", is_negative, without_sign, bits)
    exponent = make("Div", magnitude, constant(2**23, "int32"))
    high = make("Mul", exponent, constant(2**23, "int32"))
    mantissa = make("Sub", magnitude, high)
    whole = make("Add", mantissa, constant(2**23, "int32"))
    # IEEE 754: (2**23 + mantissa) * 2**(exponent - 127 - 23).
    powers = np.exp2(np.arange(256) - 150.0)
    powers[[0, 255]] = 0
    scale = make("Gather", constant(powers, "float32"), exponent)
    signs = (constant(sign, "float32") for sign in (-1, 1))
    scale = make("Mul", scale, make("Where", is_negative, *signs))
    whole = make("Cast", whole, to=onnx.TensorProto.FLOAT)
    graph.remove_node(name)
    graph.make_node(
        "Mul",
        [whole, scale],
        name=name,
        outputs=node.output,
        shapes=shapes,
        dtypes=dtypes,
    )
