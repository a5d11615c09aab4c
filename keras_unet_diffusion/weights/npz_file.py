"""Checkpoints as numpy's .npz files."""

import math
import os
import zipfile

import numpy as np
from numpy.lib import format as npy_format

from keras_unet_diffusion.weights.checkpoint import (
    Checkpoint,
    as_written,
    refusing_damage,
)
from keras_unet_diffusion.weights.zip_archive import new_zip, open_zip

_SUFFIX = ".npy"
# Others of zip's methods unpack a whole block whatever size was declared.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# Arrays may be this many times the size of a compressed file: weights shrink
# by a tenth, but those of an untrained network are largely zeros ...
_MAX_COMPRESSION = 16
# ... as a small network's may be wholly.
_ALWAYS_ALLOWED_BYTES = 64 * 2**20


class NpzFile(Checkpoint):
    """A .npz file, compressed or not.

    Args:
        path: file.
    """

    remedy = "Write it by np.savez(path, **arrays), or fetch it again."

    def __init__(self, path):
        with refusing_damage(path, self.remedy):
            self._archive = open_zip(path)
            members = self._archive.infolist()
            unpacked = sum(member.file_size for member in members)
            limit = _MAX_COMPRESSION * os.path.getsize(path)
            if unpacked > max(limit, _ALWAYS_ALLOWED_BYTES):
                raise ValueError(f"it would unpack to {unpacked} bytes")
            self._headers = {
                member.filename.removesuffix(_SUFFIX): self._header(member)
                for member in members
            }
        shapes = {name: header[1] for name, header in self._headers.items()}
        super().__init__(path, shapes)

    def _header(self, member):
        """Member, shape, whether columns come first, type, start of data."""
        name = member.filename
        if not name.endswith(_SUFFIX):
            raise ValueError(f"{name!r} in it is no array")
        if member.compress_type not in _METHODS:
            raise ValueError(f"{name!r} is compressed by an unusual method")
        with self._archive.open(member) as file:
            version = npy_format.read_magic(file)
            if version == (1, 0):
                header = npy_format.read_array_header_1_0(file)
            elif version == (2, 0):
                header = npy_format.read_array_header_2_0(file)
            else:
                raise ValueError(f"{name!r} is of the npy version {version}")
            start = file.tell()
        shape, columns_first, dtype = header
        if dtype.kind not in "biuf":
            raise ValueError(f"{name!r} is of the type {dtype}")
        if min(shape, default=0) < 0:
            raise ValueError(f"{name!r} is of the shape {shape}")
        if start + math.prod(shape) * dtype.itemsize != member.file_size:
            raise ValueError(
                f"{name!r} is of the shape {shape} but has "
                f"{member.file_size - start} bytes"
            )
        return member, shape, columns_first, dtype, start

    def _read(self, name):
        member, shape, columns_first, dtype, start = self._headers[name]
        # Reading to the end compares zip's checksum.
        data = self._archive.read(member)
        array = np.frombuffer(data, dtype, offset=start)
        return array.reshape(shape, order="F" if columns_first else "C")


def write_npz(path, tensors):
    """Writes arrays as a .npz file, replacing one that is there.

    Unlike `np.savez` it takes any name, "file" too.

    Args:
        path: file.
        tensors: dict of float32 arrays by name.

    Raises:
        ValueError: there is nothing to write, or something else than that.

    Example:

    ```python
    write_npz("model.npz", {"conv_in.bias": bias})
    ```
    """
    tensors = as_written(tensors)
    with new_zip(path) as archive:
        for name, array in tensors.items():
            with archive.open(name + _SUFFIX, "w", force_zip64=True) as file:
                npy_format.write_array(file, array, allow_pickle=False)
