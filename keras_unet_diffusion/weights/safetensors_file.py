"""Checkpoints as .safetensors files."""

# Registers bfloat16 with numpy, which safetensors relies on.
import ml_dtypes  # noqa: F401
from safetensors import safe_open
from safetensors.numpy import save_file

from keras_unet_diffusion.files import written_whole
from keras_unet_diffusion.weights.checkpoint import (
    Checkpoint,
    as_written,
    refusing_damage,
)

# Types of number that are read. Eight bits are left out: such weights mean
# nothing without the scales that lie beside them under no agreed name.
_TYPES = {"F64", "F32", "F16", "BF16", "BOOL"}
_TYPES |= {f"{sign}{bits}" for sign in "IU" for bits in (8, 16, 32, 64)}


class SafetensorsFile(Checkpoint):
    """A .safetensors file.

    The format has no checksum: changed bytes within an array go unnoticed.

    Args:
        path: file.
        config: dict that diffusers keeps beside the file, or None.

    Reference: https://github.com/huggingface/safetensors, "Format".
    Differences: 8-bit and complex numbers are refused.
    """

    def __init__(self, path, config=None):
        with refusing_damage(path, self.remedy):
            # It compares every declared size with that of the file.
            self._file = safe_open(path, framework="numpy")
            shapes = {
                name: tuple(self._file.get_slice(name).get_shape())
                for name in self._file.offset_keys()
            }
        super().__init__(path, shapes, config)

    def _read(self, name):
        number_type = self._file.get_slice(name).get_dtype()
        if number_type not in _TYPES:
            raise self._wrong_type(name, number_type)
        return self._file.get_tensor(name)


def write_safetensors(path, tensors, metadata=None):
    """Writes arrays as a .safetensors file, replacing one that is there.

    Args:
        path: file.
        tensors: dict of float32 arrays by name.
        metadata: dict of str by str to keep in the header, or None.

    Raises:
        ValueError: there is nothing to write, or something else than that.

    Example:

    ```python
    write_safetensors("model.safetensors", {"conv_in.bias": bias})
    ```
    """
    tensors = as_written(tensors)
    for key, value in (metadata or {}).items():
        if not (isinstance(key, str) and isinstance(value, str)):
            raise ValueError(
                "The metadata of a .safetensors file must be text. Received: "
                f"{key!r}: {value!r}. Convert both by str."
            )
    with written_whole(path) as temporary:
        save_file(tensors, temporary, metadata)
