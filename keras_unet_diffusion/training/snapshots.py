"""Averages stored in the course of training, and reading them again."""

import dataclasses
import math
import zlib
from pathlib import Path

import keras
import numpy as np
from absl import logging
from keras import ops
from safetensors import safe_open
from safetensors.numpy import save_file

from keras_unet_diffusion.files import remove_leftovers, written_whole
from keras_unet_diffusion.training.averaging import PowerFunctionAverage

SNAPSHOT_FOLDER = "snapshots"
_PATTERN = "step_*_deviation_*.safetensors"
_SET_ASIDE = ".set_aside"


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A stored average.

    Args:
        path: `Path` of its file.
        step: int >= 1. Updates of the weights until then.
        relative_deviation: float, see `PowerFunctionAverage`.
    """

    path: Path
    step: int
    relative_deviation: float


class StoreSnapshots(keras.callbacks.Callback):
    """Stores the power-function averages of a model now and then.

    Use it to choose the length of the average after training, by
    `post_hoc.reconstruct`: two averages stored 32 times in even distances
    express relative deviations from 0.02 to 0.25 to 4% of their profiles, 64
    times to 1.5%. All snapshots are kept; what they take on disk is logged
    when training begins: 4 bytes for each weight, average and time, 2 in
    float16. Each file appears whole or not at all.

    A run that goes on stores under the same names. Snapshots of later steps
    than the model's, which a run that was killed has left, are renamed to end
    in ".set_aside" and removed once their step is stored again: after another
    path of training they belong to another average.

    Args:
        workdir: snapshots go to `workdir/snapshots`.
        every_epochs: int >= 1.
        dtype: str, "float32" or "float16", which rounds each weight by up to
            1 in 2,000.

    Raises:
        ValueError: an argument is out of range; when training begins, if the
            model keeps no power-function average or one twice; when storing,
            if a weight is too large for float16.

    Example:

    ```python
    averages = (PowerFunctionAverage(0.05), PowerFunctionAverage(0.10))
    model = DiffusionModel(network, averages=averages)
    model.compile("adam")
    model.fit(dataset, epochs=64, callbacks=[StoreSnapshots("runs/a")])
    ```

    Reference:
        Karras et al. 2024, section 3.2: sigma_rel of 0.05 and 0.10; the
        authors' program stores float16. Differences: float32 unless told
        otherwise.
    """

    def __init__(self, workdir, every_epochs=1, dtype="float32"):
        super().__init__()
        if every_epochs < 1:
            raise ValueError(
                "every_epochs must be at least 1. Received: every_epochs="
                f"{every_epochs}. Pass a positive whole number."
            )
        if dtype not in ("float32", "float16"):
            raise ValueError(
                f"Snapshots are stored in 4 or 2 bytes. Received: dtype="
                f'{dtype!r}. Pass "float32" or "float16".'
            )
        self.workdir = workdir
        self.every_epochs = every_epochs
        self.dtype = dtype

    @property
    def bytes_each_time(self):
        """Bytes on disk of the files that are stored at one time, int,
        without their headers of some kilobytes."""
        sizes = {"float32": 4, "float16": 2}
        return sum(
            math.prod(weight.shape) * sizes[self.dtype]
            for network in self._networks().values()
            for weight in network.weights
        )

    def on_train_begin(self, logs=None):
        num_times = (self.params or {}).get("epochs", 0) // self.every_epochs
        each_time = self.bytes_each_time / 1e6
        logging.info(
            "Snapshots for averages of any length: %.1f MB at the end of each "
            "%d epochs, %.1f MB in all, in %s.",
            each_time,
            self.every_epochs,
            each_time * num_times,
            Path(self.workdir) / SNAPSHOT_FOLDER,
        )
        self._set_later_ones_aside()

    def on_epoch_end(self, epoch, logs=None):
        step = self._num_updates()
        # Before the first update there is nothing to average.
        if (epoch + 1) % self.every_epochs or not step:
            return
        for relative_deviation, network in self._networks().items():
            name = _name(step, relative_deviation)
            path = Path(self.workdir) / SNAPSHOT_FOLDER / name
            _write(path, network, step, relative_deviation, self.dtype)
            path.with_name(path.name + _SET_ASIDE).unlink(missing_ok=True)

    def _num_updates(self):
        return int(self.model.updates.num_updates.numpy())

    def _networks(self):
        """The averaged networks by their relative deviations."""
        pairs = [
            (average.relative_deviation, network)
            for average, network in zip(
                self.model.averages, self.model.averaged_networks, strict=True
            )
            if isinstance(average, PowerFunctionAverage)
        ]
        networks = dict(pairs)
        if len(networks) < len(pairs) or not networks:
            raise ValueError(
                "Snapshots are of power-function averages, one of each "
                f"deviation. Received: averages={self.model.averages}. Pass "
                "the model averages=(PowerFunctionAverage(0.05), "
                "PowerFunctionAverage(0.10))."
            )
        return networks

    def _set_later_ones_aside(self):
        folder = Path(self.workdir) / SNAPSHOT_FOLDER
        remove_leftovers(folder)
        for path in folder.glob(_PATTERN):
            # By their names, so that a damaged one is none of its concern.
            step = path.name.removeprefix("step_").partition("_")[0]
            if step.isdecimal() and int(step) > self._num_updates():
                path.replace(path.with_name(path.name + _SET_ASIDE))


def _name(step, relative_deviation):
    deviation = repr(float(relative_deviation))
    return f"step_{step:08d}_deviation_{deviation}.safetensors"


def _write(path, network, step, relative_deviation, dtype):
    """Writes the weights of a network, in their order."""
    tensors = {
        f"{k:05d} {weight.path}": _as_stored(weight, dtype)
        for k, weight in enumerate(network.weights)
    }
    metadata = {
        "step": str(step),
        "relative_deviation": repr(float(relative_deviation)),
        # The format has no checksum of its own.
        "crc32": str(_checksum(tensors)),
    }
    with written_whole(path) as temporary:
        save_file(tensors, temporary, metadata)


def _as_stored(weight, dtype):
    array = np.asarray(ops.convert_to_numpy(weight), order="C")
    if not keras.backend.is_float_dtype(weight.dtype):
        return array
    with np.errstate(over="ignore"):
        stored = array.astype(dtype)
    if not np.isfinite(stored).all():
        raise ValueError(
            f"A weight is too large for {dtype}, or not finite. Received: "
            f"{weight.path}. Store snapshots with dtype='float32', or find "
            "out why the average is not finite."
        )
    return stored


def _checksum(tensors):
    checksum = 0
    for name, array in sorted(tensors.items()):
        about = f"{name} {array.dtype} {array.shape}".encode()
        checksum = zlib.crc32(about, checksum)
        checksum = zlib.crc32(np.ascontiguousarray(array), checksum)
    return checksum


def _damaged(path, reason):
    return ValueError(
        f"The file is damaged, or no snapshot ({reason}). Received: {path}. "
        "Remove it: the others are of use without it."
    )


def _open(path):
    """The `Snapshot` of a file, its checksum, and the open file."""
    try:
        file = safe_open(path, framework="numpy")
        metadata = file.metadata() or {}
        snapshot = Snapshot(
            path,
            int(metadata["step"]),
            float(metadata["relative_deviation"]),
        )
        if path.name != _name(snapshot.step, snapshot.relative_deviation):
            raise ValueError("its name says otherwise")
        return snapshot, int(metadata["crc32"]), file
    # Damaged bytes can make the parser raise any error.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise _damaged(path, reason) from error


def list_snapshots(workdir):
    """All snapshots of a work directory, in the order of their steps.

    Args:
        workdir: folder that holds the folder `snapshots`.

    Returns:
        Non-empty list of `Snapshot`.

    Raises:
        ValueError: there are none, or the header of a file is damaged.
    """
    folder = Path(workdir) / SNAPSHOT_FOLDER
    snapshots = [_open(path)[0] for path in folder.glob(_PATTERN)]
    if not snapshots:
        raise ValueError(
            "The folder holds no snapshots. Received: workdir="
            f"{workdir}. Train with the callback StoreSnapshots, and pass its "
            "work directory."
        )
    return sorted(snapshots, key=lambda x: (x.step, x.relative_deviation))


def read_snapshot(snapshot):
    """The arrays of a snapshot, as they are stored.

    Args:
        snapshot: a `Snapshot`.

    Returns:
        List of arrays in the order of `network.weights`.

    Raises:
        ValueError: the file is damaged.
    """
    _, checksum, file = _open(snapshot.path)
    try:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    except Exception as error:
        raise _damaged(snapshot.path, error) from error
    if _checksum(tensors) != checksum:
        raise _damaged(snapshot.path, "its checksum is another")
    # The names begin with the weights' numbers.
    return [tensors[name] for name in sorted(tensors)]
