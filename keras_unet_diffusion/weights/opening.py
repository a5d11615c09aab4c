"""Opening a checkpoint by what it is."""

import os
import re
from pathlib import Path

from keras_unet_diffusion.weights.checkpoint import (
    Checkpoint,
    CheckpointError,
    refusing_damage,
)
from keras_unet_diffusion.weights.diffusers_folder import (
    CONFIG_NAME,
    SHARDS_NAME,
    WEIGHTS_NAME,
    WEIGHTS_STEM,
    ShardedFolder,
    read_json,
)
from keras_unet_diffusion.weights.npz_file import NpzFile
from keras_unet_diffusion.weights.safetensors_file import SafetensorsFile
from keras_unet_diffusion.weights.tensorflow_checkpoint import (
    TensorFlowCheckpoint,
)
from keras_unet_diffusion.weights.torch_containers import LEGACY_START
from keras_unet_diffusion.weights.torch_file import TorchFile
from keras_unet_diffusion.weights.zip_archive import ZIP_START, open_zip

# How an HDF5 file starts, which a `.weights.h5` is.
_HDF5_START = b"\x89HDF\r\n\x1a\n"
# Members of the zip file that Keras saves a model as.
_KERAS_MEMBERS = {"metadata.json", "config.json"}
_FORMATS = (
    "Pass a .safetensors, .npz or PyTorch file, a folder of diffusers with "
    f"its {CONFIG_NAME}, or the prefix of a TensorFlow checkpoint."
)
# What git keeps in place of a large file.
_POINTER_START = b"version https://git-lfs"
# Folders in which diffusers keeps a network within a pipeline or a run.
_RAW_FOLDER, _AVERAGED_FOLDER = "unet", "unet_ema"


def opened(checkpoint, ema=None):
    """A `Checkpoint`, or the one at a path: see `open_checkpoint`."""
    if isinstance(checkpoint, Checkpoint):
        return checkpoint
    return open_checkpoint(checkpoint, ema=ema)


def open_checkpoint(path, ema=None):
    """Opens a checkpoint of any format, recognised by its content.

    Nothing from the file is run, and PyTorch is not needed. Arrays are read
    one by one, when they are asked for.

    Args:
        path: a .safetensors file; a file of PyTorch (.pt, .pth, .bin, .ckpt);
            an .npz file; a folder of diffusers that holds config.json, or
            `unet/` with that in it; the prefix, the .index file or the folder
            of a TensorFlow checkpoint.
        ema: whether to take averaged weights (an exponential moving average):
            True needs them, False takes the raw ones. None takes averaged
            ones where the file marks some as that, else what there is.

    Returns:
        A `Checkpoint`.

    Raises:
        ValueError: there is no such file, its format is not known, it is
            damaged, or it lacks what `ema` asks for.

    Example:

    ```python
    checkpoint = open_checkpoint("ddpm-cifar10-32")
    checkpoint.shapes["conv_in.weight"]  # (128, 3, 3, 3)
    ```
    """
    path = Path(path)
    with refusing_damage(path, _FORMATS):
        if path.is_dir():
            return _open_folder(path, ema)
        if path.suffix == ".index":
            return _open_tensorflow(path.with_suffix(""), ema)
        if path.is_file():
            return _open_file(path, ema)
        return _open_tensorflow(path, ema)


def _open_tensorflow(prefix, ema):
    if not Path(f"{prefix}.index").is_file():
        raise CheckpointError(
            "There is no such checkpoint",
            prefix,
            f"Looked from {Path.cwd()}. " + _FORMATS,
        )
    return TensorFlowCheckpoint(prefix, ema)


def _open_folder(folder, ema):
    if (folder / CONFIG_NAME).is_file():
        return _open_diffusers(folder, ema)
    raw, averaged = folder / _RAW_FOLDER, folder / _AVERAGED_FOLDER
    if ema is not False and (averaged / CONFIG_NAME).is_file():
        return _open_diffusers(averaged, None)
    if (raw / CONFIG_NAME).is_file():
        return _open_diffusers(raw, ema)
    if (folder / "checkpoint").is_file():
        import tensorflow as tf

        latest = tf.train.latest_checkpoint(str(folder))
        if latest is None:
            raise CheckpointError(
                "The file `checkpoint` in the folder names none that exists",
                folder,
                "Pass the prefix of the checkpoint itself.",
            )
        return TensorFlowCheckpoint(latest, ema)
    found = sorted(path.name for path in folder.iterdir())
    raise CheckpointError(
        "The folder holds no checkpoint that is known; in it are "
        f"{', '.join(found[:10]) or 'no files'}",
        folder,
        _FORMATS,
    )


