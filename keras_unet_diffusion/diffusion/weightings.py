"""Loss weights: how much each noise level counts in training.

A weighting is published for the error of x_0 or of the noise; its weight for
any prediction type follows from the two coefficients of that. At a given x_t,
where `alpha * x_0 + sigma * noise` is fixed, an error e of x_0 is an error
`-e * alpha / sigma` of the noise and `e * (a - b * alpha / sigma)` of the
target `a * x_0 + b * noise`.
"""

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
            alpha: shares of the image, `(batch,)`, not 0.
            sigma: shares of the noise, `(batch,)`.
            a: coefficient of x_0 in the target, `(batch,)`.
            b: coefficient of the noise in the target, `(batch,)`.

        Returns:
            Weights of shape `(batch,)`.
        """


def _of_image_error(weight, alpha, sigma, a, b):
    """The weight of the prediction's error, given that of x_0's error."""
    return weight * ops.square(sigma / (alpha * b - sigma * a))


def _of_noise_error(weight, alpha, sigma, a, b):
    """The weight of the prediction's error, given that of the noise's."""
    return weight * ops.square(alpha / (alpha * b - sigma * a))


def _snr(alpha, sigma):
    return ops.square(alpha / sigma)


def _check_gamma(gamma):
    if not gamma > 0:
        raise ValueError(
            "The bound of min-SNR weighting must be positive. Received: "
            f"gamma={gamma}. The published values are 5 of min-SNR and 4 of "
            "soft min-SNR."
        )


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class UniformWeighting(Weighting):
    """Every noise level counts the same, whatever the network predicts.

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
        _check_gamma(self.gamma)

    def weight(self, alpha, sigma, a, b):
        weight = ops.minimum(_snr(alpha, sigma), self.gamma)
        return _of_image_error(weight, alpha, sigma, a, b)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class SoftMinSNRWeighting(Weighting):
    """Min-SNR weighting without its kink.

    Use it like `MinSNRWeighting`; where the SNR is gamma, the weight is half
    of that.

    Args:
        gamma: float > 0. Bound of the weight.

    Raises:
        ValueError: `gamma <= 0`.

    Reference:
        Crowson et al. 2024, "Scalable High-Resolution Pixel-Space Image
        Synthesis with Hourglass Diffusion Transformers", section on loss
        weighting: `SNR * gamma / (SNR + gamma)`, for the error of the image.
        Their gamma, 4, is `1 / sigma_data**2` of sigma_data = 0.5.
        Differences: none.
    """

    gamma: float = 4.0

    def __post_init__(self):
        _check_gamma(self.gamma)

    def weight(self, alpha, sigma, a, b):
        # The fraction divided through by SNR: no overflow where that is large.
        weight = self.gamma / (1 + self.gamma / _snr(alpha, sigma))
        return _of_image_error(weight, alpha, sigma, a, b)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class P2Weighting(Weighting):
    """Takes weight from the noise levels where only fine detail is missing.

    Use it for sharper content at the cost of imperceptible detail.

    Args:
        gamma: float >= 0. Strength; 0 weights the error of the noise evenly.
        k: float > 0. SNR from which weights fall.

    Raises:
        ValueError: `gamma` is negative or `k` not positive.

    Reference:
        Choi et al. 2022, "Perception Prioritized Training of Diffusion
        Models", Eq. 8: `1 / (k + SNR)**gamma` times the simple loss.
        Differences: none.
    """

    gamma: float = 1.0
    k: float = 1.0

    def __post_init__(self):
        if not (self.gamma >= 0 and self.k > 0):
            raise ValueError(
                "gamma must be 0 or more and k positive. Received: gamma="
                f"{self.gamma}, k={self.k}. The published values are 1 and 1."
            )

    def weight(self, alpha, sigma, a, b):
        weight = ops.power(self.k + _snr(alpha, sigma), -self.gamma)
        return _of_noise_error(weight, alpha, sigma, a, b)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class EDMWeighting(Weighting):
    """Weights the error of the image as `EDMPrediction` does by itself.

    Use it with `EDMPrediction`, whose own squared error then has a weight of
    one at every noise level, so that all levels count the same at the start
    of training; or to give another prediction type the same loss. The weight
    of noise and score predictions grows without bound where the image ends.

    Args:
        sigma_data: float > 0. Standard deviation of the images' pixels.

    Raises:
        ValueError: `sigma_data <= 0`.

    Reference:
        Karras et al. 2022, table 1, "loss weighting":
        `(sigma**2 + sigma_data**2) / (sigma * sigma_data)**2`, with their
        sigma our `sigma / alpha`. Differences: none.
    """

    sigma_data: float = 0.5

    def __post_init__(self):
        if not self.sigma_data > 0:
            raise ValueError(
                "The deviation of the images must be positive. Received: "
                f"sigma_data={self.sigma_data}. The published value is 0.5."
            )

    def weight(self, alpha, sigma, a, b):
        weight = _snr(alpha, sigma) + 1 / self.sigma_data**2
        return _of_image_error(weight, alpha, sigma, a, b)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class SigmoidWeighting(Weighting):
    """Weights the error of the noise by a falling sigmoid of the log-SNR.

    Use it at 64x64 pixels and above: noise levels at which an image is all
    but clean count for little.

    Args:
        bias: float. Log-SNR at which the weight is one half; larger gives
            more weight to fine detail.

    Reference:
        Hoogeboom et al. 2024, "Simpler Diffusion (SiD2)"; Kingma and Gao
        2023, "Understanding Diffusion Objectives as the ELBO with Simple Data
        Augmentation". Differences: without their factor of the log-SNR's
        derivative by time, so that how often a noise level is drawn stays
        the choice of schedule and `TrainingTimes`.
    """

    bias: float = 0.0

    def weight(self, alpha, sigma, a, b):
        log_snr = 2 * (ops.log(alpha) - ops.log(sigma))
        weight = ops.sigmoid(self.bias - log_snr)
        return _of_noise_error(weight, alpha, sigma, a, b)
