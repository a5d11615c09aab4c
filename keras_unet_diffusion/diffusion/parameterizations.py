"""What a network predicts: two coefficients each.

A prediction type is the target `a * x_0 + b * noise` with coefficients that
depend on alpha and sigma alone. Together with `x_t = alpha * x_0 + sigma *
noise` that is two linear equations in two unknowns, so the same 2x2 solve
recovers x_0 and noise from any prediction (`DiffusionProcess.split`).
"""

import abc
import dataclasses

import keras
from keras import ops

from keras_unet_diffusion.diffusion.component import Component


class Prediction(Component, abc.ABC):
    """A prediction type. Abstract: it is its two coefficients."""

    @abc.abstractmethod
    def coefficients(self, alpha, sigma):
        """Returns `(a, b)` of the target `a * x_0 + b * noise`.

        Args:
            alpha: shares of the image, any shape.
            sigma: shares of the noise, same shape.

        Returns:
            Two tensors of that shape.
        """


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class NoisePrediction(Prediction):
    """The network predicts the noise: the target is `noise`.

    The published choice of DDPM. Says nothing of the image where alpha is 0.

    Reference:
        Ho et al. 2020, Eq. 14. Differences: none.
    """

    def coefficients(self, alpha, sigma):
        return ops.zeros_like(alpha), ops.ones_like(sigma)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class ImagePrediction(Prediction):
    """The network predicts the clean image: the target is `x_0`.

    Says nothing of the noise where sigma is 0.

    Reference:
        Salimans and Ho 2022, "Progressive Distillation", section 4.
        Differences: none.
    """

    def coefficients(self, alpha, sigma):
        return ops.ones_like(alpha), ops.zeros_like(sigma)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class VelocityPrediction(Prediction):
    """The network predicts the velocity: `alpha * noise - sigma * x_0`.

    Well conditioned at every noise level.

    Reference:
        Salimans and Ho 2022, section 4 and appendix D. Differences: none.
    """

    def coefficients(self, alpha, sigma):
        return -sigma, alpha
