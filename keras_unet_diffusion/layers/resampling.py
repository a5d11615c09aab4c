"""Learned ways between the scales of the U-Net: halve, double an image."""

import keras

from keras_unet_diffusion.layers.filtering import (
    BOX,
    BilinearUpsample,
    FilteredUpsample,
    doubled_shape,
)
from keras_unet_diffusion.layers.initialization import (
    check_family,
    initializers,
)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class Downsample(keras.layers.Layer):
    """Halves height and width by a 3x3 convolution of stride 2.

    Args:
        channels: int >= 1. Channels that come out.
        padding: `(before, after)`, zero pixels put before and after each axis.
            The sum must be 1 or 2. `(0, 1)` is the original DDPM's (what
            TensorFlow's "same" does on even sizes), `(1, 1)` PyTorch's. It is
            explicit because "same" changes sides on odd sizes.
        initialization: family of initial weights, see `UNet`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: images of shape `(batch, height, width, in_channels)`; height
            and width should be even.

    Returns:
        Images of shape `(batch, height // 2, width // 2, channels)`; of odd
        sizes `(1, 1)` keeps the larger half.

    Raises:
        ValueError: `padding` is not two numbers of 0 or 1 with sum 1 or 2.

    Example:

    ```python
    Downsample(128)(np.ones((2, 32, 32, 64))).shape  # (2, 16, 16, 128)
    ```

    Reference:
        Ho et al. 2020, appendix B. Differences: none.
    """

    def __init__(
        self, channels, padding=(0, 1), initialization="ddpm", **kwargs
    ):
        super().__init__(**kwargs)
        padding = tuple(padding)
        if padding not in ((0, 1), (1, 0), (1, 1)):
            raise ValueError(
                "Downsample pads each axis by (0, 1), (1, 0) or (1, 1) "
                f"pixels. Received: padding={padding}. Use (0, 1) for the "
                "original DDPM and (1, 1) for networks that came from PyTorch."
            )
        check_family(initialization)
        self.channels = channels
        self.padding = padding
        self.initialization = initialization
        self.pad = keras.layers.ZeroPadding2D(
            (padding, padding), dtype=self.dtype_policy, name="pad"
        )

    def build(self, input_shape):
        self.conv = keras.layers.Conv2D(
            self.channels,
            3,
            strides=2,
            dtype=self.dtype_policy,
            name="conv",
            **initializers(self.initialization, 9 * input_shape[-1]),
        )
        self.conv.build(self.pad.compute_output_shape(input_shape))

    def call(self, inputs):
        return self.conv(self.pad(inputs))

    def compute_output_shape(self, input_shape):
        _, height, width, _ = self.pad.compute_output_shape(input_shape)
        sizes = (x and (x - 1) // 2 for x in (height, width))
        return (input_shape[0], *sizes, self.channels)

    def get_config(self):
        return super().get_config() | {
            "channels": self.channels,
            "padding": self.padding,
            "initialization": self.initialization,
        }


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class Upsample(keras.layers.Layer):
    """Doubles height and width by interpolation, then a 3x3 convolution.

    Args:
        channels: int >= 1. Channels that come out.
        interpolation: "nearest" (by `kernel`), or "bilinear" (half-pixel
            centres, edges repeated), or "transposed", for a 4x4 transposed
            convolution of stride 2 instead of both.
        kernel: see `FilteredUpsample`; only with "nearest".
        initialization: family of initial weights, see `UNet`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: images of shape `(batch, height, width, in_channels)`.

    Returns:
        Images of shape `(batch, 2 * height, 2 * width, channels)`.

    Raises:
        ValueError: no such interpolation.

    Example:

    ```python
    Upsample(64)(np.ones((2, 16, 16, 128))).shape  # (2, 32, 32, 64)
    ```

    Reference:
        Ho et al. 2020, appendix B; on the checkerboards of transposed
        convolutions Odena et al. 2016. Differences: none.
    """

    def __init__(
        self,
        channels,
        interpolation="nearest",
        kernel=BOX,
        initialization="ddpm",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if interpolation not in ("nearest", "bilinear", "transposed"):
            raise ValueError(
                "There is no such interpolation. Received: interpolation="
                f"{interpolation!r}. Choose 'nearest', 'bilinear' or "
                "'transposed'."
            )
        check_family(initialization)
        self.channels = channels
        self.interpolation = interpolation
        self.kernel = tuple(kernel)
        self.initialization = initialization
        self.resample = self._resampler()

    def _resampler(self):
        if self.interpolation == "transposed":
            return keras.layers.Identity(dtype=self.dtype_policy)
        if self.interpolation == "bilinear":
            return BilinearUpsample(2, dtype=self.dtype_policy)
        return FilteredUpsample(self.kernel, dtype=self.dtype_policy)

    def build(self, input_shape):
        in_channels = input_shape[-1]
        arguments = {
            "padding": "same",
            "dtype": self.dtype_policy,
            "name": "conv",
        }
        if self.interpolation == "transposed":
            # Each output pixel sees 2x2 of the 4x4 kernel.
            self.conv = keras.layers.Conv2DTranspose(
                self.channels,
                4,
                strides=2,
                **arguments,
                **initializers(self.initialization, 4 * in_channels),
            )
        else:
            self.conv = keras.layers.Conv2D(
                self.channels,
                3,
                **arguments,
                **initializers(self.initialization, 9 * in_channels),
            )
        self.conv.build(input_shape)

    def call(self, inputs):
        return self.conv(self.resample(inputs))

    def compute_output_shape(self, input_shape):
        return (*doubled_shape(input_shape)[:-1], self.channels)

    def get_config(self):
        return super().get_config() | {
            "channels": self.channels,
            "interpolation": self.interpolation,
            "kernel": self.kernel,
            "initialization": self.initialization,
        }
