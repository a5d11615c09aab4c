"""Keras layers of the U-Net. They know nothing of diffusion."""

from keras_unet_diffusion.layers.attention import SpatialSelfAttention
from keras_unet_diffusion.layers.embeddings import (
    LabelEmbedding,
    NoiseLevelEmbedding,
    SinusoidalEmbedding,
)
from keras_unet_diffusion.layers.normalization import (
    GroupNormalization,
    ModulatedGroupNormalization,
)
from keras_unet_diffusion.layers.resampling import Downsample, Upsample
from keras_unet_diffusion.layers.residual import ResidualBlock

__all__ = [
    "Downsample",
    "GroupNormalization",
    "LabelEmbedding",
    "ModulatedGroupNormalization",
    "NoiseLevelEmbedding",
    "ResidualBlock",
    "SinusoidalEmbedding",
    "SpatialSelfAttention",
    "Upsample",
]
