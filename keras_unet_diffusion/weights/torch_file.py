"""Checkpoints as PyTorch writes them: .pt, .pth, .bin and .ckpt files."""

import math
import pickle
import zipfile
from pathlib import Path

import numpy as np

from keras_unet_diffusion.weights.checkpoint import (
    Checkpoint,
    CheckpointError,
    as_written,
    refusing_damage,
)
from keras_unet_diffusion.weights.torch_containers import (
    LegacyContainer,
    ZipContainer,
)
from keras_unet_diffusion.weights.torch_tensors import TensorReference
from keras_unet_diffusion.weights.zip_archive import ZIP_START, new_zip

# Under what keys training scripts keep weights, and averages of them.
_RAW_KEYS = ("state_dict", "model_state_dict", "model")
_AVERAGED_KEYS = ("ema_state_dict", "ema_model", "ema", "model_ema")
# What DataParallel puts before every name.
_PARALLEL_PREFIX = "module."

# The version of the archive, as PyTorch has written it since 1.6.
_ARCHIVE_VERSION = b"3\n"
# How many times the stored numbers all tensors together may claim.
_MOST_CLAIMED = 2
# A fixed one, so that the same weights are the same file.
_DATE = (1980, 1, 1, 0, 0, 0)
_EMPTY_ORDERED_DICT = (
    pickle.GLOBAL + b"collections\nOrderedDict\n)" + pickle.REDUCE
)


class TorchFile(Checkpoint):
    """A file of torch.save that holds a dict of tensors, or dicts of those.

    Neither PyTorch is needed nor anything from the file is run. Whatever is
    no tensor, such as a count of steps, is left out.

    Args:
        path: file.
        ema: whether to take averaged weights; None does if there are any.
        config: dict that diffusers keeps beside the file, or None.
    """

    remedy = (
        "Fetch the file again, or load it in PyTorch and save its state_dict "
        "as a .safetensors file."
    )

    def __init__(self, path, ema=None, config=None):
        with refusing_damage(path, self.remedy):
            with open(path, "rb") as file:
                is_zip = file.read(len(ZIP_START)) == ZIP_START
            container = ZipContainer if is_zip else LegacyContainer
            self._container = container(path)
            self._tensors = _choose_weights(self._container.root, ema, path)
        self._check_claims(path)
        self._last_read = (None, b"")
        shapes = {name: x.shape for name, x in self._tensors.items()}
        super().__init__(path, shapes, config)

    def _check_claims(self, path):
        """Views may share numbers, such as tied weights, but not endlessly."""
        tensors = self._tensors.values()
        stored = sum(x.num_bytes for x in {x.storage for x in tensors})
        claimed = sum(math.prod(x.shape) * x.dtype.itemsize for x in tensors)
        if claimed > _MOST_CLAIMED * stored:
            raise CheckpointError(
                f"The tensors claim {claimed:,} bytes where {stored:,} are "
                "stored",
                path,
                self.remedy,
            )

    def _read(self, name):
        tensor = self._tensors[name]
        # Many tensors may be views of one storage: read it once in a row.
        if self._last_read[0] != tensor.storage:
            self._last_read = (None, b"")
            data = self._container.read_storage(tensor.storage)
            self._last_read = (tensor.storage, data)
        return tensor.view(self._last_read[1])


def _choose_weights(root, ema, path):
    """The dict of tensors that is asked for, among all in a file."""
    if type(root) is not dict:
        raise CheckpointError(
            f"The file holds no dict of tensors but a {type(root).__name__}",
            path,
            "Save the network's state_dict instead.",
        )
    # A count or a rate may bear such a name too.
    present = {k for k, x in root.items() if type(x) in (dict, list) and x}
    raw = [key for key in _RAW_KEYS if key in present]
    averaged = [key for key in _AVERAGED_KEYS if key in present]
    if len(raw) > 1 or len(averaged) > 1:
        raise _ambiguous(root, path)
    if not raw and not averaged:
        if ema:
            raise CheckpointError(
                "The file does not say that it holds averaged weights (ema="
                f"True); its keys are {_names(root)}",
                path,
                "Leave out ema to take the weights that it holds.",
            )
        return _named_tensors(root, path)
    chosen = raw if ema is False else averaged or ([] if ema else raw)
    if not chosen:
        raise CheckpointError(
            f"The file holds no {'averaged' if ema else 'raw'} weights (ema="
            f"{ema}); its keys are {_names(root)}",
            path,
            f"Pass ema={not ema} or leave it out.",
        )
    weights = root[chosen[0]]
    if chosen == averaged and not _has_named_tensors(weights):
        raise CheckpointError(
            "The averaged weights in the file have no names",
            path,
            "Pass ema=False to take the raw weights, or copy the averaged ones "
            "into the network in PyTorch and save its state_dict.",
        )
    return _named_tensors(weights, path)


