"""Checkpoints as folders of diffusers: config.json beside the weights."""

import json
from pathlib import Path

from keras_unet_diffusion.files import check_new_folder, written_whole
from keras_unet_diffusion.weights.checkpoint import (
    Checkpoint,
    CheckpointError,
    refusing_damage,
)
from keras_unet_diffusion.weights.safetensors_file import (
    SafetensorsFile,
    write_safetensors,
)

CONFIG_NAME = "config.json"
WEIGHTS_STEM = "diffusion_pytorch_model"
WEIGHTS_NAME = f"{WEIGHTS_STEM}.safetensors"
SHARDS_NAME = f"{WEIGHTS_NAME}.index.json"
_MAX_JSON_BYTES = 16 * 2**20


class ShardedFolder(Checkpoint):
    """Weights in several .safetensors files, and a list of what is in which.

    Args:
        folder: path of the folder that holds them.
        config: dict of the folder's config.json, or None.
    """

    def __init__(self, folder, config=None):
        folder = Path(folder)
        with refusing_damage(folder / SHARDS_NAME, self.remedy):
            places = read_json(folder / SHARDS_NAME)["weight_map"]
            names = set(places.values())
            for name in names:
                # Only files beside the list, wherever a list may point.
                if Path(name).name != name or not name.endswith(".safetensors"):
                    raise ValueError(f"it names {name!r} as a file of weights")
        files = {name: SafetensorsFile(folder / name) for name in sorted(names)}
        self._parts = {name: files[place] for name, place in places.items()}
        held = {name: x for x in files.values() for name in x.shapes}
        wrong = [
            name
            for name in {**held, **self._parts}
            if held.get(name) is not self._parts.get(name)
        ]
        if wrong:
            raise CheckpointError(
                f"Files of weights do not hold what {SHARDS_NAME} says, as "
                f"{wrong[0]!r}",
                folder,
                self.remedy,
            )
        shapes = {name: x.shapes[name] for name, x in self._parts.items()}
        super().__init__(folder, shapes, config)

    def _read(self, name):
        return self._parts[name].read(name)


def read_json(path):
    """Reads a small file of JSON that holds a dict.

    Raises:
        ValueError: it is no such file.
    """
    with refusing_damage(path, "Fetch or write the file again."):
        with open(path, "rb") as file:
            data = file.read(_MAX_JSON_BYTES + 1)
        if len(data) > _MAX_JSON_BYTES:
            raise ValueError("it is too large")
        content = json.loads(data)
        if not isinstance(content, dict):
            raise ValueError("it holds no dict")
        return content


def write_diffusers_folder(path, tensors, config):
    """Writes arrays as a folder that diffusers' `from_pretrained` reads.

    Args:
        path: folder; it must be empty or not exist.
        tensors: dict of float32 arrays by diffusers' names.
        config: dict of the network's arguments in diffusers.

    Raises:
        ValueError: there is something in the folder, or nothing to write, or
            something that cannot be written.

    Example:

    ```python
    write_diffusers_folder(
        "ddpm",
        export_tensors(network, "diffusers"),
        diffusers_config(network),
    )
    ```
    """
    check_new_folder(path)
    try:
        text = json.dumps(config, indent=2, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The config cannot be written as JSON ({error}). Received: "
            f"{config!r}. Pass a dict of numbers, text, lists and None."
        ) from None
    with written_whole(path) as temporary:
        temporary.mkdir()
        (temporary / CONFIG_NAME).write_text(text + "\n")
        # Transformers and diffusers refuse files that do not say this.
        write_safetensors(temporary / WEIGHTS_NAME, tensors, {"format": "pt"})
