"""Spatial self-attention: every pixel looks at every other."""

import keras
from keras import ops

from keras_unet_diffusion.layers.normalization import GroupNormalization


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class SpatialSelfAttention(keras.layers.Layer):
    """Multi-head self-attention over the pixels of an image, with a residual.

    Use it at low resolutions: time and memory grow with the square of the
    number of pixels. No tensor has more than four dimensions, so that the
    layer converts to built-in LiteRT operations. The softmax is float32.

    Args:
        num_heads: int >= 1 that divides the channels; ignored if
            `num_head_channels` is given.
        num_head_channels: int >= 1 that divides the channels, or None. The
            channels of one head; the number of heads follows.
        num_groups: int >= 1 that divides the channels, for the normalisation.
        epsilon: float > 0, for the normalisation.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: images of shape `(batch, height, width, channels)`.

    Returns:
        `inputs + attention(inputs)`, of the same shape.

    Raises:
        ValueError: heads or groups do not divide the channels.

    Example:

    ```python
    SpatialSelfAttention(num_heads=4)(np.ones((2, 16, 16, 64))).shape
    ```

    Reference:
        Ho et al. 2020, appendix B; Vaswani et al. 2017, Eq. 1.
        Differences: none (the output projection starts at exactly 0, where
        DDPM's code starts it at 1e-10).
    """

    def __init__(
        self,
        num_heads=1,
        num_head_channels=None,
        num_groups=32,
        epsilon=1e-6,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.num_head_channels = num_head_channels
        self.num_groups = num_groups
        self.epsilon = epsilon

    def build(self, input_shape):
        channels = input_shape[-1]
        self._check_heads(channels)

        def dense(name, **kwargs):
            layer = keras.layers.Dense(
                channels, dtype=self.dtype_policy, name=name, **kwargs
            )
            layer.build((None, None, channels))
            return layer

        self.norm = GroupNormalization(
            self.num_groups, self.epsilon, dtype=self.dtype_policy, name="norm"
        )
        self.norm.build(input_shape)
        # Three layers rather than one of 3 * channels: their initialisation
        # is the published one, and published checkpoints map one to one.
        self.query = dense("query")
        self.key = dense("key")
        self.value = dense("value")
        self.output_projection = dense(
            "output_projection", kernel_initializer="zeros"
        )

    def _check_heads(self, channels):
        if self.num_head_channels is None:
            what, divisor = "num_heads", self.num_heads
        else:
            what, divisor = "num_head_channels", self.num_head_channels
        if divisor < 1 or channels % divisor:
            raise ValueError(
                f"{what} must divide the channels that attention works on. "
                f"Received: channels={channels}, {what}={divisor}. Choose a "
                f"{what} that divides {channels}."
            )

    def call(self, inputs):
        shape = ops.shape(inputs)
        height, width, channels = shape[1], shape[2], inputs.shape[-1]
        pixels = ops.reshape(self.norm(inputs), (-1, height * width, channels))
        attended = self._attend(
            self.query(pixels), self.key(pixels), self.value(pixels)
        )
        residual = ops.reshape(
            self.output_projection(attended), (-1, height, width, channels)
        )
        return inputs + residual

    def _attend(self, query, key, value):
        """Eq. 1 of Vaswani et al. on `(batch, pixels, channels)`."""
        pixels, channels = ops.shape(query)[1], query.shape[-1]
        head_channels = self.num_head_channels or channels // self.num_heads

        def split_heads(x):  # -> (batch, heads, pixels, head_channels)
            heads = channels // head_channels
            x = ops.reshape(x, (-1, pixels, heads, head_channels))
            return ops.transpose(x, (0, 2, 1, 3))

        # Half the scale on either side keeps float16 products in range.
        scale = head_channels**-0.25
        attention_scores = ops.matmul(
            split_heads(query) * scale,
            ops.transpose(split_heads(key) * scale, (0, 1, 3, 2)),
        )
        attention_weights = ops.softmax(
            ops.cast(attention_scores, "float32"), axis=-1
        )
        attended = ops.matmul(
            ops.cast(attention_weights, self.compute_dtype), split_heads(value)
        )
        attended = ops.transpose(attended, (0, 2, 1, 3))
        return ops.reshape(attended, (-1, pixels, channels))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {
            "num_heads": self.num_heads,
            "num_head_channels": self.num_head_channels,
            "num_groups": self.num_groups,
            "epsilon": self.epsilon,
        }
