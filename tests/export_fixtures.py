"""What the tests of exported files share: calls, the page's code."""

import functools
from pathlib import Path

import tensorflow as tf

README = Path(__file__).parents[1] / "export" / "README.md"


def code_blocks():
    """The Python code of the page on exported files, in order."""
    text = README.read_text()
    return [part.split("```")[0] for part in text.split("```python\n")[1:]]


@functools.lru_cache(maxsize=2)
def signature(folder, name):
    """A signature of the SavedModel in a folder of exported files."""
    path = str(folder / "saved_model")
    return tf.saved_model.load(path).signatures[name]


def generated(folder, seed=5, **inputs):
    """What `generate` returns, an array, for inputs by their names."""
    inputs = {"num_images": 2, "num_steps": 3, "sampler": "ddim"} | inputs
    arguments = {name: tf.constant(x) for name, x in inputs.items()}
    arguments["seed"] = tf.constant(seed, tf.int64)
    return signature(folder, "generate")(**arguments)["images"]
