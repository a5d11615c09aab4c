"""Trains on one device and on several, and writes what came out.

A program of its own, since the number of devices is set once a process:
`python replica_cases.py OUT CASE...`, with KERAS_BACKEND as wanted. Not a test.
"""

import contextlib
import os
import sys
from pathlib import Path

NUM_DEVICES = int(os.environ.get("NUM_REPLICA_DEVICES", "2"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# LLVM need not optimize programs that run for milliseconds.
os.environ["XLA_FLAGS"] = (
    f"--xla_force_host_platform_device_count={NUM_DEVICES} "
    "--xla_backend_optimization_level=0"
)

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import ops  # noqa: E402

from keras_unet_diffusion import DiffusionModel, FusedAdam  # noqa: E402
from keras_unet_diffusion.layers import (  # noqa: E402
    GroupNormalization,
    ResidualBlock,
)
from keras_unet_diffusion.training import (  # noqa: E402
    load_model,
    save_model,
)

NUM_STEPS = 6
IS_JAX = keras.backend.backend() == "jax"
IMAGES = np.random.default_rng(0).uniform(-1, 1, (8 * NUM_STEPS, 8, 8, 1))
# Name: optimizer and arguments of the model. What is clipped is clipped hard,
# so that clipping before the mean would show.
CASES = {
    "plain": (lambda: keras.optimizers.SGD(0.1), {"clip_norm": None}),
    "clipped": (lambda: keras.optimizers.SGD(1.0), {"clip_norm": 0.05}),
    "adamw": (
        lambda: FusedAdam(1e-2, weight_decay=0.01, epsilon=1e-3),
        {},
    ),
    "accumulated": (
        lambda: keras.optimizers.SGD(1.0),
        {"clip_norm": 0.05, "accumulation_steps": 3},
    ),
}
# A batch of which one image, and so one device, is not a number.
POISONED = IMAGES[:8].copy()
POISONED[6] = np.nan


def make_model(make_optimizer, **arguments):
    keras.utils.set_random_seed(0)
    # Small, since each of the many programs below is compiled.
    images = keras.Input((8, 8, 1), name="noisy_images")
    level = keras.Input((), name="noise_level")
    hidden = keras.layers.Conv2D(4, 3, padding="same")(images)
    hidden = hidden * keras.layers.Reshape((1, 1, 1))(level / 1000)
    # Looked up, so that its gradient is sparse on TensorFlow.
    labels = keras.Input((), dtype="int32", name="labels")
    embedded = keras.layers.Embedding(3, 4)(labels)
    hidden = hidden + keras.layers.Reshape((1, 1, 4))(embedded)
    hidden = GroupNormalization(num_groups=2)(hidden)
    outputs = keras.layers.Conv2D(1, 3, padding="same")(ops.silu(hidden))
    network = keras.Model(
        {"noisy_images": images, "noise_level": level, "labels": labels},
        outputs,
    )
    model = DiffusionModel(network, seed=5, **arguments)
    model.compile(make_optimizer(), jit_compile=IS_JAX)
    return model


def dataset(images):
    labels = np.arange(len(images), dtype="int32") % 3
    data = tf.data.Dataset.from_tensor_slices(
        (images.astype("float32"), labels)
    )
    return data.batch(8, drop_remainder=True)


def trained(name):
    """A trained model, and what training left behind, a dict of arrays."""
    make_optimizer, arguments = CASES[name]
    model = make_model(make_optimizer, **arguments)
    model.fit(dataset(POISONED), verbose=0, shuffle=False)
    assert model.updates.skipped_steps.numpy() == (name != "accumulated")
    found = []
    model.fit(
        dataset(IMAGES),
        verbose=0,
        shuffle=False,
        callbacks=[
            keras.callbacks.LambdaCallback(
                on_train_batch_end=lambda batch, logs: found.append(dict(logs))
            )
        ],
    )
    validated = model.evaluate(dataset(IMAGES), verbose=0)
    return model, {
        "weights": _flat(model.network),
        "averages": _flat(model.ema_network),
        "losses": np.array([logs["loss"] for logs in found]),
        "quartiles": np.array(
            [found[-1][f"loss_quartile_{k}"] for k in (1, 4)]
        ),
        "norms": np.array([logs["gradient_norm"] for logs in found]),
        "validated": np.array(validated),
        "steps": np.array(
            [
                model.updates.steps_taken.numpy(),
                model.updates.skipped_steps.numpy(),
            ]
        ),
    }


def moved(alone, several_devices, one, several, path):
    """Goes on with both models on one device, with that of several from a
    checkpoint; the weights, and images by the checkpoint in both places."""
    options = {"labels": [0, 1], "num_steps": 2, "seed": 0}
    with several():
        before = several_devices.generate(2, **options)
        save_model(several_devices, path)
    with one():
        loaded = load_model(path)
        loaded.compile(loaded.optimizer, jit_compile=IS_JAX)
        after = loaded.generate(2, **options)
        for model in (alone, loaded):
            model.fit(dataset(IMAGES), verbose=0, shuffle=False)
    return {
        "alone/weights": _flat(alone.network),
        "moved/weights": _flat(loaded.network),
        "moved/images": [before, after],
    }


def dropped():
    """What each replica of a block leaves of the same images."""
    block = ResidualBlock(
        4, dropout=0.5, num_groups=2, initialization="diffusers"
    )
    block.build((None, 8, 8, 4), (None, 4))
    strategy = tf.distribute.get_strategy()
    images, embedding = tf.ones((2, 8, 8, 4)), tf.ones((2, 4))
    outputs = strategy.run(lambda: block(images, embedding, training=True))
    return np.array(strategy.experimental_local_results(outputs))


def _flat(network):
    return np.concatenate([np.ravel(w) for w in network.get_weights()])


def scopes():
    """Contexts to make a model in: on one device, and on all."""
    if IS_JAX:
        from keras import distribution

        def parallel():
            devices = distribution.list_devices()
            assert len(devices) == NUM_DEVICES
            return distribution.DataParallel(devices=devices).scope()

        return contextlib.nullcontext, parallel
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * NUM_DEVICES
    )
    names = [f"CPU:{k}" for k in range(NUM_DEVICES)]
    strategy = tf.distribute.MirroredStrategy(names)
    return contextlib.nullcontext, strategy.scope


def main(out, *names):
    one, several = scopes()
    arrays = {}
    for name in names:
        models = []
        for kind, scope in (("one", one), ("several", several)):
            with scope():
                model, found = trained(name)
            models.append(model)
            arrays |= {f"{name}/{kind}/{k}": v for k, v in found.items()}
    path = Path(out).with_suffix(".keras")
    arrays |= moved(*models, one, several, path)
    if not IS_JAX:
        with several():
            arrays["dropped"] = dropped()
    np.savez(out, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
