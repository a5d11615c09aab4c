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

from keras_unet_diffusion.diffusion.parameterizations import (
    ImagePrediction,
    NoisePrediction,
    VelocityPrediction,
)
from keras_unet_diffusion.diffusion.process import DiffusionProcess
from keras_unet_diffusion.diffusion.schedules import (
    CosineSchedule,
    LinearSchedule,
)
from keras_unet_diffusion.diffusion.weightings import (
    MinSNRWeighting,
    UniformWeighting,
)

__all__ = [
    "CosineSchedule",
    "DiffusionProcess",
    "ImagePrediction",
    "LinearSchedule",
    "MinSNRWeighting",
    "NoisePrediction",
    "UniformWeighting",
    "VelocityPrediction",
]
