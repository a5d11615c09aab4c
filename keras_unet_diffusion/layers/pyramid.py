"""The input pyramid of NCSN++: the image goes down beside the encoder."""

import keras
from keras import ops

from keras_unet_diffusion.layers.filtering import (
    BOX,
    box_factor,
    filter_images,
)
from keras_unet_diffusion.layers.initialization import (
    check_family,
    initializers,
)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class PyramidDownsample(keras.layers.Layer):
    """A 3x3 convolution fused with a filter of stride 2.

    The convolution and the filter see one zero border together, as one large
    kernel would, and the bias is added last: at the border that differs from
    a convolution followed by `FilteredDownsample`.

    Args:
        channels: int >= 1. Channels that come out.
        resampling_kernel: the kernel of `FilteredDownsample`.
        initialization: family of initial weights, see `UNet`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: images of shape `(batch, height, width, in_channels)`.

    Returns:
        Images of shape `(batch, height // 2, width // 2, channels)`.

    Raises:
        ValueError: the kernel is not an even number of symmetric numbers.

    Example:

    ```python
    PyramidDownsample(128)(np.ones((2, 32, 32, 3))).shape
    ```

    Reference:
        Song et al. 2021, "Score-Based Generative Modeling through Stochastic
        Differential Equations", appendix H (progressive growing, residual
        input). Differences: none.
    """

    def __init__(
        self,
        channels,
        resampling_kernel=BOX,
        initialization="ddpm",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_family(initialization)
        self.channels = channels
        self.resampling_kernel = tuple(resampling_kernel)
        self.initialization = initialization
        self._blur = box_factor(self.resampling_kernel)

    def build(self, input_shape):
        in_channels = input_shape[-1]
        initial = initializers(self.initialization, 9 * in_channels)
        self.kernel = self.add_weight(
            shape=(3, 3, in_channels, self.channels),
            initializer=initial["kernel_initializer"],
            name="kernel",
        )
        self.bias = self.add_weight(
            shape=(self.channels,),
            initializer=initial["bias_initializer"],
            name="bias",
        )

    def call(self, inputs):
        # One pixel for the convolution, the rest for the filter.
        border = 1 + len(self._blur) // 2
        edges = (border, border)
        padded = ops.pad(inputs, ((0, 0), edges, edges, (0, 0)))
        hidden = ops.conv(padded, self.kernel, padding="valid")
        hidden = filter_images(hidden, self._blur, "valid")
        return ops.average_pool(hidden, 2, 2, "valid") + self.bias

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        sizes = (height and height // 2, width and width // 2)
        return (batch, *sizes, self.channels)

    def get_config(self):
        return super().get_config() | {
            "channels": self.channels,
            "resampling_kernel": self.resampling_kernel,
            "initialization": self.initialization,
        }
