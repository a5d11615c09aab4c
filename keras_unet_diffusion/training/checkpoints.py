"""Saving models whole, and finding and loading them again."""

import zipfile
from pathlib import Path

import keras
from absl import logging

from keras_unet_diffusion.files import written_whole

FINAL_MODEL = "model.keras"
CHECKPOINT_FOLDER = "checkpoints"


def save_model(model, path):
    """Saves a model so that `path` always holds a whole file.

    `model.save` alone truncates the old file first: a full disk or a killed
    process then leaves none.

    Args:
        model: a `keras.Model`.
        path: of a `.keras` file; replaced if it exists.
    """
    with written_whole(path) as temporary:
        model.save(temporary)


def checkpoint_path(workdir, step):
    """Path of the checkpoint after `step` training steps."""
    return Path(workdir) / CHECKPOINT_FOLDER / f"step_{step:08d}.keras"


def list_checkpoints(workdir):
    """Steps and paths of a work directory's checkpoints, oldest first."""
    folder = Path(workdir) / CHECKPOINT_FOLDER
    steps = [
        (path.stem.removeprefix("step_"), path)
        for path in folder.glob("step_*.keras")
    ]
    # A copy that someone made, "step_00000100_best", is none of ours.
    return sorted((int(step), path) for step, path in steps if step.isdecimal())


def keep_newest(workdir, keep=2):
    """Removes all checkpoints of a work directory but the newest `keep`."""
    for _, path in list_checkpoints(workdir)[:-keep]:
        path.unlink()


def find_model(path):
    """Finds the newest model that a path stands for.

    Args:
        path: of a `.keras` file, or of a work directory: its final model, or
            else its newest checkpoint.

    Returns:
        `Path` of a `.keras` file.

    Raises:
        ValueError: there is none.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(
            f"There is no such file or folder. Received: checkpoint={path}. "
            "Pass a work directory of train, or a .keras file."
        )
    if path.is_file():
        return path
    if (path / FINAL_MODEL).is_file():
        return path / FINAL_MODEL
    checkpoints = list_checkpoints(path)
    if not checkpoints:
        raise ValueError(
            f"The folder holds neither {FINAL_MODEL} nor checkpoints. "
            f"Received: checkpoint={path}. Pass a work directory of train, or "
            "a .keras file."
        )
    return checkpoints[-1][1]


def load_model(path):
    """Loads a model from a work directory or a `.keras` file.

    Args:
        path: see `find_model`.

    Returns:
        The `keras.Model`, compiled if it was when it was saved.

    Raises:
        ValueError: there is none, or the file is damaged.

    Example:

    ```python
    model = load_model("runs/digits")
    ```
    """
    path = find_model(path)
    check_model_file(path)
    return keras.saving.load_model(path)


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
    # RuntimeError and OSError come from damaged headers.
    except (zipfile.BadZipFile, EOFError, RuntimeError, OSError) as error:
        damaged = error
    if damaged:
        raise ValueError(
            f"The file is damaged, or no Keras model. Received: {path} "
            f"({damaged}). Use another checkpoint of the same run."
        )


def newest_whole_checkpoint(workdir):
    """Finds the newest checkpoint of a work directory that is not damaged.

    Those that are damaged are logged as warnings and left where they are.

    Args:
        workdir: the work directory.

    Returns:
        Its step, int, and its `Path`; 0 and None if there are no checkpoints.

    Raises:
        ValueError: all of them are damaged.
    """
    reasons = []
    for step, path in reversed(list_checkpoints(workdir)):
        try:
            check_model_file(path)
        except ValueError as error:
            reasons.append(str(error))
            continue
        for reason in reasons:
            logging.warning(
                "%s Going on from the one before it, %s.", reason, path.name
            )
        return step, path
    if reasons:
        raise ValueError(
            "All checkpoints of the run are damaged. Received: "
            + " ".join(reasons)
            + f" Choose another --workdir than {workdir}."
        )
    return 0, None
