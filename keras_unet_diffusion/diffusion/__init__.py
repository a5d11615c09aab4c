"""The theory of diffusion: pure functions that know no network.

Symbols, the same in every file:

| symbol    | meaning                                                     |
|-----------|-------------------------------------------------------------|
| `t`       | time in [0, 1]: 0 is a clean image, 1 is noise              |
| `x_0`     | clean images, `(batch, height, width, channels)`, [-1, 1]   |
| `noise`   | standard normal noise of the same shape                     |
| `alpha`   | share of the image in x_t                                   |
| `sigma`   | share of the noise in x_t                                   |
| `x_t`     | noisy images, `alpha * x_0 + sigma * noise`                 |
| `log_snr` | log of the signal-to-noise ratio, `2 * log(alpha / sigma)`  |

The networks of Ho et al. 2020 count time in steps from 0 to 999; what a
network is told is `process.noise_level(t)`.
"""

from keras_unet_diffusion.diffusion.continuous_schedules import (
    ContinuousCosineSchedule,
    FlowSchedule,
    ShiftedSchedule,
    SigmoidSchedule,
    VPSchedule,
)
from keras_unet_diffusion.diffusion.discrete_schedules import (
    CosineSchedule,
    DiscreteSchedule,
    LinearSchedule,
    ScaledLinearSchedule,
    SigmoidBetaSchedule,
)
from keras_unet_diffusion.diffusion.exploding_schedules import (
    EDMSchedule,
    VESchedule,
)
from keras_unet_diffusion.diffusion.parameterizations import (
    EDMPrediction,
    FlowPrediction,
    ImagePrediction,
    NoisePrediction,
    Prediction,
    ScorePrediction,
    VelocityPrediction,
)
from keras_unet_diffusion.diffusion.process import DiffusionProcess
from keras_unet_diffusion.diffusion.schedules import (
    Point,
    Schedule,
    VariancePreserving,
)
from keras_unet_diffusion.diffusion.times import (
    LogitNormalTimes,
    LogNormalTimes,
    LogUniformTimes,
    StratifiedTimes,
    TrainingTimes,
    UniformTimes,
)
from keras_unet_diffusion.diffusion.weightings import (
    EDMWeighting,
    MinSNRWeighting,
    P2Weighting,
    SigmoidWeighting,
    SoftMinSNRWeighting,
    UniformWeighting,
    Weighting,
)
from keras_unet_diffusion.diffusion.zero_terminal_snr import (
    ZeroTerminalSNRSchedule,
)

__all__ = [
    "ContinuousCosineSchedule",
    "CosineSchedule",
    "DiffusionProcess",
    "DiscreteSchedule",
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
    "Point",
    "Prediction",
    "ScaledLinearSchedule",
    "Schedule",
    "ScorePrediction",
    "ShiftedSchedule",
    "SigmoidBetaSchedule",
    "SigmoidSchedule",
    "SigmoidWeighting",
    "SoftMinSNRWeighting",
    "StratifiedTimes",
    "TrainingTimes",
    "UniformTimes",
    "UniformWeighting",
    "VESchedule",
    "VPSchedule",
    "VariancePreserving",
    "VelocityPrediction",
    "Weighting",
    "ZeroTerminalSNRSchedule",
]
