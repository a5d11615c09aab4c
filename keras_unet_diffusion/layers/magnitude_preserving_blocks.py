"""Residual blocks and attention in which magnitudes stay what they are."""

import keras
from keras import ops

from keras_unet_diffusion.layers.filtering import double_nearest
from keras_unet_diffusion.layers.magnitude_preserving import (
    MagnitudePreservingConv2D,
    MagnitudePreservingDense,
    mp_silu,
    mp_sum,
    pixel_normalize,
)

# Share of the residual branch in each sum, and bound of what a block hands
# on, which keeps float16 far from its largest number.
_RESIDUAL_BALANCE = 0.3
_LARGEST_ACTIVATION = 256.0


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class MagnitudePreservingSelfAttention(keras.layers.Layer):
    """Multi-head self-attention over the pixels of an image, with a residual.

    Queries, keys and values are normalised pixel by pixel and head by head
    (cosine attention), so that attention scores cannot grow in training. The
    softmax is float32. Time and memory grow with the square of the number of
    pixels.

    Args:
        num_head_channels: int >= 1 that divides the channels. Channels of one
            head.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: images of shape `(batch, height, width, channels)`.

    Returns:
        Inputs and attention blended 7 to 3, of the same shape.

    Raises:
        ValueError: `num_head_channels` does not divide the channels.

    Example:

    ```python
    MagnitudePreservingSelfAttention()(np.ones((2, 16, 16, 128))).shape
    ```

    Reference:
        Karras et al. 2024, config G. Differences: none. One
        projection to three times the channels is written as three, which is
        the same: kernels are normalised by output channel.
    """

    def __init__(self, num_head_channels=64, **kwargs):
        super().__init__(**kwargs)
        self.num_head_channels = num_head_channels

    def build(self, input_shape):
        channels = input_shape[-1]
        if self.num_head_channels < 1 or channels % self.num_head_channels:
            raise ValueError(
                "num_head_channels must divide the channels that attention "
                f"works on. Received: channels={channels}, num_head_channels="
                f"{self.num_head_channels}. Choose a divisor of {channels}."
            )

        def dense(name):
            layer = MagnitudePreservingDense(
                channels, dtype=self.dtype_policy, name=name
            )
            layer.build((None, None, channels))
            return layer

        self.query = dense("query")
        self.key = dense("key")
        self.value = dense("value")
        self.output_projection = dense("output_projection")

    def call(self, inputs):
        shape = ops.shape(inputs)
        height, width, channels = shape[1], shape[2], inputs.shape[-1]
        pixels = ops.reshape(inputs, (-1, height * width, channels))
        attended = self._attend(
            self.query(pixels), self.key(pixels), self.value(pixels)
        )
        residual = ops.reshape(
            self.output_projection(attended), (-1, height, width, channels)
        )
        return mp_sum(inputs, residual, _RESIDUAL_BALANCE)

    def _attend(self, query, key, value):
        """Cosine attention on `(batch, pixels, channels)`."""
        pixels, channels = ops.shape(query)[1], query.shape[-1]
        head_channels = self.num_head_channels

        def split_heads(x):  # -> (batch, heads, pixels, head_channels)
            heads = channels // head_channels
            x = ops.reshape(x, (-1, pixels, heads, head_channels))
            return pixel_normalize(ops.transpose(x, (0, 2, 1, 3)))

        attention_scores = ops.matmul(
            split_heads(query) / head_channels**0.5,
            ops.transpose(split_heads(key), (0, 1, 3, 2)),
        )
        attention_weights = ops.softmax(
            ops.cast(
                attention_scores,
                keras.backend.result_type(self.compute_dtype, "float32"),
            ),
            axis=-1,
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
            "num_head_channels": self.num_head_channels
        }


