"""Augmentation of the training images that does not leak into samples."""

import dataclasses
import math

import keras
from keras import ops

from keras_unet_diffusion.diffusion.component import Component

# Karras et al. 2022, appendix F.2.
_SCALE = 2**0.2
_ANISOTROPY = 2**0.2
_TRANSLATION = 1 / 8


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class Augmentation(Component):
    """Flips, scales, rotates, stretches and moves images, and says how.

    Use it where there are few images. The network is told what was done, by
    nine numbers, and sampling tells it that nothing was: so it learns from
    the changed images without making such. It costs sixteen reads of each
    pixel, little beside a network. It needs a network with
    `augmentation_channels=9`.

    Args:
        probability: float in [0, 1]. How likely each kind of change is;
            0.12 to 0.15 were published. Mirroring left to right alone does
            not depend on it: half of the images are mirrored, or none with 0.

    Raises:
        ValueError: `probability` is outside [0, 1].

    Example:

    ```python
    network = UNet.from_preset("tiny", augmentation_channels=9)
    model = DiffusionModel(network, augmentation=Augmentation(0.12))
    ```

    Reference:
        Karras et al. 2022, appendix F.2, and its code, which considers
        mirroring always (`xflip=1e8`). Differences: one bicubic
        interpolation, where theirs filters an image of twice the size;
        pixels may so leave [-1, 1] a little.
    """

    # Numbers that a network is told, and that are drawn for each image.
    num_labels = 9
    num_uniform = 10
    num_normal = 4

    probability: float = 0.12

    def __post_init__(self):
        if not 0 <= self.probability <= 1:
            raise ValueError(
                "The probability of an augmentation lies in [0, 1]. Received: "
                f"probability={self.probability}. 0.12 is usual."
            )

    def parameters(self, uniform, normal):
        """Turns random numbers into what is to be done to each image.

        Args:
            uniform: numbers in [0, 1), `(batch, 10)`: which of six changes
                are considered, two flips, two angles.
            normal: standard normal numbers, `(batch, 4)`.

        Returns:
            a_0 to a_7 of the paper's table, `(batch, 8)`: flips in x and y,
            log-scale, angle, direction and log-strength of the stretching,
            translation in x and y. Zeros are no change.
        """
        flips = ops.cast(uniform[:, 6:8] < 0.5, uniform.dtype)
        angles = math.pi * (2 * uniform[:, 8:10] - 1)
        drawn = ops.stack(
            [
                flips[:, 0],
                flips[:, 1],
                normal[:, 0],
                angles[:, 0],
                angles[:, 1],
                normal[:, 1],
                normal[:, 2],
                normal[:, 3],
            ],
            axis=1,
        )
        # Stretching and translation have two parameters each.
        which = ops.take(uniform, [0, 1, 2, 3, 4, 4, 5, 5], axis=1)
        # Mirroring is considered always, and so made for half of the images.
        limits = [float(self.probability > 0)] + 7 * [self.probability]
        limits = ops.convert_to_tensor(limits, which.dtype)
        return ops.where(which < limits, drawn, 0.0)

    def labels(self, parameters):
        """Returns what the network is told, `(batch, 9)`: zeros for images
        that are as they were."""
        x, y, scale, angle, direction, stretch, right, down = ops.unstack(
            parameters, axis=1
        )
        return ops.stack(
            [
                x,
                y,
                scale,
                ops.cos(angle) - 1,
                ops.sin(angle),
                stretch * ops.cos(direction),
                stretch * ops.sin(direction),
                right,
                down,
            ],
            axis=1,
        )

    def transform(self, images, parameters):
        """Changes images.

        Args:
            images: float32 `(batch, height, width, channels)`.
            parameters: `(batch, 8)`, of `parameters`.

        Returns:
            Images of the same shape, reflected beyond their borders; exactly
            the same where all parameters are zero.
        """
        height, width = images.shape[1:3]
        x, y = _sources(parameters, height, width)
        return _interpolate(images, x, y)


def _sources(parameters, height, width):
    """Where each pixel of the new images comes from, as columns and rows.

    The changes are made in the order of the table, so they are undone from
    the last to the first. Without matrix products, which a GPU may round.
    """
    columns = ops.unstack(parameters[:, :, None, None], axis=1)
    flip_x, flip_y, scale, angle, direction, stretch, right, down = columns
    center_x, center_y = (width - 1) / 2, (height - 1) / 2
    x = ops.arange(width, dtype="float32")[None, None, :] - center_x
    y = ops.arange(height, dtype="float32")[None, :, None] - center_y
    x = x - right * (_TRANSLATION * width)
    y = y - down * (_TRANSLATION * height)
    x, y = _rotate(x, y, -direction)
    strength = ops.exp(math.log(_ANISOTROPY) * stretch)
    x, y = _rotate(x / strength, y * strength, direction)
    x, y = _rotate(x, y, -angle)
    size = ops.exp(math.log(_SCALE) * scale)
    x = x / size * (1 - 2 * flip_x) + center_x
    y = y / size * (1 - 2 * flip_y) + center_y
    return x, y


def _rotate(x, y, angle):
    cos, sin = ops.cos(angle), ops.sin(angle)
    return cos * x - sin * y, sin * x + cos * y


def _interpolate(images, x, y):
    """Reads images `(batch, h, w, c)` at `(batch, h, w)` positions."""
    height, width = images.shape[1:3]
    num_pixels = height * width
    pixels = ops.reshape(images, (-1, images.shape[-1]))
    # Where the pixels of each image begin.
    begins = ops.arange(ops.shape(images)[0]) * num_pixels
    begins = ops.cast(begins, "int32")[:, None, None]
    left, top = ops.floor(x), ops.floor(y)
    x_weights, y_weights = _cubic_weights(x - left), _cubic_weights(y - top)
    left, top = ops.cast(left, "int32"), ops.cast(top, "int32")
    result = ops.zeros_like(images)
    for i in range(4):
        rows = begins + _reflect(top + (i - 1), height) * width
        for j in range(4):
            index = rows + _reflect(left + (j - 1), width)
            values = ops.take(pixels, index, axis=0)
            result += (y_weights[i] * x_weights[j])[..., None] * values
    return result


def _cubic_weights(f):
    """Weights of the four pixels around a fraction `f` of a pixel.

    Keys 1981, "Cubic Convolution Interpolation for Digital Image Processing",
    Eq. 15: the near and the far branch.
    """

    def near(f):
        return (1.5 * f - 2.5) * f * f + 1

    def far(f):
        return ((-0.5 * f + 2.5) * f - 4) * f + 2

    # At f = 0 exactly 0, 1, 0 and 0.
    return far(1 + f), near(f), near(1 - f), far(2 - f)


def _reflect(index, size):
    """Mirrors indices at the middle of the first and the last pixel."""
    period = max(2 * (size - 1), 1)
    index = ops.mod(index, period)
    return ops.minimum(index, period - index) if size > 1 else 0 * index
