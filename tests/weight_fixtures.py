"""Reads the fixtures of `fixtures/weights`: networks of other projects.

Weights are not stored there: each follows from its name, its shape, its kind
and the seed of the fixture. The README beside the files says how.
"""

import functools
import json
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np

FOLDER = Path(__file__).parent / "fixtures" / "weights"
CASES = tuple(sorted(path.stem for path in FOLDER.glob("*.npz")))


class MemoryCheckpoint:
    """What `Checkpoint` offers, of tensors in memory."""

    def __init__(self, tensors, config=None):
        self.path = Path("in_memory")
        self.tensors = dict(tensors)
        self.shapes = {name: x.shape for name, x in self.tensors.items()}
        self.config = config

    def read(self, name):
        return np.asarray(self.tensors[name], "float32")


@functools.cache
def fixture(case):
    """One case: `config`, `inputs`, `outputs` and `tensors`, all by name."""
    parts = {"input": {}, "output": {}, "buffer": {}}
    with np.load(FOLDER / f"{case}.npz") as file:
        config = json.loads(bytes(file["config"]))
        for key in file.files:
            part, _, name = key.partition("/")
            if name:
                parts[part][name] = file[key]
    tensors = {
        name: parts["buffer"][name]
        if kind == "buffer"
        else _tensor(name, shape, kind, config["seed"])
        for name, shape, kind in config["tensors"]
    }
    total = sum(np.abs(x, dtype="float64").sum() for x in tensors.values())
    # The sum in the file guards against another stream of random numbers.
    np.testing.assert_allclose(total, config["sum_abs"], rtol=1e-6)
    return SimpleNamespace(
        config=config,
        inputs=parts["input"],
        outputs=parts["output"],
        tensors=tensors,
    )


def checkpoint_of(case, **changes):
    """A `MemoryCheckpoint` of a case; None as a change leaves a tensor out."""
    given = fixture(case)
    tensors = {
        name: x
        for name, x in (given.tensors | changes).items()
        if x is not None
    }
    config = None
    if given.config["family"] == "diffusers":
        config = {"_class_name": "UNet2DModel"} | given.config["kwargs"]
    return MemoryCheckpoint(tensors, config)


def _tensor(name, shape, kind, seed):
    kind, _, factor = kind.partition("*")
    bits = np.random.PCG64([seed, zlib.crc32(name.encode())])
    normal = np.random.Generator(bits).standard_normal(shape, dtype="float32")
    if kind == "gain":
        tensor = np.float32(1) + np.float32(0.1) * normal
    elif kind == "bias":
        tensor = np.float32(0.1) * normal
    elif kind in ("matrix", "matrix_io"):
        fan_in = shape[1:] if kind == "matrix" else shape[:-1]
        tensor = normal / np.float32(np.sqrt(np.prod(fan_in)))
    else:
        tensor = normal  # Of an embedding.
    return tensor * np.float32(factor or 1)
