"""The models in a work directory: saved, found, kept and loaded."""

from pathlib import Path

import keras
from absl import logging

from keras_unet_diffusion.training.model_files import (
    MONITORED,
    check_model_file,
    read_losses,
    save_model,
)

FINAL_MODEL = "model.keras"
CHECKPOINT_FOLDER = "checkpoints"


def save_checkpoint(model, workdir, step, losses=None, keep=2):
    """Saves a checkpoint of a work directory and removes what is too many.

    Args:
        model: a `keras.Model`.
        workdir: the work directory.
        step: int >= 0. Training steps that were taken.
        losses: dict, logs of the epoch that ends there; None amid an epoch,
            whose mean loss compares with no other.
        keep: int >= 1, see `keep_newest`; None to remove nothing.

    Returns:
        `Path` of the checkpoint.

    Raises:
        OSError: it cannot be written. All others are still there.
    """
    path = checkpoint_path(workdir, step)
    save_model(model, path, losses)
    if keep is not None:
        keep_newest(workdir, keep, step)
    return path


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


def keep_newest(workdir, keep=2, step=None):
    """Removes all checkpoints but the newest `keep` and the best.

    Args:
        workdir: the work directory.
        keep: int >= 1.
        step: int. Checkpoints of later steps are neither counted nor removed:
            a run went on from before them, because they are damaged or
            another's. None for no limit.
    """
    found = [
        path
        for other_step, path in list_checkpoints(workdir)
        if step is None or other_step <= step
    ]
    best = _best_first(found)[:1]
    for path in found[:-keep]:
        if path not in best:
            path.unlink(missing_ok=True)


def _best_first(paths):
    """Those of some checkpoints, oldest first, that know their losses."""
    losses = {path: read_losses(path) for path in reversed(paths)}
    for name in MONITORED:
        values = {path: x[name] for path, x in losses.items() if name in x}
        if values:
            # Of equal ones the newest.
            return sorted(values, key=values.get)
    return []


def best_checkpoint(workdir):
    """Finds the checkpoint of the lowest loss that is not damaged.

    By the validation loss if any checkpoint has one, else by the training
    loss. Checkpoints amid an epoch have neither.

    Args:
        workdir: the work directory.

    Returns:
        Its `Path`; None if no checkpoint knows its loss.

    Raises:
        ValueError: all that do are damaged.

    Example:

    ```python
    model = load_model(best_checkpoint("runs/photos"))
    ```
    """
    paths = [path for _, path in list_checkpoints(workdir)]
    return _first_whole(_best_first(paths), workdir)


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

    A damaged file of a work directory is logged as a warning, and the one
    before it loaded.

    Args:
        path: see `find_model`.

    Returns:
        The `keras.Model`, compiled if it was when it was saved.

    Raises:
        ValueError: there is none, or the file is damaged, or all of the work
            directory's are.

    Example:

    ```python
    model = load_model("runs/digits")
    ```
    """
    newest = find_model(path)
    if newest == Path(path):
        check_model_file(newest)
        return keras.saving.load_model(newest)
    checkpoints = [file for _, file in reversed(list_checkpoints(path))]
    others = [file for file in checkpoints if file != newest]
    return keras.saving.load_model(_first_whole([newest, *others], path))


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
    steps = {path: step for step, path in reversed(list_checkpoints(workdir))}
    path = _first_whole(steps, workdir)
    return steps.get(path, 0), path


def _first_whole(paths, workdir):
    """The first of some files that is not damaged; None if there are none."""
    reasons = []
    for path in paths:
        try:
            check_model_file(path)
        except ValueError as error:
            reasons.append(str(error))
            continue
        for reason in reasons:
            logging.warning(
                "%s Going on from the one before it, %s.", reason, path.name
            )
        return path
    if reasons:
        raise ValueError(
            "All checkpoints of the run are damaged. Received: "
            + " ".join(reasons)
            + f" Train anew in another folder than {workdir}."
        )
    return None
