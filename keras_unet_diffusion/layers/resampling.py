"""Between the scales of the U-Net: halve an image, double an image."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class Downsample(keras.layers.Layer):
    """Halves height and width by a 3x3 convolution of stride 2.

    Args:
        channels: int >= 1. Channels that come out.
        padding: `(before, after)`, zero pixels put before and after each axis.
            The sum must be 1 or 2. `(0, 1)` is the original DDPM's (what
            TensorFlow's "same" does on even sizes), `(1, 1)` PyTorch's. It is
            explicit because "same" changes sides on odd sizes.
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

    def __init__(self, channels, padding=(0, 1), **kwargs):
        super().__init__(**kwargs)
        padding = tuple(padding)
        if padding not in ((0, 1), (1, 0), (1, 1)):
            raise ValueError(
                "Downsample pads each axis by (0, 1), (1, 0) or (1, 1) "
                f"pixels. Received: padding={padding}. Use (0, 1) for the "
                "original DDPM and (1, 1) for networks that came from PyTorch."
            )
        self.channels = channels
        self.padding = padding
        self.pad = keras.layers.ZeroPadding2D(
            (padding, padding), dtype=self.dtype_policy, name="pad"
        )
        self.conv = keras.layers.Conv2D(
            channels, 3, strides=2, dtype=self.dtype_policy, name="conv"
        )

    def build(self, input_shape):
        self.conv.build(self.pad.compute_output_shape(input_shape))

    def call(self, inputs):
        return self.conv(self.pad(inputs))

    def compute_output_shape(self, input_shape):
        padded = self.pad.compute_output_shape(input_shape)
        return self.conv.compute_output_shape(padded)

    def get_config(self):
        return super().get_config() | {
            "channels": self.channels,
            "padding": self.padding,
        }


def double_nearest(images):
    """Doubles height and width: each pixel becomes a 2x2 square of itself.

    `(batch, height, width, channels)` to
    `(batch, 2 * height, 2 * width, channels)`, by concatenation and reshape:
    at most four dimensions, any height and width at run time, built-in
    operations in every runtime, and a gradient that is exact under XLA.
    """
    shape = ops.shape(images)
    height, width, channels = shape[1], shape[2], images.shape[-1]
    # Channels twice in a row, read as two pixels: the width doubles.
    wide = ops.concatenate([images, images], axis=-1)
    # Rows twice in a row, read as two rows: the height doubles.
    rows = ops.reshape(wide, (-1, height, 2 * width * channels))
    rows = ops.concatenate([rows, rows], axis=-1)
    return ops.reshape(rows, (-1, 2 * height, 2 * width, channels))


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class Upsample(keras.layers.Layer):
    """Doubles height and width by nearest neighbour, then a 3x3 convolution.

    Args:
        channels: int >= 1. Channels that come out.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: images of shape `(batch, height, width, in_channels)`.

    Returns:
        Images of shape `(batch, 2 * height, 2 * width, channels)`.

    Example:

    ```python
    Upsample(64)(np.ones((2, 16, 16, 128))).shape  # (2, 32, 32, 64)
    ```

    Reference:
        Ho et al. 2020, appendix B. Differences: none.
    """

    def __init__(self, channels, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.conv = keras.layers.Conv2D(
            channels, 3, padding="same", dtype=self.dtype_policy, name="conv"
        )

    def build(self, input_shape):
        self.conv.build(input_shape)

    def call(self, inputs):
        return self.conv(double_nearest(inputs))

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        height = None if height is None else 2 * height
        width = None if width is None else 2 * width
        return (batch, height, width, self.channels)

    def get_config(self):
        return super().get_config() | {"channels": self.channels}
