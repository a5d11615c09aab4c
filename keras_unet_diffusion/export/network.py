"""The network as it is exported: float32, whatever it was trained in."""

import numpy as np


def rebuild_in_float32(network):
    """Builds the same network with the same weights in float32.

    A network under `mixed_float16` or `mixed_bfloat16` converts to LiteRT
    without an error, into operations that no LiteRT runtime has.

    Args:
        network: a built `keras.Model` with `get_config`.

    Returns:
        A new `keras.Model` of the same class.

    Raises:
        ValueError: the network has no weights to export.
    """
    if not network.weights:
        raise ValueError(
            "There are no weights to export. Received: network="
            f"{network.name!r} without weights. Build and train it first."
        )
    return _rebuild(network, "float32")


def rebuild_in_float64(network):
    """Builds the same network in float64, to tell what float32 rounds off.

    Only as exact as its layers: those of this package keep their statistics
    in float64, and the waves of the noise level and the output in float32.

    Args:
        network: see `rebuild_in_float32`.

    Returns:
        A new `keras.Model` of the same class.
    """
    return _rebuild(network, "float64")


def _rebuild(network, dtype):
    config = _in_dtype(network.get_config(), dtype)
    rebuilt = type(network).from_config(config)
    rebuilt.set_weights(network.get_weights())
    return rebuilt


def _in_dtype(config, dtype):
    """A config whose every dtype policy is one of a single dtype."""
    if isinstance(config, list | tuple):
        return type(config)(_in_dtype(value, dtype) for value in config)
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy":
        return config | {"config": {"name": dtype}}
    return {key: _in_dtype(value, dtype) for key, value in config.items()}


def weight_bytes(network):
    """Bytes of the network's weights in float32, int."""
    return sum(4 * int(np.prod(weight.shape)) for weight in network.weights)
