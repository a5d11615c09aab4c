"""Files for other runtimes: SavedModel and LiteRT, checked by loading them."""

from keras_unet_diffusion.export.artifacts import SAMPLERS, export_model
from keras_unet_diffusion.export.litert import write_litert
from keras_unet_diffusion.export.network import rebuild_in_float32
from keras_unet_diffusion.export.parity import format_parity_table
from keras_unet_diffusion.export.saved_model import write_saved_model

__all__ = [
    "SAMPLERS",
    "export_model",
    "format_parity_table",
    "rebuild_in_float32",
    "write_litert",
    "write_saved_model",
]
