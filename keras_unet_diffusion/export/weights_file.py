"""The averaged weights alone, as a .safetensors file."""

import itertools
import json
from pathlib import Path

import keras
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from keras_unet_diffusion.files import written_whole

_PACKAGE = "keras_unet_diffusion"


def write_weights(path, network, process):
    """Writes the weights of a network with what is needed to rebuild it.

    Tensors bear the names of layers and their weights, such as `stem.kernel`,
    and the shapes that Keras gives them. The metadata, text, hold `format`,
    and as JSON `network` and `process`, the configs of both, and `names`, the
    tensors in the order of the network's weights.

    Args:
        path: of the `.safetensors` file; it appears whole or not at all.
        network: a float32 `keras.Model`, see `rebuild_in_float32`.
        process: the `DiffusionProcess` that it was trained with.

    Raises:
        ValueError: the network's config would hold Python code.
    """
    names = weight_names(network)
    weights = map(np.ascontiguousarray, network.get_weights())
    tensors = dict(zip(names, weights, strict=True))
    metadata = {
        "format": _PACKAGE,
        "network": _config(network),
        "process": _config(process),
        # Layers that were given no names get others when they are rebuilt.
        "names": json.dumps(names),
    }
    with written_whole(path) as temporary:
        save_file(tensors, temporary, metadata)


def _config(component):
    text = json.dumps(keras.saving.serialize_keras_object(component))
    # Keras writes the bytecode of lambdas into configs.
    if '"__lambda__"' in text:
        raise ValueError(
            "Exported files hold no Python code. Received: "
            f"{component!r:.100}, with a lambda in its config. Replace it by "
            "a registered layer or function."
        )
    return text


def weight_names(network):
    """Names of a network's weights in a file, in the order of `weights`.

    Raises:
        ValueError: two of them have the same.
    """
    prefix = f"{network.name}/"
    names = [
        weight.path.removeprefix(prefix).replace("/", ".")
        for weight in network.weights
    ]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            "Weights are told apart by the names of their layers. Received: "
            f"a network with several weights {twice[0]!r}. Give its layers "
            "names of their own."
        )
    return names


def load_exported_network(path):
    """Builds the network of an exported `weights.safetensors` again.

    For more training, other samplers or a conversion; needs nothing but the
    file. Of classes, only Keras's and registered ones are built (safe mode):
    no code in the file is run. Verify the file before, see `check_artifacts`.

    Args:
        path: of the file.

    Returns:
        A pair of a `keras.Model` with the exported weights and the
        `DiffusionProcess` that it was trained with.

    Raises:
        ValueError: the file is damaged, of another kind, or its tensors are
            not those of the network that it describes.

    Example:

    ```python
    model = DiffusionModel(*load_exported_network("weights.safetensors"))
    ```
    """
    path = Path(path)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(
            f"The file of weights cannot be read. Received: {path} ({error}). "
            "Copy or export it again."
        ) from error
    if metadata.get("format") != _PACKAGE:
        raise ValueError(
            "The file says nothing of the network that its weights are of. "
            f"Received: {path} with the metadata {sorted(metadata)}. Pass "
            "weights.safetensors of exported files; "
            "UNet.from_checkpoint reads those of other projects."
        )
    try:
        network, process = (
            keras.saving.deserialize_keras_object(
                json.loads(metadata[part]), safe_mode=True
            )
            for part in ("network", "process")
        )
        names = list(map(str, json.loads(metadata["names"])))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            "The network cannot be built again. Received: "
            f"{path} ({type(error).__name__}: {error}). Import what registers "
            "its class, or export it again."
        ) from error
    shapes = [tuple(weight.shape) for weight in network.weights]
    expected = dict(itertools.zip_longest(names, shapes, fillvalue=""))
    found = {name: tensor.shape for name, tensor in tensors.items()}
    wrong = {
        name
        for name in set(found) | set(expected)
        if found.get(name) != expected.get(name)
    }
    if wrong:
        raise ValueError(
            "The tensors are not those of the network that the file "
            f"describes. Received: {path} with {len(wrong)} that are missing, "
            f"left over or of another shape, such as {min(wrong)!r}. Export "
            "it again."
        )
    network.set_weights([tensors[name] for name in names])
    return network, process
