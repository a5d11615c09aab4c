"""Group normalisation, plain or scaled and shifted by an embedding."""

import keras
from keras import ops

from keras_unet_diffusion.layers.initialization import (
    check_family,
    initializers,
)


def check_groups(channels, num_groups):
    """Raises a `ValueError` unless the groups divide the channels."""
    if num_groups < 1 or channels % num_groups:
        raise ValueError(
            "The groups of a group normalisation must divide its channels. "
            f"Received: channels={channels}, num_groups={num_groups}. Choose "
            "num_groups (or base_channels and channel_multipliers) so that "
            "channels is a multiple of num_groups."
        )


def _group_normalization(num_groups, epsilon, dtype):
    """Makes the function of `(inputs, offset, gamma, beta)`, and its gradient.

    It normalizes `inputs + offset`. All but the inputs are `(channels,)` or
    `(batch, 1, 1, channels)` of `dtype`, in which all is computed. Derived by
    hand, the gradient takes fewer operations than derived op by op, keeps no
    image but the inputs, and that of the offset needs no pass over images.
    """

    def mean_of_pixels(images):
        return ops.mean(images, axis=(1, 2), keepdims=True)

    def mean_of_groups(vectors):
        return _mean_of_groups(vectors, num_groups)

    @ops.custom_gradient
    def normalize(inputs, offset, gamma, beta):
        images = ops.cast(inputs, dtype)
        # Mean and variance in one pass over the images. Sums of squares lose
        # digits where |mean| >> deviation, so a pivot is subtracted first: a
        # group's mean at its first pixel. One pixel of n whose mean is off by
        # d adds d^2 / n to the variance, so no more than log10(n) digits are
        # lost, and almost always none.
        pivot = mean_of_groups(images[:, :1, :1, :] + offset) - offset
        moved = images - pivot
        lean = mean_of_pixels(moved)
        mean = mean_of_groups(lean)
        square = mean_of_groups(mean_of_pixels(ops.square(moved)))
        variance = ops.maximum(square - ops.square(mean), 0.0)
        rate = ops.rsqrt(variance + epsilon)
        gain = rate * gamma
        outputs = moved * gain + (beta - mean * gain)

        def gradient(*args, upstream=None):
            # PyTorch names it, TensorFlow and JAX do not.
            upstream = args[0] if upstream is None else upstream
            by_output = ops.cast(upstream, dtype)
            # Computed again rather than kept.
            centred = ops.cast(inputs, dtype) - (pivot + mean)
            by_beta = mean_of_pixels(by_output)
            by_gamma = mean_of_pixels(by_output * centred) * rate
            # Less what would move or scale a group as a whole: that changes
            # nothing in the outputs.
            moves = rate * mean_of_groups(by_beta * gamma)
            scales = rate * rate * mean_of_groups(by_gamma * gamma)
            by_input = by_output * gain - (centred * scales + moves)
            # Its mean over the pixels.
            by_offset = by_beta * gain - ((lean - mean) * scales + moves)
            num_pixels = _num_pixels(inputs, dtype)
            return (
                ops.cast(by_input, inputs.dtype),
                _like(by_offset * num_pixels, offset),
                _like(by_gamma * num_pixels, gamma),
                _like(by_beta * num_pixels, beta),
            )

        return ops.cast(outputs, inputs.dtype), gradient

    return normalize


def _mean_of_groups(vectors, num_groups):
    """`(batch, 1, 1, channels)`: the mean of a channel's group, in each."""
    channels = vectors.shape[-1]
    size = channels // num_groups
    grouped = ops.reshape(vectors, (-1, num_groups, size))
    mean = ops.mean(grouped, axis=2, keepdims=True)
    spread = mean + ops.zeros((1, 1, size), mean.dtype)
    return ops.reshape(spread, (-1, 1, 1, channels))


def _num_pixels(images, dtype):
    height, width = images.shape[1:3]
    if height is None or width is None:
        height, width = ops.shape(images)[1:3]
    return ops.cast(height * width, dtype)


def _like(gradient, vectors):
    """The gradient of vectors that were perhaps one for the whole batch."""
    if len(vectors.shape) == 1:
        return ops.sum(gradient, axis=(0, 1, 2))
    return gradient


