"""Checkpoints of TensorFlow that name variables, such as the first DDPM's."""

import math
import os
import re
from pathlib import Path

from keras_unet_diffusion.weights.checkpoint import (
    Checkpoint,
    CheckpointError,
    refusing_damage,
)
from keras_unet_diffusion.weights.tensorflow_index import read_index

_TYPES = {"float64", "float32", "float16", "bfloat16", "bool"}
_TYPES |= {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
_AVERAGE = "/ExponentialMovingAverage"
# What optimizers keep beside the variables.
_OF_OPTIMIZERS = re.compile(
    r"(.*/)?(Adam|RMSProp|Momentum|Adagrad|global_step|beta[12]_power)(_\d+)?"
)


class TensorFlowCheckpoint(Checkpoint):
    """The checkpoint of a TensorFlow 1 graph: an index and data files.

    Names of averaged weights come out as those of the raw ones. Variables
    that have no average, because they are not trained, are taken as they are.
    What belongs to the optimizer is left out.

    Args:
        prefix: path without .index.
        ema: whether to take averaged weights; None does if there are any.
    """

    remedy = (
        "Fetch the .index file and the .data files again, and pass their "
        "common prefix."
    )

    def __init__(self, prefix, ema=None):
        import tensorflow as tf

        prefix = Path(prefix)
        with refusing_damage(prefix, self.remedy):
            num_shards, entries = read_index(f"{prefix}.index")
            sizes = [
                os.path.getsize(f"{prefix}.data-{k:05d}-of-{num_shards:05d}")
                for k in range(num_shards)
            ]
            entries = {
                name: entry
                for name, entry in entries.items()
                if _is_array(name, entry, sizes)
            }
            self._stored = _choose_weights(entries, ema, prefix)
            self._reader = tf.train.load_checkpoint(str(prefix))
        shapes = {name: entries[x].shape for name, x in self._stored.items()}
        super().__init__(prefix, shapes)

    def _read(self, name):
        # It compares the checksum of the data.
        return self._reader.get_tensor(self._stored[name])


def _is_array(name, entry, sizes):
    """Whether an entry is of numbers, and lies where it says.

    Raises:
        ValueError: the data files are too short, or it is of another length.
    """
    import tensorflow as tf

    if entry.shard >= len(sizes):
        raise ValueError(f"it lacks the data file number {entry.shard}")
    if entry.offset_bytes + entry.num_bytes > sizes[entry.shard]:
        raise ValueError(f"its data end before {name[:60]!r}")
    dtype = tf.dtypes.as_dtype(entry.type_number)
    if dtype.name not in _TYPES:
        return False
    if entry.num_bytes != math.prod(entry.shape) * dtype.size:
        raise ValueError(f"{name[:60]!r} is not as long as its shape says")
    return not _OF_OPTIMIZERS.fullmatch(name)


def _choose_weights(names, ema, prefix):
    """Names to give -> names in the file."""
    raw = {name: name for name in names if not name.endswith(_AVERAGE)}
    averaged = {
        name.removesuffix(_AVERAGE): name for name in names if name not in raw
    }
    if ema is False:
        if averaged and not raw:
            raise CheckpointError(
                "The checkpoint holds no raw weights (ema=False)",
                prefix,
                "Pass ema=True or leave it out.",
            )
        return raw
    if ema and not averaged:
        raise CheckpointError(
            f"The checkpoint holds no averaged weights (ema=True): no name in "
            f"it ends in {_AVERAGE}",
            prefix,
            "Pass ema=False or leave it out.",
        )
    return raw | averaged
