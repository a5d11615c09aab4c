"""Keras layers of the U-Net. They know nothing of diffusion."""

from keras_unet_diffusion.layers.attention import (
    SpatialCrossAttention,
    SpatialSelfAttention,
)
from keras_unet_diffusion.layers.embeddings import (
    FourierEmbedding,
    NoiseLevelEmbedding,
    SinusoidalEmbedding,
)
from keras_unet_diffusion.layers.filtering import (
    BilinearUpsample,
    FilteredDownsample,
    FilteredUpsample,
)
from keras_unet_diffusion.layers.labels import LabelEmbedding
from keras_unet_diffusion.layers.magnitude_preserving import (
    MagnitudePreservingConcatenate,
    MagnitudePreservingConv2D,
    MagnitudePreservingDense,
)
from keras_unet_diffusion.layers.magnitude_preserving_blocks import (
    MagnitudePreservingDecoderBlock,
    MagnitudePreservingEncoderBlock,
    MagnitudePreservingSelfAttention,
)
from keras_unet_diffusion.layers.magnitude_preserving_embedding import (
    MagnitudePreservingEmbedding,
    MagnitudePreservingFourierEmbedding,
)
from keras_unet_diffusion.layers.normalization import (
    GroupNormalization,
    ModulatedGroupNormalization,
)
from keras_unet_diffusion.layers.pyramid import PyramidDownsample
from keras_unet_diffusion.layers.resampling import Downsample, Upsample
from keras_unet_diffusion.layers.residual import ResidualBlock

__all__ = [
    "BilinearUpsample",
    "Downsample",
    "FilteredDownsample",
    "FilteredUpsample",
    "FourierEmbedding",
    "GroupNormalization",
    "LabelEmbedding",
    "MagnitudePreservingConcatenate",
    "MagnitudePreservingConv2D",
    "MagnitudePreservingDecoderBlock",
    "MagnitudePreservingDense",
    "MagnitudePreservingEmbedding",
    "MagnitudePreservingEncoderBlock",
    "MagnitudePreservingFourierEmbedding",
    "MagnitudePreservingSelfAttention",
    "ModulatedGroupNormalization",
    "NoiseLevelEmbedding",
    "PyramidDownsample",
    "ResidualBlock",
    "SinusoidalEmbedding",
    "SpatialCrossAttention",
    "SpatialSelfAttention",
    "Upsample",
]
