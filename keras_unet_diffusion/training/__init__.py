"""What surrounds `fit`: averages, augmentation, checkpoints, callbacks."""

from keras_unet_diffusion.training.augmentation import Augmentation
from keras_unet_diffusion.training.averaging import ExponentialMovingAverage
from keras_unet_diffusion.training.callbacks import (
    ImagesPerSecond,
    SampleGrid,
    SaveCheckpoints,
)
from keras_unet_diffusion.training.checkpoints import load_model, save_model

__all__ = [
    "Augmentation",
    "ExponentialMovingAverage",
    "ImagesPerSecond",
    "SampleGrid",
    "SaveCheckpoints",
    "load_model",
    "save_model",
]
