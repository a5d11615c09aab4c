"""Writing the weights of a `UNet` for another project to load."""

from pathlib import Path

from keras_unet_diffusion.files import check_new_folder
from keras_unet_diffusion.weights.diffusers_config import diffusers_config
from keras_unet_diffusion.weights.diffusers_folder import (
    write_diffusers_folder,
)
from keras_unet_diffusion.weights.npz_file import write_npz
from keras_unet_diffusion.weights.safetensors_file import write_safetensors
from keras_unet_diffusion.weights.torch_file import write_torch
from keras_unet_diffusion.weights.transfer import export_tensors

WRITERS = {
    ".safetensors": write_safetensors,
    ".pt": write_torch,
    ".pth": write_torch,
    ".npz": write_npz,
}


def save_checkpoint(network, path, layout, qkv_order=None):
    """Writes the weights of a network in another project's layout.

    Args:
        network: built `UNet`.
        path: a folder, new or empty, for "diffusers": `config.json` and the
            weights, which `UNet2DModel.from_pretrained` loads. Otherwise a
            file, `.pt` (which `torch.load` reads), `.safetensors` or `.npz`.
            It appears whole or not at all.
        layout: str, "diffusers", "guided_diffusion", "edm", "edm2" or
            "ddpm".
        qkv_order: str, "new" or "legacy", for "guided_diffusion" only; None
            is "new". The network there must be built with
            `use_new_attention_order` accordingly: see `guided_arguments`.

    Raises:
        ValueError: the layout cannot express the network (the message names
            every argument that stands in the way), or the path does not fit.

    Example:

    ```python
    save_checkpoint(network, "for_diffusers", "diffusers")
    save_checkpoint(network, "for_openai.pt", "guided_diffusion")
    ```
    """
    path = Path(path)
    is_folder = layout == "diffusers" and not path.suffix
    if not is_folder and path.suffix not in WRITERS:
        raise ValueError(
            "The format of a checkpoint follows from its name. Received: "
            f"{path} for the layout {layout!r}. Name it {', '.join(WRITERS)}, "
            "or a folder without a suffix for diffusers."
        )
    tensors = export_tensors(network, layout, qkv_order)
    if is_folder:
        check_new_folder(path)
        write_diffusers_folder(path, tensors, diffusers_config(network))
    else:
        WRITERS[path.suffix](path, tensors)