class _GroupNormalizationBase(keras.layers.Layer):
    """What both normalisations share: arguments, weights, and statistics."""

    def __init__(
        self, num_groups=32, epsilon=1e-6, min_group_channels=None, **kwargs
    ):
        super().__init__(**kwargs)
        if epsilon <= 0:
            raise ValueError(
                "The epsilon of a normalisation must be positive. "
                f"Received: epsilon={epsilon}. The published values are 1e-6 "
                "(DDPM) and 1e-5 (ADM)."
            )
        self.num_groups = num_groups
        self.epsilon = epsilon
        self.min_group_channels = min_group_channels

    def _build_weights(self, channels):
        self._groups = self.num_groups
        if self.min_group_channels is not None:
            most_groups = channels // self.min_group_channels
            if most_groups < 1:
                raise ValueError(
                    "A group has at least min_group_channels channels. "
                    f"Received: channels={channels} and min_group_channels="
                    f"{self.min_group_channels}. Choose a smaller one."
                )
            self._groups = min(self.num_groups, most_groups)
        check_groups(channels, self._groups)
        # Never rounded: they are used in float32 anyway.
        self.gamma = self.add_weight(
            shape=(channels,), initializer="ones", autocast=False, name="gamma"
        )
        self.beta = self.add_weight(
            shape=(channels,), initializer="zeros", autocast=False, name="beta"
        )

    def _normalize(self, inputs, offset, scale=None, shift=None):
        """Groups of mean 0 and variance 1, times gamma, plus beta.

        With `offset`, `(batch, channels)` or `(channels,)`, of the inputs
        plus that. With `scale` and `shift`, `(batch, 1, 1, channels)`, the
        result times `1 + scale`, plus `shift`. All these are a matter of
        vectors, not of images.
        """
        # Never below float32, and float64 where that was asked for.
        dtype = keras.backend.result_type(self.compute_dtype, "float32")
        gamma = ops.cast(self.gamma, dtype)
        beta = ops.cast(self.beta, dtype)
        if scale is not None:
            gain = 1 + ops.cast(scale, dtype)
            gamma = gamma * gain
            beta = beta * gain + ops.cast(shift, dtype)
        if offset is None:
            offset = ops.zeros((inputs.shape[-1],))
        offset = ops.cast(offset, dtype)
        if len(offset.shape) == 2:
            offset = offset[:, None, None, :]
        normalize = _group_normalization(self._groups, self.epsilon, dtype)
        return normalize(inputs, offset, gamma, beta)

    def get_config(self):
        return super().get_config() | {
            "num_groups": self.num_groups,
            "epsilon": self.epsilon,
            "min_group_channels": self.min_group_channels,
        }


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class GroupNormalization(_GroupNormalizationBase):
    """Normalises groups of channels, then scales and shifts each channel.

    Use it wherever a batch is too small for batch statistics, as in diffusion.
    Statistics are float32 in every dtype policy, no tensor has more than four
    dimensions, and the cost is one pass that sums and one that normalizes.

    Args:
        num_groups: int >= 1 that divides the channels.
        epsilon: float > 0 that is added to the variance. 1e-6 is DDPM's, 1e-5
            is ADM's; Keras's own default of 1e-3 moves the outputs of a
            published network by several percent of their spread.
        min_group_channels: int >= 1, or None. Narrow layers take fewer groups,
            so that each holds at least this many channels (EDM: 4).
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: images of shape `(batch, height, width, channels)`.
        offset: vectors of shape `(batch, channels)` or `(channels,)` that are
            added to the inputs first, at no cost; or None.

    Returns:
        Images of the same shape, in the policy's compute dtype.

    Raises:
        ValueError: the groups do not divide the channels, or `epsilon <= 0`.

    Example:

    ```python
    GroupNormalization(num_groups=8)(np.ones((2, 16, 16, 64))).shape
    ```

    Reference:
        Wu and He 2018, "Group Normalization", Eqs. 1 to 7.
        Differences: none.
    """

    def build(self, inputs_shape, offset_shape=None):
        self._build_weights(inputs_shape[-1])

    def call(self, inputs, offset=None):
        return self._normalize(inputs, offset)

    def compute_output_shape(self, inputs_shape, offset_shape=None):
        return inputs_shape


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class ModulatedGroupNormalization(_GroupNormalizationBase):
    """Group normalisation whose scale and shift follow an embedding.

    Use it to inject the noise level by scale and shift instead of by
    addition: `normalized * (1 + scale) + shift`. One dense layer from the
    embedding to twice the channels makes both.

    Args:
        num_groups: int >= 1 that divides the channels.
        epsilon: float > 0 that is added to the variance.
        min_group_channels: int >= 1, or None. Narrow layers take fewer groups,
            so that each holds at least this many channels (EDM: 4).
        initialization: family of initial weights, see `UNet`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: images of shape `(batch, height, width, channels)`.
        embedding: vectors of shape `(batch, embedding_channels)`.
        offset: see `GroupNormalization`.

    Returns:
        Images of the same shape, in the policy's compute dtype.

    Raises:
        ValueError: the groups do not divide the channels, or `epsilon <= 0`.

    Example:

    ```python
    norm = ModulatedGroupNormalization(num_groups=8)
    norm(np.ones((2, 16, 16, 64)), np.ones((2, 512))).shape
    ```

    Reference:
        Dhariwal and Nichol 2021, "Diffusion Models Beat GANs on Image
        Synthesis", section 3.1 (adaptive group normalisation). Differences:
        the embedding is passed through SiLU by the caller.
    """

    def __init__(
        self,
        num_groups=32,
        epsilon=1e-6,
        min_group_channels=None,
        initialization="ddpm",
        **kwargs,
    ):
        super().__init__(num_groups, epsilon, min_group_channels, **kwargs)
        check_family(initialization)
        self.initialization = initialization

    def build(self, inputs_shape, embedding_shape, offset_shape=None):
        self._build_weights(inputs_shape[-1])
        self.modulation = keras.layers.Dense(
            2 * inputs_shape[-1],
            dtype=self.dtype_policy,
            name="modulation",
            **initializers(self.initialization, embedding_shape[-1]),
        )
        self.modulation.build(embedding_shape)

    def call(self, inputs, embedding, offset=None):
        scale_and_shift = self.modulation(embedding)[:, None, None, :]
        scale, shift = ops.split(scale_and_shift, 2, axis=-1)
        return self._normalize(inputs, offset, scale, shift)

    def compute_output_shape(
        self, inputs_shape, embedding_shape, offset_shape=None
    ):
        return inputs_shape

    def get_config(self):
        return super().get_config() | {"initialization": self.initialization}
