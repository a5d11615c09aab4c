"""Trained networks on the disk, so that a run that was killed goes on."""

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np

from keras_unet_diffusion.files import written_whole

# Of what is trained and how; a change makes all older files strangers.
_FORMAT = 1
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


@dataclasses.dataclass(frozen=True)
class Training:
    """One network, trained with one seed.

    Args:
        weights: list of arrays, averaged over training.
        losses: `(times,)`, on held-out images.
        bands: `(times, bands)`, of the same errors by frequency.
        checks: `(checks,)`, mean losses on the way.
    """

    weights: list
    losses: np.ndarray
    bands: np.ndarray
    checks: np.ndarray


class TrainingFiles:
    """Keeps one file for each `Training`, and finds it again.

    A file is found by what was trained and how: the variant but for its name,
    its width, the budget but for its other seeds.

    Args:
        folder: path, made when first needed; None keeps nothing.
        budget: a `Budget`.
        report: function of a str, told of files that cannot be read.

    Example:

    ```python
    files = TrainingFiles("runs/studies/networks", DIGITS)
    training = files.load(BASELINE, width=1.0, seed=0)
    ```
    """

    def __init__(self, folder, budget, report=print):
        self.folder = None if folder is None else Path(folder)
        self.budget = budget
        self.report = report

    def path(self, variant, width, seed):
        """The file of a training, there or not."""
        budget = dataclasses.asdict(self.budget)
        del budget["seeds"]
        what = {
            "format": _FORMAT,
            "budget": budget,
            "width": width,
            "make": _function_name(variant.make),
            "options": variant.options,
            "change": variant.change and _function_name(variant.change),
        }
        text = json.dumps(what, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        return self.folder / f"{key}-seed-{seed}.npz"

    def load(self, variant, width, seed):
        """Reads a `Training`; None if there is none that can be read."""
        if self.folder is None:
            return None
        path = self.path(variant, width, seed)
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                count = int(file["num_weights"])
                return Training(
                    [file[f"weight_{i}"] for i in range(count)],
                    *(file[name] for name in ("losses", "bands", "checks")),
                )
        except _UNREADABLE as error:
            self.report(f"{path} cannot be read and is trained anew: {error}")
            return None

    def save(self, variant, width, seed, training):
        """Writes a `Training`, whole or not at all."""
        if self.folder is None:
            return
        weights = {f"weight_{i}": x for i, x in enumerate(training.weights)}
        path = self.path(variant, width, seed)
        with written_whole(path) as temporary:
            np.savez(
                temporary,
                num_weights=len(weights),
                losses=training.losses,
                bands=training.bands,
                checks=training.checks,
                **weights,
            )


def _function_name(function):
    return f"{function.__module__}.{function.__qualname__}"
