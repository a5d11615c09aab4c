"""Operations that keep the magnitude of what flows through a network.

"MP" is the paper's abbreviation of magnitude-preserving: if every input has
a mean square of 1, so has the output, in expectation. Karras et al. 2024,
"Analyzing and Improving the Training Dynamics of Diffusion Models", section 2
and appendix B.
"""

import math

import keras
from keras import ops

_EPSILON = 1e-4  # Of every normalisation of the paper.


def _divide_by_root_mean_square(inputs, axes):
    """`inputs / (1e-4 + root mean square over the axes)`, float32 at least."""
    inputs = ops.cast(
        inputs, keras.backend.result_type(inputs.dtype, "float32")
    )
    mean_square = ops.mean(ops.square(inputs), axis=axes, keepdims=True)
    # The bound, far below epsilon**2, gives zeros a gradient that is finite.
    return inputs / (_EPSILON + ops.sqrt(ops.maximum(mean_square, 1e-16)))


def normalize_kernel(kernel):
    """Gives each output channel (last axis) a root mean square of 1."""
    return _divide_by_root_mean_square(
        kernel, tuple(range(len(kernel.shape) - 1))
    )


def pixel_normalize(images):
    """Gives each pixel a root mean square over its channels (last axis) of 1.

    The dtype stays, the statistics are float32 at least.
    """
    return ops.cast(_divide_by_root_mean_square(images, -1), images.dtype)


def mp_silu(x):
    """SiLU over 0.596, its root mean square on standard normal inputs."""
    return ops.silu(x) / 0.596


def mp_sum(a, b, balance):
    """Blends two independent inputs; `balance` in [0, 1] is the share of b."""
    scale = math.hypot(1 - balance, balance)  # Eq. 88
    return a * ((1 - balance) / scale) + b * (balance / scale)


def mp_concatenate(a, b, balance=0.5):
    """Concatenates channels so that both inputs contribute by `balance`.

    The contribution is the sum of squares: at 0.5 both are equal, however
    many channels each has. `balance` in [0, 1] is the share of b.
    """
    num_a, num_b = a.shape[-1], b.shape[-1]
    scale = math.sqrt((num_a + num_b) / ((1 - balance) ** 2 + balance**2))
    return ops.concatenate(
        [
            a * (scale * (1 - balance) / math.sqrt(num_a)),
            b * (scale * balance / math.sqrt(num_b)),
        ],
        axis=-1,
    )  # Eq. 103


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class ForcedWeightNormalization(keras.constraints.Constraint):
    """Renormalises a stored kernel after each update of the optimizer.

    Without it the stored kernel grows without bound, since its length does
    not matter to the network, and the relative size of the updates decays:
    the learning rate would no longer mean what it says.

    Call arguments:
        kernel: weights, output channels last.

    Returns:
        Weights of the same shape; each output channel has a root mean square
        of 1 (to 1e-4).

    Reference:
        Karras et al. 2024, section 2.3 (config E).
        Differences: the paper renormalises before the next use in training,
        this after the update, so the weights of every forward pass are the
        same. Only averages over the weights see normalised ones here, not
        yet normalised ones there.
    """

    def __call__(self, kernel):
        return ops.cast(normalize_kernel(kernel), kernel.dtype)


class _NormalizedKernelLayer(keras.layers.Layer):
    """What convolution and dense layer share: the kernel and its gain."""

    def __init__(self, channels, learned_gain=False, **kwargs):
        super().__init__(**kwargs)
        if channels < 1:
            raise ValueError(
                "A layer needs at least one channel. Received: channels="
                f"{channels}. Pass a positive whole number."
            )
        self.channels = channels
        self.learned_gain = learned_gain

    def _build_kernel(self, shape):
        self.kernel = add_normalized_weight(self, shape, "kernel")
        self.gain = None
        if self.learned_gain:
            self.gain = self.add_weight(
                shape=(), initializer="zeros", autocast=False, name="gain"
            )

    def _effective_kernel(self):
        """The kernel as it is applied, in the compute dtype."""
        fan_in = math.prod(self.kernel.shape[:-1])
        kernel = normalize_kernel(self.kernel) / math.sqrt(fan_in)
        if self.gain is not None:
            kernel = kernel * ops.cast(self.gain, kernel.dtype)
        return ops.cast(kernel, self.compute_dtype)

    def get_config(self):
        return super().get_config() | {
            "channels": self.channels,
            "learned_gain": self.learned_gain,
        }


