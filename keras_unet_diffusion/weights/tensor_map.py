"""One tensor of a checkpoint and the variables that hold it, both ways."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from keras import ops


@dataclass(frozen=True)
class Transform:
    """A permutation of numbers between a tensor and one or more variables.

    Nothing is computed, so that going there and back is exact to the bit.

    Args:
        to_keras: function of the tensor that returns a tuple of arrays, one
            for each variable.
        from_keras: its inverse, a function of as many arrays.
    """

    to_keras: Callable
    from_keras: Callable


def _reordered(to_keras, from_keras):
    """A transform of one tensor into one variable by two axis orders."""
    return Transform(
        lambda tensor: (np.transpose(tensor, to_keras),),
        lambda array: np.transpose(array, from_keras),
    )


UNCHANGED = Transform(lambda tensor: (tensor,), lambda array: array)
# PyTorch stores [out, in, height, width], Keras [height, width, in, out].
CONV = _reordered((2, 3, 1, 0), (3, 2, 0, 1))
# PyTorch stores [out, in], Keras [in, out].
DENSE = _reordered((1, 0), (1, 0))
# TensorFlow 1's "network in network" is a 1x1 convolution kept as a matrix.
NIN = Transform(lambda tensor: (tensor[None, None],), lambda array: array[0, 0])

# Axes of the rows of a fused projection of query, key and value: 3 of them,
# H heads, c channels per head.
QKV_ORDERS = {
    "legacy": ("heads", "three", "channels"),
    "new": ("three", "heads", "channels"),
    "interleaved": ("heads", "channels", "three"),
}


def qkv_rows(order, num_heads, channels):
    """Rows of a fused projection that hold the query, the key and the value.

    Args:
        order: str, "legacy" (rows run over heads, then query/key/value, then
            the channels of a head), "new" (query/key/value, heads, channels)
            or "interleaved" (heads, channels, query/key/value).
        num_heads: int that divides `channels`.
        channels: int, channels of the query (as of the key and the value).

    Returns:
        int array of shape `(3, channels)`: row `[i, j]` of the fused tensor
        is channel `j` of the query (i = 0), the key (1) or the value (2),
        heads being contiguous.

    Raises:
        ValueError: an unknown order.
    """
    if order not in QKV_ORDERS:
        raise ValueError(
            "There is no such order of the rows of query, key and value. "
            f"Received: qkv_order={order!r}. Choose one of "
            f"{', '.join(QKV_ORDERS)}."
        )
    axes = QKV_ORDERS[order]
    sizes = {
        "three": 3,
        "heads": num_heads,
        "channels": channels // num_heads,
    }
    rows = np.arange(3 * channels).reshape([sizes[axis] for axis in axes])
    wanted = [axes.index(axis) for axis in QKV_ORDERS["new"]]
    return rows.transpose(wanted).reshape(3, channels)


def qkv_bias(rows):
    """The transform of a fused bias `[3 * channels]` into three biases."""

    def join(*biases):
        fused = np.empty(rows.size, biases[0].dtype)
        fused[rows] = np.stack(biases)
        return fused

    return Transform(lambda fused: tuple(fused[rows]), join)


def qkv_kernel(rows, num_dimensions):
    """The transform of a fused kernel into three kernels `[in, out]`.

    Args:
        rows: see `qkv_rows`.
        num_dimensions: int, of the fused tensor, `[3 * channels, channels]`
            and as many ones as it takes (3: Conv1D, 4: Conv2D).
    """
    ones = (1,) * (num_dimensions - 2)

    def split(fused):
        fused = fused.reshape(fused.shape[:2])
        return tuple(fused[part].T for part in rows)

    def join(*kernels):
        fused = np.empty((rows.size, kernels[0].shape[0]), kernels[0].dtype)
        fused[rows] = np.stack([kernel.T for kernel in kernels])
        return fused.reshape(*fused.shape, *ones)

    return Transform(split, join)


def pointwise(num_dimensions):
    """The transform of a 1x1 convolution `[out, in, 1, ...]` into `[in, out]`.

    Args:
        num_dimensions: int, of the tensor (3: Conv1D, 4: Conv2D).
    """
    ones = (1,) * (num_dimensions - 2)
    return Transform(
        lambda tensor: (tensor.reshape(tensor.shape[:2]).T,),
        lambda kernel: kernel.T.reshape(*kernel.T.shape, *ones),
    )


class TensorEntry:
    """One tensor of a checkpoint that is held by variables of the network.

    Args:
        name: str, name of the tensor in the checkpoint.
        variables: a Keras variable or a sequence of them.
        transform: `Transform` between the tensor and these variables.
    """

    def __init__(self, name, variables, transform=UNCHANGED):
        self.name = name
        if not isinstance(variables, tuple | list):
            variables = (variables,)
        self.variables = tuple(variables)
        self.transform = transform

    @property
    def shape(self):
        """Shape of the tensor in the checkpoint, a tuple of int."""
        nothing = np.float32(0)  # Broadcast: takes no memory of its own.
        arrays = [np.broadcast_to(nothing, v.shape) for v in self.variables]
        return self.transform.from_keras(*arrays).shape

    def to_keras(self, tensor):
        """The values of the variables, a tuple of arrays."""
        return self.transform.to_keras(tensor)

    def from_keras(self):
        """The tensor that the variables hold now, a float32 array."""
        arrays = [
            np.asarray(ops.convert_to_numpy(v), "float32")
            for v in self.variables
        ]
        return np.asarray(self.transform.from_keras(*arrays), order="C")


class ConstantEntry:
    """One tensor of a checkpoint that the architecture already determines.

    A checkpoint with another value is of another network.

    Args:
        name: str, name of the tensor in the checkpoint.
        value: array.
    """

    def __init__(self, name, value):
        self.name = name
        self.variables = ()
        self.value = np.asarray(value, "float32")

    @property
    def shape(self):
        """Shape of the tensor in the checkpoint, a tuple of int."""
        return self.value.shape

    def to_keras(self, tensor):
        """Nothing; raises a `ValueError` if the checkpoint says otherwise."""
        if not np.array_equal(tensor, self.value):
            raise ValueError(
                f"The constant tensor {self.name} of the checkpoint is not "
                f"the one of the network. Received: {tensor.ravel()}, where "
                f"the network has {self.value.ravel()}. Build the network "
                "with the checkpoint's resampling_kernel."
            )
        return ()

    def from_keras(self):
        """The constant, a float32 array."""
        return self.value
