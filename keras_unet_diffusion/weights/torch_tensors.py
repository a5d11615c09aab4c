"""Tensors as PyTorch's pickles describe them, and what builds them.

`STAND_INS` lists all that a pickle may name. Each makes or ignores plain data.
"""

import dataclasses
import math

import ml_dtypes
import numpy as np

_MAX_DIMENSIONS = 32


@dataclasses.dataclass(frozen=True)
class Storage:
    """Numbers in a row that tensors are views of.

    Args:
        key: str, what the file calls it.
        dtype: numpy dtype.
        size: int, how many numbers.
    """

    key: str
    dtype: np.dtype
    size: int

    @property
    def num_bytes(self):
        """Its length, in bytes."""
        return self.size * self.dtype.itemsize


@dataclasses.dataclass(frozen=True)
class TensorReference:
    """A view of a storage, within its bounds.

    Args:
        storage: `Storage`.
        dtype: numpy dtype, of the tensor.
        offset: int, where it begins, in numbers of that type.
        shape: tuple of int.
        strides: tuple of int, steps between neighbours along each axis.
    """

    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple
    strides: tuple

    def view(self, data):
        """The array, read-only, given the bytes of the storage."""
        if 0 in self.shape:
            return np.empty(self.shape, self.dtype)
        size = len(data) // self.dtype.itemsize
        numbers = np.frombuffer(data, self.dtype, size)[self.offset :]
        strides = tuple(self.dtype.itemsize * s for s in self.strides)
        return np.lib.stride_tricks.as_strided(
            numbers, self.shape, strides, writeable=False
        )


def is_count(value):
    """Whether a value is a whole number from 0."""
    return type(value) is int and value >= 0


def _counts(values):
    if type(values) not in (tuple, list) or len(values) > _MAX_DIMENSIONS:
        raise ValueError("a tensor in it has no usable shape")
    if not all(map(is_count, values)):
        raise ValueError("a shape or stride in it is not of whole numbers")
    return tuple(values)


def _tensor(storage, offset, size, stride, dtype):
    """The tensor that these arguments describe, if its storage holds it."""
    shape, strides = _counts(size), _counts(stride)
    if not isinstance(storage, Storage) or not is_count(offset):
        raise ValueError("a tensor in it has no storage")
    if len(shape) != len(strides):
        raise ValueError("a tensor in it has no usable strides")
    available = storage.num_bytes // dtype.itemsize
    steps = zip(shape, strides, strict=True)
    last = offset + sum((n - 1) * step for n, step in steps)
    # A stride of 0 could repeat one number without end.
    if math.prod(shape) > available or (0 not in shape and last >= available):
        raise ValueError(
            f"a tensor of the shape {shape} exceeds its storage of {available}"
        )
    return TensorReference(storage, dtype, offset, shape, strides)


def _rebuild_tensor(storage, offset, size, stride, *_):
    return _tensor(storage, offset, size, stride, storage.dtype)


def _rebuild_tensor_v2(
    storage, offset, size, stride, requires_grad, hooks, metadata=None
):
    if metadata:
        raise ValueError("a tensor in it is a conjugate or negated view")
    return _rebuild_tensor(storage, offset, size, stride)


def _rebuild_tensor_v3(
    storage, offset, size, stride, requires_grad, hooks, dtype, metadata=None
):
    if metadata or not isinstance(dtype, np.dtype):
        raise ValueError("a tensor in it is of no plain type")
    return _tensor(storage, offset, size, stride, dtype)


def _rebuild_parameter(data, *_):
    return data


def _rebuild_from_type(function, kind, arguments, state):
    if function not in (_rebuild_tensor_v2, _rebuild_tensor_v3):
        raise ValueError("a tensor in it is made by no function of tensors")
    return function(*arguments)


def _ordered_dict(pairs=()):
    # It is filled later. To copy a list here, again and again, would need
    # memory without bounds.
    if pairs:
        raise ValueError("a dict in it was written by Python 2")
    return {}


def _ignored(*_):
    """Stands for what is of no use here, such as numpy's scalars."""
    return None


_NUMBER_TYPES = {
    # Type of number -> its storage, unless that has no type.
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
    "uint64": None,
    "uint32": None,
    "uint16": None,
}


def _little_endian(name):
    if name == "bfloat16":
        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name).newbyteorder("<")


# (module, name) -> what is used in its place: a function, a type of number, or
# None where it only names a class.
STAND_INS = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("torch", "Size"): _counts,
    ("torch", "Tensor"): None,
    ("torch", "device"): _ignored,
    ("torch._tensor", "_rebuild_from_type_v2"): _rebuild_from_type,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor_v2,
    ("torch._utils", "_rebuild_tensor_v3"): _rebuild_tensor_v3,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _rebuild_parameter,
    ("torch.nn.parameter", "Parameter"): None,
    ("torch.storage", "UntypedStorage"): np.dtype("uint8"),
    ("numpy", "dtype"): _ignored,
    ("numpy.core.multiarray", "scalar"): _ignored,
    ("numpy._core.multiarray", "scalar"): _ignored,
    ("_codecs", "encode"): _ignored,
}
for _name, _storage in _NUMBER_TYPES.items():
    STAND_INS["torch", _name] = _little_endian(_name)
    if _storage:
        STAND_INS["torch", _storage] = _little_endian(_name)
