"""Writing files and folders so that a final name never holds half of one."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

_TEMPORARY = ".writing-"


@contextlib.contextmanager
def written_whole(path, check=None):
    """Gives a temporary path and renames it to `path` when all went well.

    Works for a file or a folder, whichever the caller makes. After an error
    the temporary is removed and whatever was at `path` before is untouched.
    A file is on the disk, not only in the system's cache, before it gets its
    name, and so is the name when the block ends: it outlasts a power cut. The
    files in a folder are not waited for.

    Args:
        path: where the file or folder shall be. A file there is replaced, a
            folder only if it is empty.
        check: function of the temporary path that raises if what was written
            is not good; None for none.

    Yields:
        A `Path` beside `path`, with the same suffix, that does not exist yet.

    Example:

    ```python
    with written_whole("samples.png") as temporary:
        temporary.write_bytes(data)
    ```
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=path.parent))
    temporary = holder / path.name
    try:
        yield temporary
        if temporary.is_file():
            _give_usual_mode(temporary, holder)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
        if check is not None:
            check(temporary)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def _give_usual_mode(path, folder):
    """Lets those read a file who may read what this process writes.

    Some libraries write files that their owner alone may read.
    """
    usual = folder / f"{path.name}.mode"
    usual.touch()
    shutil.copymode(usual, path)


def _sync_folder(path):
    """Waits until the names in a folder are on the disk."""
    # Windows opens no folders, and needs it not.
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_leftovers(folder):
    """Removes what processes that were killed left half-written in a folder.

    Call it only where no other process is writing.
    """
    for leftover in Path(folder).glob(f"{_TEMPORARY}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def check_new_folder(path):
    """Raises a `ValueError` if a folder of results would be written over."""
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise ValueError(
            f"A folder cannot be made where a file is. Received: {path}. "
            "Choose another name."
        )
    if path.is_dir() and any(path.iterdir()):
        raise ValueError(
            "The folder for the results is not empty, and nothing in it is "
            f"written over. Received: {path}. Choose another or remove it."
        )
