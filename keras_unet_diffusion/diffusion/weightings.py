"""Loss weights: how much each noise level counts in training."""

import abc
import dataclasses

import keras
from keras import ops

from keras_unet_diffusion.diffusion.component import Component


class Weighting(Component, abc.ABC):
    """A loss weight. Abstract: it is one function of the noise level."""

    @abc.abstractmethod
    def weight(self, alpha, sigma, a, b):
        """Returns the weight of the squared error of the prediction.

        Args:
            alpha: shares of the image, `(batch,)`.
            sigma: shares of the noise, `(batch,)`.
            a: coefficient of x_0 in the target, `(batch,)`.
            b: coefficient of the noise in the target, `(batch,)`.

        Returns:
            Weights of shape `(batch,)`.
        """


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class UniformWeighting(Weighting):
    """Every noise level counts the same.

    Reference:
        Ho et al. 2020, Eq. 14 ("simple" loss). Differences: none.
    """

    def weight(self, alpha, sigma, a, b):
        return ops.ones_like(alpha)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class MinSNRWeighting(Weighting):
    """Weights the error of the image by the SNR, but at most by gamma.

    Use it for faster convergence: steps of low noise, nearly solved already,
    no longer outweigh the others.

    Args:
        gamma: float > 0. Bound of the weight.

    Raises:
        ValueError: `gamma <= 0`.

    Reference:
        Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting
        Strategy", section 3.4. Differences: the weight for any prediction
        type follows from its two coefficients; it equals the published
        `min(SNR, gamma) / SNR` for noise and `/ (SNR + 1)` for velocity.
    """

    gamma: float = 5.0

    def __post_init__(self):
        if self.gamma <= 0:
            raise ValueError(
                "The bound of min-SNR weighting must be positive. Received: "
                f"gamma={self.gamma}. The published value is 5."
            )

    def weight(self, alpha, sigma, a, b):
        snr = ops.square(alpha / sigma)
        # At a given x_t an error e of x_0 is an error e * (a - b * alpha /
        # sigma) of the target, because noise = (x_t - alpha * x_0) / sigma.
        target_error = ops.square(a - b * alpha / sigma)
        return ops.minimum(snr, self.gamma) / target_error
