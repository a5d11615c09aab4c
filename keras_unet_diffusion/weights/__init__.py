"""Weights of other projects' networks: reading, and writing back."""

from keras_unet_diffusion.weights.checkpoint import Checkpoint
from keras_unet_diffusion.weights.diffusers_config import diffusers_config
from keras_unet_diffusion.weights.diffusers_folder import (
    write_diffusers_folder,
)
from keras_unet_diffusion.weights.guided_diffusion import guided_arguments
from keras_unet_diffusion.weights.npz_file import write_npz
from keras_unet_diffusion.weights.opening import (
    open_checkpoint,
    opened,
)
from keras_unet_diffusion.weights.safetensors_file import write_safetensors
from keras_unet_diffusion.weights.saving import save_checkpoint
from keras_unet_diffusion.weights.torch_file import write_torch
from keras_unet_diffusion.weights.transfer import (
    export_tensors,
    find_layout,
    infer_arguments,
    load_checkpoint_into,
)

__all__ = [
    "Checkpoint",
    "diffusers_config",
    "export_tensors",
    "find_layout",
    "guided_arguments",
    "infer_arguments",
    "load_checkpoint_into",
    "open_checkpoint",
    "opened",
    "save_checkpoint",
    "write_diffusers_folder",
    "write_npz",
    "write_safetensors",
    "write_torch",
]
