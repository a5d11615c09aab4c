"""U-Net diffusion models for Keras 3 and TensorFlow.

```python
from keras_unet_diffusion import DiffusionModel, UNet
from keras_unet_diffusion.data import image_dataset, save_grid
```
"""

from keras_unet_diffusion.backends import leave_gpus_to_jax
from keras_unet_diffusion.cascade import Cascade
from keras_unet_diffusion.diffusion import (
    ContinuousCosineSchedule,
    CosineSchedule,
    DiffusionProcess,
    EDMPrediction,
    EDMSchedule,
    EDMWeighting,
    FlowPrediction,
    FlowSchedule,
    ImagePrediction,
    LinearSchedule,
    LogitNormalTimes,
    LogNormalTimes,
    LogUniformTimes,
    MinSNRWeighting,
    NoisePrediction,
    P2Weighting,
    ScaledLinearSchedule,
    ScorePrediction,
    ShiftedSchedule,
    SigmoidBetaSchedule,
    SigmoidSchedule,
    SigmoidWeighting,
    SoftMinSNRWeighting,
    StratifiedTimes,
    UniformTimes,
    UniformWeighting,
    VelocityPrediction,
    VESchedule,
    VPSchedule,
    ZeroTerminalSNRSchedule,
)
from keras_unet_diffusion.guidance import (
    AutoGuidance,
    ClassifierFreeGuidance,
    ClassifierGuidance,
)
from keras_unet_diffusion.magnitude_preserving_unet import (
    MagnitudePreservingUNet,
)
from keras_unet_diffusion.model import DiffusionModel
from keras_unet_diffusion.plain_cnn import PlainCNN
from keras_unet_diffusion.samplers import (
    DDIM,
    DDPM,
    LMS,
    DPMSolverPP,
    DynamicThresholding,
    Euler,
    EulerAncestral,
    ExponentialGrid,
    FlowEuler,
    FlowHeun,
    Heun,
    KarrasGrid,
    LeadingGrid,
    LinspaceGrid,
    StaticThresholding,
    TrailingGrid,
    UniPC,
)
from keras_unet_diffusion.training import (
    Augmentation,
    ExponentialMovingAverage,
    FusedAdam,
    HalfLifeAverage,
    PowerFunctionAverage,
    load_model,
    save_model,
)
from keras_unet_diffusion.unet import UNet

leave_gpus_to_jax()

__version__ = "0.1.0"

__all__ = [
    "Augmentation",
    "AutoGuidance",
    "Cascade",
    "ClassifierFreeGuidance",
    "ClassifierGuidance",
    "DiffusionModel",
    "ExponentialMovingAverage",
    "FusedAdam",
    "HalfLifeAverage",
    "MagnitudePreservingUNet",
    "PlainCNN",
    "PowerFunctionAverage",
    "UNet",
    "load_model",
    "save_model",
    "ContinuousCosineSchedule",
    "CosineSchedule",
    "DiffusionProcess",
    "EDMPrediction",
    "EDMSchedule",
    "EDMWeighting",
    "FlowPrediction",
    "FlowSchedule",
    "ImagePrediction",
    "LinearSchedule",
    "LogNormalTimes",
    "LogUniformTimes",
    "LogitNormalTimes",
    "MinSNRWeighting",
    "NoisePrediction",
    "P2Weighting",
    "ScaledLinearSchedule",
    "ScorePrediction",
    "ShiftedSchedule",
    "SigmoidBetaSchedule",
    "SigmoidSchedule",
    "SigmoidWeighting",
    "SoftMinSNRWeighting",
    "StratifiedTimes",
    "UniformTimes",
    "UniformWeighting",
    "VESchedule",
    "VPSchedule",
    "VelocityPrediction",
    "ZeroTerminalSNRSchedule",
    "DPMSolverPP",
    "FlowEuler",
    "FlowHeun",
    "Heun",
    "LMS",
    "UniPC",
    "DDIM",
    "DDPM",
    "DynamicThresholding",
    "Euler",
    "EulerAncestral",
    "ExponentialGrid",
    "KarrasGrid",
    "LeadingGrid",
    "LinspaceGrid",
    "StaticThresholding",
    "TrailingGrid",
]
