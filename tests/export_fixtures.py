"""What the tests of exported files share: calls, the page's code."""

import functools
from pathlib import Path

import tensorflow as tf

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
