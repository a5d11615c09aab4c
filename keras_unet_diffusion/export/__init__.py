"""Files for other runtimes: SavedModel, LiteRT and ONNX, checked by loading."""

from keras_unet_diffusion.export.artifacts import (
    SAMPLERS,
    export_model,
    missing_packages,
)
from keras_unet_diffusion.export.litert import write_litert
from keras_unet_diffusion.export.loading import check_artifacts
from keras_unet_diffusion.export.network import rebuild_in_float32
from keras_unet_diffusion.export.parity_table import format_parity_table
from keras_unet_diffusion.export.saved_model import write_saved_model
from keras_unet_diffusion.export.weights_file import load_exported_network

__all__ = [
    "SAMPLERS",
    "check_artifacts",
    "export_model",
    "format_parity_table",
    "load_exported_network",
    "missing_packages",
    "rebuild_in_float32",
    "write_litert",
    "write_saved_model",
]
