"""Reading and writing zip files, which .npz and .pt files are."""

import contextlib
import os
import struct
import zipfile

from keras_unet_diffusion.files import written_whole

ZIP_START = b"PK\x03\x04"
_END_START = b"PK\x05\x06"
_END_BYTES = 22
# In its place, a table further up has the count, which fits in two bytes
# for any checkpoint.
_NO_COUNT = 0xFFFF


def open_zip(path):
    """Opens a zip file and checks that its list of members is whole.

    `zipfile` reads a damaged list as far as it goes, without an error.

    Args:
        path: file.

    Returns:
        `zipfile.ZipFile`.

    Raises:
        ValueError: the list is not whole.
        zipfile.BadZipFile: the file is no zip file.
    """
    archive = zipfile.ZipFile(path)
    with open(path, "rb") as file:
        file.seek(-_END_BYTES, os.SEEK_END)
        end = file.read()
    names = archive.namelist()
    (count,) = struct.unpack_from("<H", end, 10)
    if not end.startswith(_END_START) or count not in (len(names), _NO_COUNT):
        raise ValueError("its list of members is damaged")
    if len(set(names)) != len(names):
        raise ValueError("two of its members bear the same name")
    return archive


@contextlib.contextmanager
def new_zip(path):
    """A `zipfile.ZipFile` to fill, which then replaces a file at once.

    Nothing is compressed: it gains a tenth, and PyTorch maps the numbers of a
    file into memory.

    Args:
        path: file.
    """
    with (
        written_whole(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
    ):
        yield archive
