"""The formats of torch.save: a zip file, and formerly a row of pickles."""

import abc
import io
import os
import re
import struct
import zipfile

from keras_unet_diffusion.weights.torch_pickle import (
    MAX_PICKLE_BYTES,
    LimitedFile,
    TorchUnpickler,
)
from keras_unet_diffusion.weights.zip_archive import open_zip

# What files of PyTorch before 1.6 begin with: a pickle of this number.
_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
LEGACY_START = b"\x80\x02\x8a\n" + _MAGIC_NUMBER.to_bytes(10, "little") + b"."
_LEGACY_PROTOCOL = 1001


class TorchContainer(abc.ABC):
    """What torch.save wrote: an object, and the storages of its tensors.

    Attributes:
        root: the object; tensors in it are `TensorReference`s.
    """

    @abc.abstractmethod
    def read_storage(self, storage):
        """The bytes of a `Storage`."""


class ZipContainer(TorchContainer):
    """The format since PyTorch 1.6.

    Args:
        path: file.
    """

    def __init__(self, path):
        self._archive = open_zip(path)
        self._file_bytes = os.path.getsize(path)
        names = self._archive.namelist()
        pickles = [n for n in names if re.fullmatch(r"[^/]+/data\.pkl", n)]
        if len(pickles) != 1:
            raise ValueError(f"it has {len(pickles)} members NAME/data.pkl")
        self._prefix = pickles[0].removesuffix("data.pkl")
        # Files from before there was such a member are all little-endian.
        if self._prefix + "byteorder" in names:
            if self._read("byteorder", max_bytes=10) != b"little":
                raise ValueError("its numbers are not little-endian")
        program = self._read("data.pkl", max_bytes=MAX_PICKLE_BYTES)
        unpickler = TorchUnpickler(
            LimitedFile(io.BytesIO(program), len(program)), path
        )
        self.root = unpickler.load()
        for storage in unpickler.storages.values():
            num_bytes = self._member(f"data/{storage.key}").file_size
            if storage.num_bytes > num_bytes:
                raise ValueError(
                    f"a storage of {storage.num_bytes} bytes has {num_bytes}"
                )

    def _member(self, name):
        try:
            member = self._archive.getinfo(self._prefix + name)
        except KeyError:
            raise ValueError(f"it lacks the member {name[:50]}") from None
        if (
            member.compress_type != zipfile.ZIP_STORED
            or member.file_size != member.compress_size
        ):
            raise ValueError(
                f"its member {name[:50]} is compressed, unlike torch.save's"
            )
        if member.file_size > self._file_bytes:
            raise ValueError(f"its member {name[:50]} is larger than the file")
        return member

    def _read(self, name, max_bytes):
        member = self._member(name)
        if member.file_size > max_bytes:
            raise ValueError(
                f"its member {name} is of {member.file_size} bytes"
            )
        # Reading to the end compares zip's checksum.
        return self._archive.read(member)

    def read_storage(self, storage):
        return self._read(f"data/{storage.key}", max_bytes=self._file_bytes)


class LegacyContainer(TorchContainer):
    """The format before PyTorch 1.6, which has no checksums.

    The pickles of a magic number, a protocol number, facts about the machine,
    the object, and the keys of the storages; then for each of these their
    size as an int64, and their numbers.

    Args:
        path: file.
    """

    def __init__(self, path):
        self._path = path
        with open(path, "rb") as file:
            limited = LimitedFile(file, os.path.getsize(path))
            magic, protocol, machine = (
                TorchUnpickler(limited, path).load() for _ in range(3)
            )
            if magic != _MAGIC_NUMBER or protocol != _LEGACY_PROTOCOL:
                raise ValueError("it is of another version of PyTorch's format")
            if not (type(machine) is dict and machine.get("little_endian")):
                raise ValueError("its numbers are not little-endian")
            unpickler = TorchUnpickler(limited, path)
            self.root = unpickler.load()
            keys = TorchUnpickler(limited, path).load()
            self._starts = self._find(file, keys, unpickler.storages)

    def _find(self, file, keys, storages):
        """Where the numbers of each storage begin, by its key."""
        if type(keys) is not list or any(type(key) is not str for key in keys):
            raise ValueError("it has no list of storages")
        if len(set(keys)) != len(keys) or set(keys) != set(storages):
            raise ValueError("its list of storages is not of those it uses")
        starts = {}
        file_bytes = os.fstat(file.fileno()).st_size
        for key in keys:
            (size,) = struct.unpack("<q", file.read(8))
            if size != storages[key].size:
                raise ValueError(
                    f"a storage of {storages[key].size} numbers has {size}"
                )
            starts[key] = file.tell()
            if storages[key].num_bytes > file_bytes - starts[key]:
                raise ValueError("it is cut off")
            file.seek(storages[key].num_bytes, os.SEEK_CUR)
        return starts

    def read_storage(self, storage):
        with open(self._path, "rb") as file:
            file.seek(self._starts[storage.key])
            return file.read(storage.num_bytes)
