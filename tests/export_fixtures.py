"""What the tests of exported files share: calls, the page's code."""

import functools
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_unet_diffusion.export import artifacts

README = Path(__file__).parents[1] / "export" / "README.md"


def code_blocks():
    """The Python code of the page on exported files, in order."""
    text = README.read_text()
    return [part.split("```")[0] for part in text.split("```python\n")[1:]]


@functools.lru_cache(maxsize=1)
def _loaded(folder):
    # To load one with four samplers takes ten seconds.
    return tf.saved_model.load(str(folder / "saved_model"))


def signature(folder, name):
    """A signature of the SavedModel in a folder of exported files."""
    return _loaded(folder).signatures[name]


def generated(folder, seed=5, **inputs):
    """What `generate` returns, an array, for inputs by their names."""
    inputs = {"num_images": 2, "num_steps": 3, "sampler": "ddim"} | inputs
    arguments = {name: tf.constant(x) for name, x in inputs.items()}
    arguments["seed"] = tf.constant(seed, tf.int64)
    return signature(folder, "generate")(**arguments)["images"]


def litert_runner(path):
    """The function of a LiteRT file, of arrays by their names."""
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(str(path)).get_signature_runner("denoise")


def _run_here(runner, artifact, name, inputs):
    if runner == "saved_model":
        function = signature(artifact.parent, name)
        tensors = {key: tf.constant(x) for key, x in inputs.items()}
        (output,) = function(**tensors).values()
    else:
        run = litert_runner(artifact)
        count = len(inputs["noise_level"])
        each = [
            {n: x[k : k + 1] for n, x in inputs.items()} for k in range(count)
        ]
        output = np.concatenate([run(**one)["prediction"] for one in each])
    return {"output": np.asarray(output), "milliseconds": 1.0}


@pytest.fixture
def compared_here(monkeypatch):
    """Artifacts are compared in this process, which has TensorFlow loaded."""
    monkeypatch.setattr(artifacts, "run_elsewhere", _run_here)
