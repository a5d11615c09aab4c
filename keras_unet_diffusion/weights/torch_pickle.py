"""Reading a pickle of PyTorch without running it.

A pickle is a program that may call any function of any installed module. Here
it finds stand-ins for the few that a dict of tensors needs; another name ends
the reading.
"""

import pickle
import types

import numpy as np

from keras_unet_diffusion.weights.checkpoint import CheckpointError
from keras_unet_diffusion.weights.torch_tensors import (
    STAND_INS,
    Storage,
    is_count,
)

# A checkpoint of 1,000 tensors takes 0.1 MB and 60,000 reads.
MAX_PICKLE_BYTES = 64 * 2**20
# An object of 100 bytes can come of one read.
_MAX_READS = 2 * 10**6
_MAX_NESTING = 100
_MAX_LINE_BYTES = 1000

_SAFE_REMEDY = (
    "If you trust it, load it in PyTorch and save its state_dict as a "
    ".safetensors file."
)
_EDM_REMEDY = (
    "A pickle of EDM brings its own source code. If you trust it, load it "
    "once in PyTorch with EDM's repository on the path and save "
    "ema.state_dict() by safetensors.torch.save_file."
)


class LimitedFile:
    """A binary file of which a pickle is read, in bounds.

    Args:
        file: what to read of, from where it stands.
        num_bytes: int, how much is left in it.
    """

    def __init__(self, file, num_bytes):
        self._file = file
        self._bytes_left = min(num_bytes, MAX_PICKLE_BYTES)
        self._reads_left = _MAX_READS

    def _spend(self, num_bytes):
        # First, because a file allocates what it is asked for.
        if num_bytes > self._bytes_left:
            raise ValueError("the pickle in it is cut off or too long")
        self._bytes_left -= num_bytes
        self._reads_left -= 1
        if self._reads_left < 0:
            raise ValueError("the pickle in it has too many objects")

    def read(self, num_bytes):
        """Exactly that many bytes."""
        self._spend(num_bytes)
        return self._file.read(num_bytes)

    def readline(self):
        """Bytes up to the end of a line, which no name exceeds."""
        line = self._file.readline(min(self._bytes_left, _MAX_LINE_BYTES))
        if not line.endswith(b"\n"):
            raise ValueError("a name in the pickle in it is too long")
        self._spend(len(line))
        return line


# What PyTorch writes, in protocols 2 to 5, and nothing that allocates by a
# declared length, makes an instance of a class or calls by itself.
_OPCODES = (
    "PROTO STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 "
    "BINFLOAT SHORT_BINSTRING BINSTRING BINUNICODE SHORT_BINUNICODE "
    "BINBYTES SHORT_BINBYTES EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 "
    "EMPTY_LIST APPEND APPENDS EMPTY_DICT BINPUT LONG_BINPUT MEMOIZE BINGET "
    "LONG_BINGET GLOBAL STACK_GLOBAL BINPERSID"
)


def _set_item(target, key, value):
    # Nested tuples may take forever to hash, and larger numbers can collide.
    is_short = type(key) is int and abs(key) < 2**60
    if type(target) is not dict or not (is_short or type(key) is str):
        raise ValueError("a dict in it has unusual keys")
    target[key] = value


class TorchUnpickler(pickle._Unpickler):
    """Reads a pickle of tensors without running anything from it.

    It is built on the standard library's unpickler in Python: that in C
    allocates a memo as long as the largest index that a pickle names.

    Args:
        file: `LimitedFile`.
        path: the checkpoint, for errors.
    """

    dispatch = {
        getattr(pickle, name)[0]: pickle._Unpickler.dispatch[
            getattr(pickle, name)[0]
        ]
        for name in _OPCODES.split()
    }

    def __init__(self, file, path):
        super().__init__(file, encoding="utf-8")
        self._path = path
        # Every storage that was named, by its key.
        self.storages = {}

    def load(self):
        """The object that the pickle describes."""
        try:
            return super().load()
        except KeyError as error:  # of `dispatch`
            raise ValueError(
                "the pickle in it does more than describe tensors: opcode "
                f"{error}"
            ) from None

    def find_class(self, module, name):
        """What stands for a function or type of PyTorch."""
        if (module, name) in STAND_INS:
            return STAND_INS[module, name]
        of_edm = module.split(".")[0] in ("torch_utils", "dnnlib")
        raise CheckpointError(
            f"The file asks for {f'{module}.{name}'[:200]}, which is no part "
            "of a dict of tensors; nothing was run",
            self._path,
            _EDM_REMEDY if of_edm else _SAFE_REMEDY,
        )

    def persistent_load(self, pid):
        """The `Storage` that a tensor names."""
        if type(pid) is not tuple or len(pid) not in (5, 6):
            raise ValueError("the pickle in it refers to no storage")
        kind, dtype, key, _, size, *view = pid
        if (
            type(kind) is not str
            or kind != "storage"
            or not isinstance(dtype, np.dtype)
            or type(key) is not str
            or not is_count(size)
            or any(part is not None for part in view)
        ):
            raise ValueError("the pickle in it refers to no plain storage")
        storage = Storage(key, dtype, size)
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError(f"the storage {key[:50]} is of two lengths")
        return storage

    def load_frame(self):
        # Frames are a hint on reading ahead, past what is counted.
        self.read(8)

    dispatch[pickle.FRAME[0]] = load_frame

    def load_mark(self):
        if len(self.metastack) >= _MAX_NESTING:
            raise ValueError("the pickle in it is nested too deeply")
        super().load_mark()

    dispatch[pickle.MARK[0]] = load_mark

    def load_setitem(self):
        value, key = self.stack.pop(), self.stack.pop()
        _set_item(self.stack[-1], key, value)

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self):
        items = iter(self.pop_mark())
        for key, value in zip(items, items, strict=True):
            _set_item(self.stack[-1], key, value)

    dispatch[pickle.SETITEMS[0]] = load_setitems

    def load_reduce(self):
        arguments, function = self.stack.pop(), self.stack.pop()
        # Only `find_class` puts functions there, and they are those above.
        if not isinstance(function, types.FunctionType):
            raise ValueError("the pickle in it calls what is no function")
        self.append(function(*arguments))

    dispatch[pickle.REDUCE[0]] = load_reduce

    def load_build(self):
        # Attributes, as PyTorch gives to a state_dict, are of no use here.
        self.stack.pop()
        if self.stack[-1] is not None and type(self.stack[-1]) is not dict:
            raise ValueError("the pickle in it changes what is no dict")

    dispatch[pickle.BUILD[0]] = load_build