def _has_named_tensors(value):
    return type(value) is dict and any(map(_is_tensor, value.values()))


def _named_tensors(weights, path):
    """Tensors of a dict by name, without the prefix of DataParallel."""
    # Among tensors, dicts of further ones would be lost without a word.
    nested = type(weights) is not dict or any(
        map(_has_named_tensors, weights.values())
    )
    if nested or not _has_named_tensors(weights):
        raise _ambiguous(weights, path)
    tensors = {k: x for k, x in weights.items() if _is_tensor(x)}
    if any(type(name) is not str for name in tensors):
        raise _ambiguous(weights, path)
    if all(name.startswith(_PARALLEL_PREFIX) for name in tensors):
        tensors = {
            name.removeprefix(_PARALLEL_PREFIX): x
            for name, x in tensors.items()
        }
    return tensors


def _is_tensor(value):
    return isinstance(value, TensorReference)


def _ambiguous(found, path):
    return CheckpointError(
        "It is not clear which of the file's contents are the weights; its "
        f"keys are {_names(found)}",
        path,
        "Load it in PyTorch and save the right dict of tensors alone.",
    )


def _names(found):
    keys = list(found) if type(found) is dict else []
    names = [repr(key)[:60] for key in keys[:12]]
    return ", ".join(names + ["..."] * (len(keys) > 12)) or "none"


def write_torch(path, tensors):
    """Writes arrays as a .pt file, replacing one that is there.

    `torch.load` gives them as an OrderedDict of contiguous float32 tensors.

    Args:
        path: file.
        tensors: dict of float32 arrays by name.

    Raises:
        ValueError: there is nothing to write, or something else than that.

    Example:

    ```python
    write_torch("model.pt", {"conv_in.bias": bias})
    state_dict = torch.load("model.pt", weights_only=True)
    ```
    """
    tensors = as_written(tensors)
    stem = Path(path).stem
    with new_zip(path) as archive:

        def write(name, data):
            member = zipfile.ZipInfo(f"{stem}/{name}", date_time=_DATE)
            archive.writestr(member, data)

        write("data.pkl", _pickled(tensors))
        write("byteorder", b"little")
        for key, array in enumerate(tensors.values()):
            write(f"data/{key}", array.astype("<f4", copy=False).tobytes())
        write("version", _ARCHIVE_VERSION)


def _pickled(tensors):
    """The pickle of an OrderedDict of tensors.

    It is put together by hand: `pickle` would look up PyTorch's functions.
    """
    items = b"".join(
        _value(name) + _tensor(str(key), array)
        for key, (name, array) in enumerate(tensors.items())
    )
    return (
        pickle.PROTO
        + b"\x02"
        + _EMPTY_ORDERED_DICT
        + pickle.MARK
        + items
        + pickle.SETITEMS
        + pickle.STOP
    )


def _tensor(key, array):
    """A call of PyTorch's function that makes a tensor of a storage."""
    storage = _tuple(
        _value("storage"),
        pickle.GLOBAL + b"torch\nFloatStorage\n",
        *map(_value, (key, "cpu", array.size)),
    )
    strides = np.cumprod((1, *array.shape[:0:-1]))[::-1] if array.ndim else ()
    arguments = _tuple(
        storage + pickle.BINPERSID,
        _value(0),  # offset
        _tuple(*map(_value, array.shape)),
        _tuple(*(_value(int(stride)) for stride in strides)),
        pickle.NEWFALSE,  # no gradient
        _EMPTY_ORDERED_DICT,  # no hooks
    )
    function = pickle.GLOBAL + b"torch._utils\n_rebuild_tensor_v2\n"
    return function + arguments + pickle.REDUCE


def _tuple(*parts):
    return pickle.MARK + b"".join(parts) + pickle.TUPLE


def _value(value):
    """The opcodes of a str or an int, without those around it."""
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogatepass")
        return pickle.BINUNICODE + len(data).to_bytes(4, "little") + data
    program = pickle.dumps(value, protocol=2)
    return program[2:-1]
