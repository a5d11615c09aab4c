"""What the tests of checkpoint files share."""

import numpy as np
import pytest

from keras_unet_diffusion.weights import open_checkpoint


def arrays():
    """A kernel, a vector, a number and an empty array, by unlike names."""
    random = np.random.default_rng(0)
    return {
        "conv.weight": random.standard_normal((4, 3, 2, 2), "float32"),
        "model/conv/b": random.standard_normal(4, "float32"),
        "file": np.float32(0.25).reshape(()),
        "nothing": np.zeros((0, 3), "float32"),
    }


def contents(path, **options):
    """All arrays of a checkpoint by name."""
    checkpoint = open_checkpoint(path, **options)
    found = {name: checkpoint.read(name) for name in checkpoint.shapes}
    assert {k: x.shape for k, x in found.items()} == checkpoint.shapes
    assert all(x.dtype == "float32" for x in found.values())
    assert all(x.flags.c_contiguous for x in found.values())
    return found


def assert_equal(found, expected):
    """Compares dicts of arrays bit for bit."""
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, name)


def refusal(path, **options):
    """The message for a checkpoint that is refused, in three parts."""
    with pytest.raises(ValueError) as error:
        contents(path, **options)
    problem, found, remedy = str(error.value).partition(f"Received: {path}. ")
    assert problem and found and remedy.endswith(".")
    return str(error.value)
