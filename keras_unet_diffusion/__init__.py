"""U-Net diffusion models for Keras 3 and TensorFlow.

```python
from keras_unet_diffusion import DiffusionModel, UNet
from keras_unet_diffusion.data import image_dataset, save_grid
```
"""

from keras_unet_diffusion.diffusion import (
    CosineSchedule,
    DiffusionProcess,
    ImagePrediction,
    LinearSchedule,
    MinSNRWeighting,
    NoisePrediction,
    UniformWeighting,
    VelocityPrediction,
)
from keras_unet_diffusion.magnitude_preserving_unet import (
    MagnitudePreservingUNet,
)
from keras_unet_diffusion.model import DiffusionModel
from keras_unet_diffusion.plain_cnn import PlainCNN
from keras_unet_diffusion.samplers import DDIM, DDPM
from keras_unet_diffusion.training import load_model, save_model
from keras_unet_diffusion.unet import UNet

__version__ = "0.1.0"

__all__ = [
    "DDIM",
    "DDPM",
    "CosineSchedule",
    "DiffusionModel",
    "DiffusionProcess",
    "ImagePrediction",
    "LinearSchedule",
    "MagnitudePreservingUNet",
    "MinSNRWeighting",
    "NoisePrediction",
    "PlainCNN",
    "UNet",
    "UniformWeighting",
    "VelocityPrediction",
    "load_model",
    "save_model",
]