def _open_diffusers(folder, ema):
    if (folder / WEIGHTS_NAME).is_file():
        return _open_file(folder / WEIGHTS_NAME, ema)
    if (folder / SHARDS_NAME).is_file():
        _refuse_ema(ema, folder)
        return ShardedFolder(folder, read_json(folder / CONFIG_NAME))
    if (folder / f"{WEIGHTS_STEM}.bin").is_file():
        return _open_file(folder / f"{WEIGHTS_STEM}.bin", ema)
    found = sorted(path.name for path in folder.iterdir())
    raise CheckpointError(
        f"The folder of diffusers holds neither {WEIGHTS_NAME} nor another "
        f"form of it; in it are {', '.join(found[:10])}",
        folder,
        f"Fetch {WEIGHTS_NAME}, or pass the file of weights itself.",
    )


def _open_file(path, ema):
    config = None
    if path.name.startswith(f"{WEIGHTS_STEM}.") and (
        path.with_name(CONFIG_NAME).is_file()
    ):
        config = read_json(path.with_name(CONFIG_NAME))
    with open(path, "rb") as file:
        start = file.read(64)
    if start.startswith(_POINTER_START):
        raise CheckpointError(
            "The file is only a pointer to the one that was meant",
            path,
            "Fetch the real one by `git lfs pull`, or download it again.",
        )
    if start.startswith(_HDF5_START):
        raise CheckpointError(
            "The file is of no known format of another project but holds "
            "weights as Keras saves them",
            path,
            "Load it into the network that it is of, by UNet.from_preset(name, "
            'weights="x.weights.h5") or network.load_weights("x.weights.h5").',
        )
    members = _zip_members(path, start)
    if members >= _KERAS_MEMBERS:
        raise CheckpointError(
            "The file is a whole model of Keras",
            path,
            "Load it by keras.saving.load_model(path); get_weights and "
            "set_weights take weights from one network to another.",
        )
    is_torch = any(name.endswith("/data.pkl") for name in members)
    if is_torch or start.startswith(LEGACY_START):
        return TorchFile(path, ema, config)
    if start.startswith(ZIP_START):
        _refuse_ema(ema, path)
        return NpzFile(path)
    # A header of JSON follows its length, an int64.
    if path.suffix == ".safetensors" or start[8:9] == b"{":
        _refuse_ema(ema, path)
        return SafetensorsFile(path, config)
    raise CheckpointError(*_unknown(path, start))


def _zip_members(path, start):
    """Names of what is in a zip file that does not say it is numpy's."""
    if not start.startswith(ZIP_START) or path.suffix == ".npz":
        return set()
    with open_zip(path) as archive:
        return set(archive.namelist())


def _refuse_ema(ema, path):
    if ema:
        raise CheckpointError(
            "The format keeps one set of weights and does not say whether it "
            "is averaged (ema=True)",
            path,
            "Leave out ema to take the weights that it holds.",
        )


def _unknown(path, start):
    """Problem, path and remedy for a file that is of no known format."""
    if start[:1] == b"\x80":
        return (
            "The file is a pickle that torch.save did not write, and a pickle "
            "may run anything",
            path,
            "If you trust it, load it in Python and save the network's "
            "state_dict as a .safetensors file. One of EDM needs EDM's "
            "repository on the path; take ema.state_dict() of what it holds.",
        )
    if re.search(r"\.(meta|data-\d+-of-\d+)$", path.name):
        return (
            "The file is a part of a TensorFlow checkpoint",
            path,
            f"Pass {os.path.splitext(path)[0]}, the prefix of all its files.",
        )
    return ("The file is of no known format", path, _FORMATS)
