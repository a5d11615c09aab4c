"""Attention: every pixel looks at every other, or at a context."""

import keras
from keras import ops

from keras_unet_diffusion.layers.initialization import (
    check_family,
    initializers,
)
from keras_unet_diffusion.layers.normalization import GroupNormalization


class _SpatialAttentionBase(keras.layers.Layer):
    """What both attentions share: arguments, weights, and Eq. 1."""

    def __init__(
        self,
        num_heads=1,
        num_head_channels=None,
        num_groups=32,
        epsilon=1e-6,
        min_group_channels=None,
        query_key_norm=False,
        residual_scale=1.0,
        initialization="ddpm",
        rematerialize=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_family(initialization)
        self.num_heads = num_heads
        self.num_head_channels = num_head_channels
        self.num_groups = num_groups
        self.epsilon = epsilon
        self.min_group_channels = min_group_channels
        self.query_key_norm = query_key_norm
        self.residual_scale = residual_scale
        self.initialization = initialization
        self.rematerialize = rematerialize

    def _build_attention(self, input_shape, context_channels, normalize=True):
        channels = input_shape[-1]
        self._check_heads(channels)
        self.norm = None
        if normalize:
            self.norm = GroupNormalization(
                self.num_groups,
                self.epsilon,
                self.min_group_channels,
                dtype=self.dtype_policy,
                name="norm",
            )
            self.norm.build(input_shape)
        # Three layers rather than one of 3 * channels: their initialisation
        # is the published one, and a file's order of rows is not ours.
        self.query = self._dense("query", channels, channels)
        self.key = self._dense("key", context_channels, channels)
        self.value = self._dense("value", context_channels, channels)
        self.output_projection = self._dense(
            "output_projection", channels, channels, role="last"
        )
        if self.query_key_norm:
            shape = (self.num_head_channels or channels // self.num_heads,)
            self.query_gain = self._gain("query_gain", shape)
            self.key_gain = self._gain("key_gain", shape)

    def _gain(self, name, shape):
        # Never rounded: computed a second time for the gradient, the layer
        # runs outside the scope in which Keras casts weights.
        return self.add_weight(
            shape=shape, initializer="ones", autocast=False, name=name
        )

    def _dense(self, name, in_channels, channels, role="attention"):
        layer = keras.layers.Dense(
            channels,
            dtype=self.dtype_policy,
            name=name,
            **initializers(self.initialization, in_channels, role),
        )
        layer.build((None, None, in_channels))
        return layer

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

    def _run(self, training, *arguments):
        if training and self.rematerialize:
            return keras.remat(self._add_attention)(*arguments)
        return self._add_attention(*arguments)

    def _add_attention(self, inputs, context=None):
        shape = ops.shape(inputs)
        height, width, channels = shape[1], shape[2], inputs.shape[-1]
        hidden = inputs if self.norm is None else self.norm(inputs)
        pixels = ops.reshape(hidden, (-1, height * width, channels))
        context = pixels if context is None else context
        attended = self._attend(
            self.query(pixels), self.key(context), self.value(context)
        )
        residual = ops.reshape(
            self.output_projection(attended), (-1, height, width, channels)
        )
        return (inputs + residual) * self.residual_scale

    def _attend(self, query, key, value):
        """Eq. 1 of Vaswani et al. on `(batch, pixels, channels)`."""
        channels = query.shape[-1]
        head_channels = self.num_head_channels or channels // self.num_heads
        heads = channels // head_channels

        def split_heads(x):  # -> (batch, heads, pixels, head_channels)
            x = ops.reshape(x, (-1, ops.shape(x)[1], heads, head_channels))
            return ops.transpose(x, (0, 2, 1, 3))

        query_heads, key_heads = split_heads(query), split_heads(key)
        if self.query_key_norm:
            query_heads = self._normalize_heads(query_heads, self.query_gain)
            key_heads = self._normalize_heads(key_heads, self.key_gain)
        # Half the scale on either side keeps float16 products in range.
        scale = head_channels**-0.25
        attention_scores = ops.matmul(
            query_heads * scale,
            ops.transpose(key_heads * scale, (0, 1, 3, 2)),
        )
        attention_weights = ops.softmax(
            ops.cast(attention_scores, self._exact_dtype), axis=-1
        )
        attended = ops.matmul(
            ops.cast(attention_weights, self.compute_dtype), split_heads(value)
        )
        attended = ops.transpose(attended, (0, 2, 1, 3))
        return ops.reshape(attended, (-1, ops.shape(query)[1], channels))

    @property
    def _exact_dtype(self):
        """Of statistics and softmax: never below float32."""
        return keras.backend.result_type(self.compute_dtype, "float32")

    def _normalize_heads(self, x, gain):
        """Root mean square 1 over the channels of a head, times a gain."""
        x = ops.cast(x, self._exact_dtype)
        mean_square = ops.mean(ops.square(x), axis=-1, keepdims=True)
        x = x * ops.rsqrt(mean_square + self.epsilon)
        return ops.cast(
            x * ops.cast(gain, self._exact_dtype), self.compute_dtype
        )

    def get_config(self):
        return super().get_config() | {
            "num_heads": self.num_heads,
            "num_head_channels": self.num_head_channels,
            "num_groups": self.num_groups,
            "epsilon": self.epsilon,
            "min_group_channels": self.min_group_channels,
            "query_key_norm": self.query_key_norm,
            "residual_scale": self.residual_scale,
            "initialization": self.initialization,
            "rematerialize": self.rematerialize,
        }


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class SpatialSelfAttention(_SpatialAttentionBase):
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
        epsilon: float > 0, for the normalisations.
        min_group_channels: see `GroupNormalization`.
        query_key_norm: bool. Whether the queries and keys of each head are
            normalised to root mean square 1, times a learned gain, which
            keeps the softmax from saturating in long training.
        residual_scale: float, by which the sum of input and attention is
            multiplied: 1 DDPM and ADM, sqrt(1/2) EDM's DDPM++ and NCSN++.
        initialization: family of initial weights, see `UNet`.
        rematerialize: bool. Whether training computes the layer twice instead
            of storing what happens inside, see `UNet`.
        normalize: bool. False leaves the group normalisation out.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: images of shape `(batch, height, width, channels)`.
        training: bool. Whether to rematerialize, if that was asked for.

    Returns:
        `residual_scale * (inputs + attention(inputs))`, of the same shape.

    Raises:
        ValueError: heads or groups do not divide the channels.

    Example:

    ```python
    SpatialSelfAttention(num_heads=4)(np.ones((2, 16, 16, 64))).shape
    ```

    Reference:
        Ho et al. 2020, appendix B; Vaswani et al. 2017, Eq. 1; query and key
        normalisation: Esser et al. 2024, section 5.3. Differences: none.
    """

    def __init__(
        self,
        num_heads=1,
        num_head_channels=None,
        num_groups=32,
        epsilon=1e-6,
        normalize=True,
        **kwargs,
    ):
        super().__init__(
            num_heads, num_head_channels, num_groups, epsilon, **kwargs
        )
        self.normalize = normalize

    def build(self, input_shape):
        self._build_attention(input_shape, input_shape[-1], self.normalize)

    def call(self, inputs, training=False):
        return self._run(training, inputs)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {"normalize": self.normalize}


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class SpatialCrossAttention(_SpatialAttentionBase):
    """Multi-head attention of pixels to a context sequence, with a residual.

    Use it to condition a network on a sequence: the tokens of a text, the
    patches of another image. Cost grows with pixels times tokens.

    Args:
        num_heads: int >= 1 that divides the channels; ignored if
            `num_head_channels` is given.
        num_head_channels: int >= 1 that divides the channels, or None.
        num_groups: int >= 1 that divides the channels, for the normalisation.
        epsilon: float > 0, for the normalisations.
        min_group_channels: see `GroupNormalization`.
        query_key_norm: see `SpatialSelfAttention`.
        residual_scale: likewise.
        initialization: likewise.
        rematerialize: likewise.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: images of shape `(batch, height, width, channels)`.
        context: sequences of shape `(batch, tokens, context_channels)`.
        training: see `SpatialSelfAttention`.

    Returns:
        `residual_scale * (inputs + attention)`, of the shape of the images.

    Raises:
        ValueError: heads or groups do not divide the channels.

    Example:

    ```python
    attention = SpatialCrossAttention(num_heads=4)
    attention(np.ones((2, 16, 16, 64)), np.ones((2, 7, 32))).shape
    ```

    Reference:
        Rombach et al. 2022, "High-Resolution Image Synthesis with Latent
        Diffusion Models", section 3.3. Differences: attention alone, without
        the transformer block's perceptron; normalisation by groups.
    """

    def build(self, inputs_shape, context_shape):
        self._build_attention(inputs_shape, context_shape[-1])

    def call(self, inputs, context, training=False):
        return self._run(training, inputs, context)

    def compute_output_shape(self, inputs_shape, context_shape):
        return inputs_shape
