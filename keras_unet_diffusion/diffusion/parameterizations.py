"""What a network predicts: two coefficients each.

A prediction type is the target `a * x_0 + b * noise` with coefficients that
depend on alpha and sigma alone. Together with `x_t = alpha * x_0 + sigma *
noise` that is two linear equations in two unknowns, so the same 2x2 solve
recovers x_0 and noise from any prediction (`Prediction.split`).
"""

import abc
import dataclasses
import math

import keras
from keras import ops

from keras_unet_diffusion.diffusion.component import Component

# Bound of the log(sigma / alpha) that networks are told: alpha of 2**-24, which
# stands for "no image at all".
_LARGEST_LOG_RATIO = 24 * math.log(2)


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

    def input_scale(self, alpha, sigma):
        """What x_t is multiplied by before the network sees it.

        Args:
            alpha: shares of the image, any shape.
            sigma: shares of the noise, same shape.

        Returns:
            Tensor of that shape; ones, unless a prediction type says more.
        """
        return ops.ones_like(alpha)

    def noise_level(self, alpha, sigma):
        """What the network is told, if the prediction type decides that.

        Args:
            alpha: shares of the image, any shape.
            sigma: shares of the noise, same shape.

        Returns:
            Tensor of that shape, or None: the schedule decides.
        """
        return None

    def split(self, x_t, prediction, alpha, sigma):
        """Recovers image and noise from what the network predicted.

        Args:
            x_t: noisy images.
            prediction: output of the network, same shape.
            alpha: shares of the image, in a shape that multiplies x_t.
            sigma: shares of the noise, likewise.

        Returns:
            `(x_0, noise)`, the one pair with both this x_t and this
            prediction.
        """
        a, b = self.coefficients(alpha, sigma)
        determinant = alpha * b - sigma * a
        x_0 = (b * x_t - sigma * prediction) / determinant
        noise = (alpha * prediction - a * x_t) / determinant
        return x_0, noise


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


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class FlowPrediction(Prediction):
    """The network predicts the way from image to noise: `noise - x_0`.

    Use it with `FlowSchedule`, where it is the derivative of x_t by t. Well
    conditioned at every noise level.

    Reference:
        Lipman et al. 2023, "Flow Matching for Generative Modeling"; Liu et
        al. 2022, "Flow Straight and Fast", Eq. 1. Differences: t = 1 is
        noise, so the sign is the opposite.
    """

    def coefficients(self, alpha, sigma):
        return -ops.ones_like(alpha), ops.ones_like(sigma)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class EDMPrediction(Prediction):
    """A mix of image and noise whose input and target have a variance of one.

    Use it with `EDMSchedule`, `EDMWeighting` and `LogNormalTimes`; it works
    with any schedule, of which it sees `sigma / alpha` alone. Well
    conditioned at every noise level.

    Args:
        sigma_data: float > 0. Standard deviation of the images' pixels.

    Raises:
        ValueError: `sigma_data <= 0`.

    Reference:
        Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based
        Generative Models", table 1, last column. Differences: c_skip, c_out
        and c_in are written in alpha and sigma, so that both may be 0; c_noise
        is bounded by that of `sigma / alpha = 2**24`.
    """

    sigma_data: float = 0.5

    def __post_init__(self):
        if not self.sigma_data > 0:
            raise ValueError(
                "The deviation of the images must be positive. Received: "
                f"sigma_data={self.sigma_data}. The published value is 0.5."
            )

    def coefficients(self, alpha, sigma):
        # With s = sigma / alpha, a = (1 - c_skip) / c_out and
        # b = -s c_skip / c_out; c_skip and c_out of table 1 put in, s cancels.
        scale = self.input_scale(alpha, sigma)
        return (
            sigma * scale / self.sigma_data,
            -alpha * scale * self.sigma_data,
        )

    def input_scale(self, alpha, sigma):
        # c_in / alpha: c_in is for images to which s * noise was added.
        variance = ops.square(sigma) + ops.square(alpha * self.sigma_data)
        return 1 / ops.sqrt(variance)

    def noise_level(self, alpha, sigma):
        log_ratio = ops.log(sigma) - ops.log(alpha)
        return ops.minimum(log_ratio, _LARGEST_LOG_RATIO) / 4  # c_noise


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class ScorePrediction(Prediction):
    """The network predicts the score times sigma, which is `-noise`.

    Use it with `VESchedule` for networks of the score-based SDE family. Says
    nothing of the image where alpha is 0.

    Reference:
        Song et al. 2021, "Score-Based Generative Modeling through Stochastic
        Differential Equations"; Karras et al. 2022, table 1, column "VE",
        for the noise level. Differences: the noise level is bounded where
        there is no image.
    """

    def coefficients(self, alpha, sigma):
        return ops.zeros_like(alpha), -ops.ones_like(sigma)

    def noise_level(self, alpha, sigma):
        level = ops.log(sigma / alpha / 2)  # Karras et al. 2022: c_noise
        return ops.minimum(level, _LARGEST_LOG_RATIO)
