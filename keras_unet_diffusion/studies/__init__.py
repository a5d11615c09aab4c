"""Experiments and pictures that show why the U-Net is built as it is."""

from keras_unet_diffusion.studies.anatomy import Block, describe, table
from keras_unet_diffusion.studies.budget import Budget, Variant, variant
from keras_unet_diffusion.studies.laboratory import Laboratory, Trained
from keras_unet_diffusion.studies.receptive_field import (
    effective_receptive_field,
    measured_receptive_field,
    theoretical_receptive_field,
)
from keras_unet_diffusion.studies.report import Result, load_result

__all__ = [
    "Block",
    "Budget",
    "Laboratory",
    "Result",
    "Trained",
    "Variant",
    "describe",
    "effective_receptive_field",
    "load_result",
    "measured_receptive_field",
    "table",
    "theoretical_receptive_field",
    "variant",
]
