"""What surrounds `fit`: averages, augmentation, checkpoints, callbacks."""

from keras_unet_diffusion.training.augmentation import Augmentation
from keras_unet_diffusion.training.averaging import ExponentialMovingAverage
from keras_unet_diffusion.training.callbacks import (
    ImagesPerSecond,
    SampleGrid,
    SaveCheckpoints,
)
from keras_unet_diffusion.training.checkpoints import load_model, save_model
from keras_unet_diffusion.training.stopping import (
    RestoreLoss,
    StopOnSignal,
    Stopped,
)

__all__ = [
    "Augmentation",
    "ExponentialMovingAverage",
    "ImagesPerSecond",
    "RestoreLoss",
    "SampleGrid",
    "SaveCheckpoints",
    "StopOnSignal",
    "Stopped",
    "load_model",
    "save_model",
]
