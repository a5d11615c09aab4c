"""Embeddings: numbers and classes become vectors that a block can be given."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class SinusoidalEmbedding(keras.layers.Layer):
    """Writes a number as sines and cosines of geometrically spaced frequencies.

    Use it to make the noise level visible to a network at many scales at once.
    It has no weights. It always computes in float32: under bfloat16 the noise
    level 999 would become 1000.

    Args:
        channels: int, even and at least 4. Length of the embedding; the first
            half holds the sines, the second the cosines.
        max_period: float > 1. The slowest wave has the wavelength
            `2 * pi * max_period`, the fastest `2 * pi`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: numbers of shape `(batch,)`.

    Returns:
        Embeddings of shape `(batch, channels)`, float32.

    Raises:
        ValueError: `channels` is odd or below 4.

    Example:

    ```python
    embedding = SinusoidalEmbedding(128)(np.array([0.0, 999.0]))
    embedding.shape  # (2, 128)
    ```

    Reference:
        Vaswani et al. 2017, "Attention Is All You Need", section 3.5, in the
        form of Ho et al. 2020, "Denoising Diffusion Probabilistic Models":
        frequencies `max_period ** (-i / (channels / 2 - 1))`.
        Differences: none from the latter.
    """

    def __init__(self, channels, max_period=10000.0, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        if channels < 4 or channels % 2:
            raise ValueError(
                "A sinusoidal embedding needs an even number of channels, at "
                f"least 4. Received: channels={channels}. Pass an even number."
            )
        self.channels = channels
        self.max_period = max_period

    def call(self, inputs):
        levels = ops.expand_dims(ops.cast(inputs, "float32"), 1)
        # The table is kept as whole numbers, and made to depend on the input:
        # converters that store constants in float16 would otherwise round it
        # and shift the phase at level 999 by up to a fifth of a radian.
        zero = ops.cast(0.0 * levels, "int32")
        frequencies = ops.view(self._frequency_bits() + zero, "float32")
        phase = levels * frequencies
        return ops.concatenate([ops.sin(phase), ops.cos(phase)], axis=1)

    def _frequency_bits(self):
        """The bits of the float32 frequencies, an int32 array."""
        half = self.channels // 2
        exponents = -np.arange(half, dtype="float64") / (half - 1)
        return (self.max_period**exponents).astype("float32").view("int32")

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.channels)

    def get_config(self):
        config = super().get_config()
        # Always float32, so not an argument to store.
        config.pop("dtype", None)
        return config | {
            "channels": self.channels,
            "max_period": self.max_period,
        }


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class NoiseLevelEmbedding(keras.layers.Layer):
    """Embeds the noise level: sinusoids, then a two-layer perceptron.

    Use it once per network; every residual block reads the result.

    Args:
        channels: int. Length of the embedding that comes out.
        sinusoid_channels: int, even and at least 4. Length of the sinusoidal
            embedding that goes into the perceptron.
        max_period: float > 1, see `SinusoidalEmbedding`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: noise levels of shape `(batch,)`.

    Returns:
        Embeddings of shape `(batch, channels)`.

    Raises:
        ValueError: `sinusoid_channels` is odd or below 4.

    Example:

    ```python
    embedding = NoiseLevelEmbedding(512, sinusoid_channels=128)
    embedding(np.array([0.0, 999.0])).shape  # (2, 512)
    ```

    Reference:
        Ho et al. 2020, appendix B: dense, SiLU, dense. Differences: none.
    """

    def __init__(
        self, channels, sinusoid_channels, max_period=10000.0, **kwargs
    ):
        # Noise levels must reach the sinusoids in float32.
        kwargs["autocast"] = False
        super().__init__(**kwargs)
        self.channels = channels
        self.sinusoid_channels = sinusoid_channels
        self.max_period = max_period
        self.sinusoids = SinusoidalEmbedding(
            sinusoid_channels, max_period, name="sinusoids"
        )
        self.dense_1 = keras.layers.Dense(
            channels, dtype=self.dtype_policy, name="dense_1"
        )
        self.dense_2 = keras.layers.Dense(
            channels, dtype=self.dtype_policy, name="dense_2"
        )

    def build(self, input_shape):
        self.dense_1.build((input_shape[0], self.sinusoid_channels))
        self.dense_2.build((input_shape[0], self.channels))

    def call(self, inputs):
        hidden = ops.silu(self.dense_1(self.sinusoids(inputs)))
        return self.dense_2(hidden)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.channels)

    def get_config(self):
        return super().get_config() | {
            "channels": self.channels,
            "sinusoid_channels": self.sinusoid_channels,
            "max_period": self.max_period,
        }


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class LabelEmbedding(keras.layers.Layer):
    """Looks up one learned vector for each class.

    Use it to condition a network on a class: its output is added to that of
    `NoiseLevelEmbedding`.

    Args:
        num_classes: int >= 1. Labels are 0 to `num_classes - 1`.
        channels: int >= 1. Length of the embedding.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: integer labels of shape `(batch,)`.

    Returns:
        Embeddings of shape `(batch, channels)`.

    Raises:
        ValueError: `num_classes` or `channels` is below 1.

    Example:

    ```python
    LabelEmbedding(10, 512)(np.array([3, 7])).shape  # (2, 512)
    ```

    Reference:
        Nichol and Dhariwal 2021, "Improved Denoising Diffusion Probabilistic
        Models", appendix A. Differences: none.
    """

    def __init__(self, num_classes, channels, **kwargs):
        super().__init__(**kwargs)
        if num_classes < 1 or channels < 1:
            raise ValueError(
                "A label embedding needs at least one class and one channel. "
                f"Received: num_classes={num_classes}, channels={channels}. "
                "For a network without labels leave the layer out."
            )
        self.num_classes = num_classes
        self.channels = channels
        self.table = keras.layers.Embedding(
            num_classes,
            channels,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=1.0),
            dtype=self.dtype_policy,
            name="table",
        )

    def build(self, input_shape):
        self.table.build(input_shape)

    def call(self, inputs):
        return self.table(inputs)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.channels)

    def get_config(self):
        return super().get_config() | {
            "num_classes": self.num_classes,
            "channels": self.channels,
        }
