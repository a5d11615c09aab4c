"""A model file is written whole, tells its losses, and shows any damage."""

import json
import lzma
import math
import zipfile
import zlib
from pathlib import Path

from absl import logging

from keras_unet_diffusion.files import written_whole

# By which the best checkpoint is chosen: the first that any of them has.
MONITORED = ("val_loss", "loss")
# What `zipfile` raises for one changed byte, tried for all bytes of headers
# and all changes; OSError and LZMAError are damaged methods of compression.
_DAMAGE = (
    zipfile.BadZipFile,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    zlib.error,
)


def save_model(model, path, losses=None):
    """Saves a model so that `path` always holds a whole file.

    `model.save` alone truncates the old file first: a full disk or a killed
    process then leaves none. Here the new file is written aside, synced to the
    disk, checked and renamed. It costs about a fifth more than `model.save`.

    Args:
        model: a `keras.Model`.
        path: of a `.keras` file; replaced if it exists.
        losses: dict, logs of an epoch, of which the file keeps `loss` and
            `val_loss` for `best_checkpoint`; None for none.

    Raises:
        OSError: it cannot be written. What was at `path` before still is.
    """
    with written_whole(path, _check_written) as temporary:
        model.save(temporary)
        if losses:
            _write_losses(temporary, losses)


def _check_written(path):
    try:
        check_model_file(path)
    except ValueError as error:
        raise OSError(
            f"A model was not written as it is. Received: {error} The file "
            "that it would have replaced is kept. Check the disk, then run "
            "the command again."
        ) from error


def _write_losses(path, losses):
    losses = {name: float(losses[name]) for name in MONITORED if name in losses}
    losses = {name: x for name, x in losses.items() if math.isfinite(x)}
    text = json.dumps(losses).encode()
    with zipfile.ZipFile(path, "a") as archive:
        # The archive's comment, as Keras unpacks archives of a fourth member
        # to the disk before it reads them. Checksums do not cover comments.
        archive.comment = b"%08x %s" % (zlib.crc32(text), text)


def read_losses(path):
    """Reads the losses that `save_model` was given.

    Args:
        path: of a `.keras` file.

    Returns:
        dict of floats: "loss" and "val_loss" or one of them; empty if the
        file has none, or is damaged where they are.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            checksum, _, text = archive.comment.partition(b" ")
    except _DAMAGE:
        return {}
    return json.loads(text) if checksum == b"%08x" % zlib.crc32(text) else {}


def check_model_file(path):
    """Raises a `ValueError` if a `.keras` file is damaged.

    A `.keras` file is a zip archive, whose checksums tell every changed byte.

    Args:
        path: of the file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            names = {Path(name).stem for name in archive.namelist()}
            if not names.issuperset({"config", "model.weights"}):
                damaged = "it lacks its config or its weights"
    except _DAMAGE as error:
        damaged = str(error) or type(error).__name__
    if damaged:
        raise ValueError(
            f"The file is damaged, or no Keras model. Received: {path} "
            f"({damaged}). Use another checkpoint of the same run."
        )


def is_whole(path):
    """Whether there is a model file without damage, bool.

    Damage is logged as a warning.

    Args:
        path: of a `.keras` file, or of none.
    """
    if not Path(path).exists():
        return False
    try:
        check_model_file(path)
    except ValueError as error:
        logging.warning("%s", error)
        return False
    return True
