"""The network as it is exported: float32, whatever it was trained in."""

import numpy as np

FLOAT32_POLICY = {"name": "float32"}


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
    rebuilt = type(network).from_config(_in_float32(network.get_config()))
    rebuilt.set_weights(network.get_weights())
    return rebuilt


def _in_float32(config):
    """A config whose every dtype policy is float32."""
    if isinstance(config, list | tuple):
        return type(config)(_in_float32(value) for value in config)
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy":
        return config | {"config": FLOAT32_POLICY}
    return {key: _in_float32(value) for key, value in config.items()}


def weight_bytes(network):
    """Bytes of the network's weights in float32, int."""
    return sum(4 * int(np.prod(weight.shape)) for weight in network.weights)
