"""Keras's backends as contestants: devices, memory, flags."""

import contextlib
import os


def prepare():
    """Imports the backend so that it shares the card; returns its name."""
    import keras
    import tensorflow as tf

    backend = keras.backend.backend()
    if backend == "jax":
        # TensorFlow reads the data there and needs no card.
        tf.config.set_visible_devices([], "GPU")
    for gpu in tf.config.get_visible_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    return backend


def device_name():
    """What the backend computes on: "gpu" or "cpu"."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend()
    import tensorflow as tf

    return "gpu" if tf.config.get_visible_devices("GPU") else "cpu"


def data_parallel(num_devices):
    """A context in which a model is made for several devices of this host."""
    import keras

    if num_devices == 1:
        return contextlib.nullcontext()
    if keras.backend.backend() == "jax":
        devices = keras.distribution.list_devices()[:num_devices]
        parallel = keras.distribution.DataParallel(devices=devices)
        keras.distribution.set_distribution(parallel)
        return contextlib.nullcontext()
    import tensorflow as tf

    devices = tf.config.list_logical_devices(device_name().upper())
    names = [device.name for device in devices[:num_devices]]
    return tf.distribute.MirroredStrategy(names).scope()


def peak_device_bytes():
    """The most memory of the first card that was in use; None on a CPU."""
    import keras

    if device_name() == "cpu":
        return None
    if keras.backend.backend() == "jax":
        import jax

        return jax.local_devices()[0].memory_stats()["peak_bytes_in_use"]
    import tensorflow as tf

    return tf.config.experimental.get_memory_info("GPU:0")["peak"]


def jit_compile(setting):
    """A flag's "auto", "true" or "false" for `compile`."""
    return {"auto": "auto", "true": True, "false": False}[setting]


def flags():
    """The compiler's flags that this process runs under, a dict."""
    names = ("XLA_FLAGS", "TF_XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR")
    return {name: os.environ[name] for name in names if name in os.environ}
