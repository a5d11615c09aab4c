"""Keras's backends as contestants: devices, memory, flags, the model."""

import contextlib
import os


def prepare():
    """Imports the backend so that it shares the card."""
    import keras
    import tensorflow as tf

    if keras.backend.backend() == "jax":
        # TensorFlow reads the data there and needs no card.
        tf.config.set_visible_devices([], "GPU")
    for gpu in tf.config.get_visible_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)


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


def make_model(settings, **defaults):
    """The network of the contest in a `DiffusionModel`, not compiled yet.

    Args:
        settings: dict of `preset`, `overrides` and `dtype`.
        **defaults: arguments of the network unless `overrides` has them.
    """
    import keras

    from keras_unet_diffusion import DiffusionModel, UNet

    keras.utils.set_random_seed(0)
    dtype = settings["dtype"]
    network = UNet.from_preset(
        settings["preset"],
        dtype=dtype if dtype == "float32" else f"mixed_{dtype}",
        **defaults | settings["overrides"],
    )
    # Clips gradients and keeps an average of the weights by default.
    return DiffusionModel(network, seed=0)


def model_facts(model):
    """What every contestant tells of a compiled model, a dict."""
    import keras

    return {
        "backend": keras.backend.backend(),
        "device": device_name(),
        "jit_compile": bool(model.jit_compile),
        "flags": flags(),
        "num_parameters": model.network.count_params(),
    }


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
