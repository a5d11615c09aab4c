"""What surrounds `fit`: averages of weights, checkpoints, callbacks."""

from keras_unet_diffusion.training.averaging import ExponentialMovingAverage
from keras_unet_diffusion.training.callbacks import (
    ImagesPerSecond,
    SampleGrid,
    SaveCheckpoints,
)
from keras_unet_diffusion.training.checkpoints import load_model, save_model

__all__ = [
    "ExponentialMovingAverage",
    "ImagesPerSecond",
    "SampleGrid",
    "SaveCheckpoints",
    "load_model",
    "save_model",
]
