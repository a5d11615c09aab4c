"""What the tests of exported files share: calls, the page's code."""

import functools
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import error_interpolation

from keras_unet_diffusion import (
    CosineSchedule,
    DiffusionModel,
    DiffusionProcess,
    UNet,
    VelocityPrediction,
    layers,
)
from keras_unet_diffusion.export import artifacts
from keras_unet_diffusion.functional_network import FunctionalNetwork

README = Path(__file__).parents[1] / "export" / "README.md"


def code_blocks():
    """The Python code of the page on exported files, in order."""
    text = README.read_text()
    return [part.split("```")[0] for part in text.split("```python\n")[1:]]


def labelled_model(policy="float32"):
    """A model of ten classes around a small U-Net with random weights."""
    # It imports this module as a plugin.
    from conftest import SMALL, randomize

    keras.utils.set_random_seed(0)
    # Down and up goes the network of any size, further below. This one
    # attends in the middle.
    one_level = {
        "base_channels": 16,
        "channel_multipliers": (1,),
        "attention_resolutions": (),
    }
    network = UNet(**SMALL | one_level, num_classes=10, dtype=policy)
    process = DiffusionProcess(CosineSchedule(), VelocityPrediction())
    return DiffusionModel(randomize(network), process)


@keras.saving.register_keras_serializable(package="tests")
class LabelledCNN(FunctionalNetwork):
    """Two convolutions that know labels: a U-Net takes seconds to trace."""

    def __init__(
        self, num_classes=10, null_label=None, dtype=None, name="cnn", **kwargs
    ):
        images = keras.Input((8, 8, 1), name="noisy_images")
        level = keras.Input((), name="noise_level")
        labels = keras.Input((), name="labels", dtype="int32")
        table = keras.layers.Embedding(num_classes + 1, 8, dtype=dtype)
        hidden = keras.layers.Conv2D(8, 3, padding="same", dtype=dtype)(images)
        embedding = layers.NoiseLevelEmbedding(8, 8, dtype=dtype)(level)
        embedding = keras.layers.add([embedding, table(labels)], dtype=dtype)
        hidden = keras.layers.add(
            [hidden, keras.layers.Reshape((1, 1, 8), dtype=dtype)(embedding)]
        )
        hidden = keras.layers.Activation("silu", dtype=dtype)(hidden)
        outputs = keras.layers.Conv2D(1, 3, padding="same", dtype="float32")(
            hidden
        )
        inputs = {
            "noisy_images": images,
            "noise_level": level,
            "labels": labels,
        }
        super().__init__(
            (inputs, outputs),
            {"num_classes": num_classes, "null_label": null_label},
            keras.dtype_policies.get(dtype or keras.config.dtype_policy()),
            name=name,
            **kwargs,
        )


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


def litert_runner(path, name="denoise"):
    """The function of a LiteRT file, of arrays by their names."""
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(str(path)).get_signature_runner(name)


def sampled_by_steps(step, noise, num_steps, **given):
    """What a host's loop makes by the signature `step` of a SavedModel."""
    x_t, x_0 = tf.constant(noise), tf.zeros_like(noise)
    for k in range(num_steps):
        if "previous_estimate" in step.structured_input_signature[1]:
            given["previous_estimate"] = x_0
        result = step(
            x_t=x_t,
            step=tf.constant(k),
            num_steps=tf.constant(num_steps, tf.int32),
            **{name: tf.constant(x) for name, x in given.items()},
        )
        x_t, x_0 = result["x_next"], result["x_0"]
    return x_t.numpy()


def _call_here(runner, artifact, name, inputs):
    if runner == "saved_model":
        function = signature(artifact.parent, name)
        if name == "step":
            return sampled_by_steps(function, **inputs)
        tensors = {key: tf.constant(x) for key, x in inputs.items()}
        (output,) = function(**tensors).values()
        return output.numpy()
    run = litert_runner(artifact, name)
    count = next(len(x) for x in inputs.values() if x.ndim)
    outputs = []
    for k in range(count):
        one = {n: x[k : k + 1] if x.ndim else x for n, x in inputs.items()}
        (output,) = run(**one).values()
        outputs.append(output)
    return np.concatenate(outputs)


def run_here(runner, artifact, calls):
    """`run_elsewhere`, but in this process."""
    return [
        {"output": _call_here(runner, artifact, *call), "milliseconds": 1.0}
        for call in calls
    ]


def off(signature):
    """`run_elsewhere` of which one signature is off by a hundredth."""

    def run(runner, artifact, calls):
        results = run_here(runner, artifact, calls)
        for (name, _), result in zip(calls, results, strict=True):
            result["output"] = result["output"] + 0.01 * (name == signature)
        return results

    return run


def write_few(patch):
    """Only what converts in seconds is exported, and compared here.

    Args:
        patch: a `pytest.MonkeyPatch`.
    """
    patch.setattr(artifacts, "run_elsewhere", run_here)
    patch.setattr(artifacts, "PRECISIONS", ("float32",))
    patch.setattr(artifacts, "DYNAMIC_PRECISIONS", ())
    patch.setattr(artifacts, "missing_packages", lambda: {"onnx": ["it"]})


@pytest.fixture
def compared_here(monkeypatch):
    """Artifacts are compared in this process, which has TensorFlow loaded."""
    write_few(monkeypatch)


@pytest.fixture
def places_unnamed(monkeypatch):
    """TensorFlow takes seconds to say where in a graph an error was."""
    monkeypatch.setattr(
        error_interpolation, "parse_message", lambda text: (text, [], [])
    )