def add_normalized_weight(layer, shape, name):
    """Adds a weight that is, and stays, normalised by output channel."""
    constraint = ForcedWeightNormalization()
    normal = keras.initializers.RandomNormal(stddev=1.0)
    return layer.add_weight(
        shape=shape,
        # What the paper's first forward pass makes of the normal numbers.
        initializer=lambda shape, dtype: constraint(normal(shape, dtype)),
        constraint=constraint,
        autocast=False,
        name=name,
    )


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class MagnitudePreservingConv2D(_NormalizedKernelLayer):
    """A convolution whose kernel's length cannot matter; no bias.

    The kernel is normalised by output channel whenever it is used, so that
    outputs have the mean square of the inputs, if those are uncorrelated. It
    costs one pass over the kernel per call.

    Args:
        channels: int >= 1. Channels that come out.
        kernel_size: int >= 1. Height and width of the kernel; the image is
            padded by zeros and keeps its size.
        constant_channel: bool. Whether a channel of ones is appended to the
            inputs first: the one place of a network without biases where a
            constant comes in.
        learned_gain: bool. Whether a learned number, at first 0, multiplies
            the outputs.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: images of shape `(batch, height, width, in_channels)`.

    Returns:
        Images of shape `(batch, height, width, channels)`.

    Raises:
        ValueError: `channels` is below 1.

    Example:

    ```python
    MagnitudePreservingConv2D(64, 3)(np.ones((2, 32, 32, 16))).shape
    ```

    Reference:
        Karras et al. 2024, section 2.3 (config E). Differences: none;
        for the stored kernel see `ForcedWeightNormalization`.
    """

    def __init__(
        self,
        channels,
        kernel_size=3,
        constant_channel=False,
        learned_gain=False,
        **kwargs,
    ):
        super().__init__(channels, learned_gain, **kwargs)
        self.kernel_size = kernel_size
        self.constant_channel = constant_channel

    def build(self, input_shape):
        in_channels = input_shape[-1] + self.constant_channel
        size = self.kernel_size
        self._build_kernel((size, size, in_channels, self.channels))

    def call(self, inputs):
        if self.constant_channel:
            ones = ops.ones_like(inputs[..., :1])
            inputs = ops.concatenate([inputs, ones], axis=-1)
        return ops.conv(
            inputs,
            self._effective_kernel(),
            padding="same",
            data_format="channels_last",
        )

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.channels)

    def get_config(self):
        return super().get_config() | {
            "kernel_size": self.kernel_size,
            "constant_channel": self.constant_channel,
        }


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class MagnitudePreservingDense(_NormalizedKernelLayer):
    """A dense layer whose kernel's length cannot matter; no bias.

    Args:
        channels: int >= 1. Channels that come out.
        learned_gain: bool. Whether a learned number, at first 0, multiplies
            the outputs.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: shape `(batch, ..., in_channels)`.

    Returns:
        Shape `(batch, ..., channels)`.

    Raises:
        ValueError: `channels` is below 1.

    Example:

    ```python
    MagnitudePreservingDense(64)(np.ones((2, 16))).shape  # (2, 64)
    ```

    Reference:
        Karras et al. 2024, section 2.3 (config E). Differences: none;
        for the stored kernel see `ForcedWeightNormalization`.
    """

    def build(self, input_shape):
        self._build_kernel((input_shape[-1], self.channels))

    def call(self, inputs):
        return ops.matmul(inputs, self._effective_kernel())

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.channels)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class MagnitudePreservingConcatenate(keras.layers.Layer):
    """Concatenates two images so that both contribute in a chosen balance.

    Use it where a decoder takes back a skip of other width: in a plain
    concatenation the wider input would dominate what the next convolution
    makes of both.

    Args:
        balance: float in [0, 1]. Share of the second input; at 0.5 both
            inputs' sums of squares are equal.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        hidden: images of shape `(batch, height, width, hidden_channels)`.
        skip: images of shape `(batch, height, width, skip_channels)`.

    Returns:
        Images of shape
        `(batch, height, width, hidden_channels + skip_channels)`.

    Raises:
        ValueError: `balance` is outside [0, 1].

    Example:

    ```python
    hidden, skip = np.ones((2, 8, 8, 48)), np.ones((2, 8, 8, 16))
    MagnitudePreservingConcatenate()(hidden, skip).shape  # (2, 8, 8, 64)
    ```

    Reference:
        Karras et al. 2024, Eq. 103. Differences: none.
    """

    def __init__(self, balance=0.5, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= balance <= 1:
            raise ValueError(
                "balance is the second input's share. Received: balance="
                f"{balance}. Pass a number from 0 to 1."
            )
        self.balance = balance

    def call(self, hidden, skip):
        return mp_concatenate(hidden, skip, self.balance)

    def compute_output_shape(self, hidden_shape, skip_shape):
        return (*hidden_shape[:-1], hidden_shape[-1] + skip_shape[-1])

    def get_config(self):
        return super().get_config() | {"balance": self.balance}
