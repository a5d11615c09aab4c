"""What every checkpoint file is to its readers: named arrays, one at a time."""

import abc
import contextlib
from pathlib import Path

import numpy as np


class CheckpointError(ValueError):
    """What is wrong with a checkpoint, which one it is and what to do.

    Args:
        problem: str, a sentence without its full stop.
        path: the checkpoint.
        remedy: str, one or more whole sentences.
    """

    def __init__(self, problem, path, remedy):
        super().__init__(f"{problem}. Received: {path}. {remedy}")


@contextlib.contextmanager
def refusing_damage(path, remedy):
    """Turns whatever a parser raises into a `CheckpointError`.

    Args:
        path: the checkpoint.
        remedy: str, what to do if it is damaged.
    """
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # Damaged bytes can make a parser raise any.
        reason = str(error).strip().partition("\n")[0][:300]
        raise CheckpointError(
            f"The checkpoint cannot be read ({reason or type(error).__name__})",
            path,
            remedy,
        ) from error


class Checkpoint(abc.ABC):
    """Named arrays in a file or folder, read one at a time.

    Opening one reads names and shapes only, and compares them with the size
    of the file: what a damaged or hostile file declares is never allocated.

    Args:
        path: file or folder.
        shapes: dict of the shapes by name, in the order of the file.
        config: dict that diffusers keeps beside the weights, or None.

    Example:

    ```python
    checkpoint = open_checkpoint("model.safetensors")
    arrays = {name: checkpoint.read(name) for name in checkpoint.shapes}
    ```
    """

    # What to do about a file of this format that is damaged.
    remedy = "Fetch or write the file again."

    def __init__(self, path, shapes, config=None):
        self.path = Path(path)
        self.shapes = dict(shapes)
        self.config = config
        if not self.shapes:
            raise CheckpointError(
                "The checkpoint holds no arrays", self.path, self.remedy
            )

    @abc.abstractmethod
    def _read(self, name):
        """The array as it is stored, of any type of number."""

    def _wrong_type(self, name, dtype):
        """The error for numbers that are not read."""
        return CheckpointError(
            f"The array {name!r} is of the type {dtype}, which is not read",
            self.path,
            "Convert it to float32 with the library that wrote it.",
        )

    def read(self, name):
        """One array, whatever type of number it is stored as.

        Args:
            name: str, one of `shapes`.

        Returns:
            float32 array of the shape that `shapes` says.

        Raises:
            ValueError: there is no such array, or it is damaged or not of
                real numbers.
        """
        if name not in self.shapes:
            raise CheckpointError(
                f"The checkpoint holds no array {name!r}",
                self.path,
                "Its attribute `shapes` lists all names.",
            )
        with refusing_damage(self.path, self.remedy):
            array = self._read(name)
            if not np.can_cast(array.dtype, np.float32, "same_kind"):
                raise self._wrong_type(name, array.dtype)
            if array.shape != self.shapes[name]:
                raise ValueError(f"{name!r} is of the shape {array.shape}")
            # A float64 beyond float32 becomes inf; users check for that.
            with np.errstate(over="ignore"):
                return np.require(array, np.float32, ["C", "W"])


def as_written(tensors):
    """The arrays to write to a checkpoint, contiguous, once checked.

    Args:
        tensors: dict of float32 arrays by name.

    Raises:
        ValueError: there are none, or something else is among them.
    """
    for name, array in tensors.items():
        if not (isinstance(name, str) and name):
            raise ValueError(
                "Arrays in a checkpoint must have names. Received: "
                f"{name!r}. Pass a dict of arrays by name."
            )
        if getattr(array, "dtype", None) != np.float32:
            raise ValueError(
                "A checkpoint is written from float32 arrays. Received: "
                f"{name!r} of {getattr(array, 'dtype', type(array).__name__)}. "
                "Convert it by np.asarray(x, 'float32')."
            )
    if not tensors:
        raise ValueError(
            "A checkpoint must hold an array. Received: none. Pass a dict of "
            "float32 arrays by name."
        )
    return {name: np.asarray(x, order="C") for name, x in tensors.items()}
