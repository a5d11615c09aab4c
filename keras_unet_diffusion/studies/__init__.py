"""Experiments and pictures that show why the U-Net is built as it is."""

from keras_unet_diffusion.studies.anatomy import Block, describe, table
from keras_unet_diffusion.studies.receptive_field import (
    effective_receptive_field,
    measured_receptive_field,
    theoretical_receptive_field,
)

__all__ = [
    "Block",
    "describe",
    "effective_receptive_field",
    "measured_receptive_field",
    "table",
    "theoretical_receptive_field",
]
