"""Bounds on the images that a network estimates."""

import abc
import dataclasses

import keras
from keras import ops

from keras_unet_diffusion.diffusion.component import Component


class Thresholding(Component, abc.ABC):
    """A bound on estimated images. Abstract: it is its `apply`."""

    @abc.abstractmethod
    def apply(self, x_0):
        """Bounds images.

        Args:
            x_0: estimated images, `(batch, height, width, channels)`.

        Returns:
            Images of the same shape.
        """


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class StaticThresholding(Thresholding):
    """Clips pixels to `[-bound, bound]`.

    The usual choice of pixel-space DDPM and DDIM.

    Args:
        bound: float > 0.

    Raises:
        ValueError: `bound` is not positive.

    Example:

    ```python
    sampler = DPMSolverPP(order=2, thresholding=StaticThresholding())
    ```

    Reference:
        Ho et al. 2020, section 3.2 and code. Differences: none.
    """

    bound: float = 1.0

    def __post_init__(self):
        if self.bound <= 0:
            raise ValueError(
                "Pixels are clipped to a range around 0. Received: bound="
                f"{self.bound}. Pass a positive number, such as 1.0."
            )

    def apply(self, x_0):
        return ops.clip(x_0, -self.bound, self.bound)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class DynamicThresholding(Thresholding):
    """Clips each image at a quantile of its pixels, and scales it to 1.

    Use it with strong guidance, which drives pixels out of range.

    Args:
        quantile: float in (0, 1]. Share of the pixels that are not clipped.
        max_value: float >= 1. Bound of the quantile itself, so that outliers
            are not all scaled down.

    Raises:
        ValueError: an argument is out of range.

    Example:

    ```python
    sampler = DDIM(thresholding=DynamicThresholding(max_value=2.0))
    ```

    Reference:
        Saharia et al. 2022, "Photorealistic Text-to-Image Diffusion Models
        with Deep Language Understanding", section 2.3. Differences:
        `max_value`, as in diffusers' sample_max_value, whose default of 1 is
        static clipping.
    """

    quantile: float = 0.995
    max_value: float = float("inf")

    def __post_init__(self):
        if not 0 < self.quantile <= 1 or self.max_value < 1:
            raise ValueError(
                "quantile lies in (0, 1], max_value is at least 1. Received: "
                f"quantile={self.quantile}, max_value={self.max_value}. The "
                "published quantile is 0.995."
            )

    def apply(self, x_0):
        pixels = ops.reshape(ops.abs(x_0), (ops.shape(x_0)[0], -1))
        pixels = ops.sort(pixels, axis=-1)
        # The size of images may be unknown until the graph runs. float64, as
        # the ranks of a large image do not fit into float32.
        last = ops.shape(pixels)[1] - 1
        position = self.quantile * ops.cast(last, "float64")
        below = ops.cast(ops.floor(position), "int32")
        above = ops.minimum(below + 1, last)
        share = ops.cast(position - ops.floor(position), pixels.dtype)
        low = ops.take(pixels, below, axis=1)
        bound = low + share * (ops.take(pixels, above, axis=1) - low)
        bound = ops.clip(bound, 1.0, self.max_value)
        bound = ops.reshape(bound, (-1, 1, 1, 1))
        return ops.clip(x_0, -bound, bound) / bound


def thresholded(denoise, thresholding, keeps_noise=False):
    """Bounds the images that a denoiser estimates.

    Args:
        denoise: function `(x_t, point) -> Estimate`.
        thresholding: a `Thresholding`, or None for none.
        keeps_noise: bool. Whether the noise is left as predicted; otherwise
            it is derived anew, so that image and noise still make x_t.

    Returns:
        A function of the same kind.
    """
    if thresholding is None:
        return denoise

    def bounded_denoise(x_t, point):
        estimate = denoise(x_t, point)
        x_0 = thresholding.apply(estimate.x_0)
        if keeps_noise:
            return estimate._replace(x_0=x_0)
        noise = (x_t - point.alpha * x_0) / point.sigma
        return estimate._replace(x_0=x_0, noise=noise)

    return bounded_denoise