class _MagnitudePreservingBlock(keras.layers.Layer):
    """What both blocks share: the residual branch, attention and the bound.

    A subclass says by `_branches` what the main and the residual branch get,
    by `_residual_channels` how wide the latter is, and by `_resize` what
    resampling does to a height or width.
    """

    def __init__(
        self,
        channels,
        resample=False,
        num_head_channels=None,
        dropout=0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not 0 <= dropout < 1:
            raise ValueError(
                "dropout is the share of features that is dropped. Received: "
                f"dropout={dropout}. Pass a number from 0 up to, not "
                "including, 1."
            )
        self.channels = channels
        self.resample = resample
        self.num_head_channels = num_head_channels
        self.dropout = dropout

    def build(self, inputs_shape, embedding_shape):
        outputs_shape = self.compute_output_shape(inputs_shape, embedding_shape)
        in_channels = inputs_shape[-1]
        dtype = self.dtype_policy
        self.shortcut = None
        if in_channels != self.channels:
            self.shortcut = MagnitudePreservingConv2D(
                self.channels, 1, dtype=dtype, name="shortcut"
            )
            self.shortcut.build(inputs_shape)
        self.conv_1 = MagnitudePreservingConv2D(
            self.channels, 3, dtype=dtype, name="conv_1"
        )
        self.conv_1.build(
            (*outputs_shape[:-1], self._residual_channels(in_channels))
        )
        self.modulation = MagnitudePreservingDense(
            self.channels, learned_gain=True, dtype=dtype, name="modulation"
        )
        self.modulation.build(embedding_shape)
        self.drop = keras.layers.Dropout(self.dropout, dtype=dtype, name="drop")
        self.conv_2 = MagnitudePreservingConv2D(
            self.channels, 3, dtype=dtype, name="conv_2"
        )
        self.conv_2.build(outputs_shape)
        self.attention = None
        if self.num_head_channels is not None:
            self.attention = MagnitudePreservingSelfAttention(
                self.num_head_channels, dtype=dtype, name="attention"
            )
            self.attention.build(outputs_shape)

    def call(self, inputs, embedding, training=False):
        main, residual = self._branches(inputs)
        residual = self.conv_1(mp_silu(residual))
        # The gain starts at 0: a new block does not see the embedding.
        scale = 1 + self.modulation(embedding)[:, None, None, :]
        residual = self.drop(mp_silu(residual * scale), training=training)
        hidden = mp_sum(main, self.conv_2(residual), _RESIDUAL_BALANCE)
        if self.attention is not None:
            hidden = self.attention(hidden)
        return ops.clip(hidden, -_LARGEST_ACTIVATION, _LARGEST_ACTIVATION)

    def compute_output_shape(self, inputs_shape, embedding_shape):
        batch, height, width, _ = inputs_shape
        if self.resample:
            height = None if height is None else self._resize(height)
            width = None if width is None else self._resize(width)
        return (batch, height, width, self.channels)

    def get_config(self):
        return super().get_config() | {
            "channels": self.channels,
            "resample": self.resample,
            "num_head_channels": self.num_head_channels,
            "dropout": self.dropout,
        }


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class MagnitudePreservingEncoderBlock(_MagnitudePreservingBlock):
    """A residual block on the way down; normalises what it gets.

    Halve if asked to, change the channels by a 1x1 convolution if they
    change, normalise each pixel; then blend in two convolutions between which
    the embedding scales the channels, and attention if asked to.

    Args:
        channels: int >= 1. Channels that come out.
        resample: bool. Whether 2x2 pixels are averaged to one first.
        num_head_channels: int >= 1 that divides `channels`, channels of one
            attention head; None for a block without attention.
        dropout: float in [0, 1). Share of features dropped in training.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: images of shape `(batch, height, width, in_channels)`.
        embedding: vectors of shape `(batch, embedding_channels)`.
        training: bool. Whether dropout is active.

    Returns:
        Images of shape `(batch, height, width, channels)`, height and width
        halved if resampled.

    Raises:
        ValueError: heads do not divide the channels, or `dropout` is outside
            [0, 1).

    Example:

    ```python
    block = MagnitudePreservingEncoderBlock(128, resample=True)
    block(np.ones((2, 32, 32, 64)), np.ones((2, 512))).shape
    ```

    Reference:
        Karras et al. 2024, config G. Differences: none.
    """

    def _branches(self, inputs):
        if self.resample:
            inputs = ops.average_pool(
                inputs, 2, strides=2, data_format="channels_last"
            )
        if self.shortcut is not None:
            inputs = self.shortcut(inputs)
        inputs = pixel_normalize(inputs)
        return inputs, inputs

    def _residual_channels(self, in_channels):
        return self.channels

    def _resize(self, size):
        return size // 2


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class MagnitudePreservingDecoderBlock(_MagnitudePreservingBlock):
    """A residual block on the way up; takes what it gets as it is.

    Double if asked to; then blend in two convolutions between which the
    embedding scales the channels, and attention if asked to. If the channels
    change, the main branch passes a 1x1 convolution.

    Args:
        channels: int >= 1. Channels that come out.
        resample: bool. Whether each pixel becomes 2x2 pixels first.
        num_head_channels: int >= 1 that divides `channels`, channels of one
            attention head; None for a block without attention.
        dropout: float in [0, 1). Share of features dropped in training.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: images of shape `(batch, height, width, in_channels)`.
        embedding: vectors of shape `(batch, embedding_channels)`.
        training: bool. Whether dropout is active.

    Returns:
        Images of shape `(batch, height, width, channels)`, height and width
        doubled if resampled.

    Raises:
        ValueError: heads do not divide the channels, or `dropout` is outside
            [0, 1).

    Example:

    ```python
    block = MagnitudePreservingDecoderBlock(64, resample=True)
    block(np.ones((2, 16, 16, 128)), np.ones((2, 512))).shape
    ```

    Reference:
        Karras et al. 2024, config G. Differences: none.
    """

    def _branches(self, inputs):
        if self.resample:
            inputs = double_nearest(inputs)
        main = inputs if self.shortcut is None else self.shortcut(inputs)
        return main, inputs

    def _residual_channels(self, in_channels):
        return in_channels

    def _resize(self, size):
        return 2 * size
