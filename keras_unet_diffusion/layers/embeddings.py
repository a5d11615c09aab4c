"""Embeddings of the noise level: a number becomes a vector of waves."""

import math

import keras
import numpy as np
from keras import ops

from keras_unet_diffusion.layers.float32 import Float32Layer
from keras_unet_diffusion.layers.initialization import (
    check_family,
    initializers,
)


def _check_order(order):
    if order not in ("sin_cos", "cos_sin"):
        raise ValueError(
            "Sines and cosines come in one order or the other. Received: "
            f"order={order!r}. Pass 'sin_cos' or 'cos_sin'."
        )


def _waves(phase, order, channels):
    """Sines and cosines of `(batch, half)`, zeros up to `channels`."""
    waves = [ops.sin(phase), ops.cos(phase)]
    if order == "cos_sin":
        waves.reverse()
    waves = ops.concatenate(waves, axis=1)
    return ops.pad(waves, ((0, 0), (0, 1))) if channels % 2 else waves


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class SinusoidalEmbedding(Float32Layer):
    """Writes a number as sines and cosines of geometrically spaced frequencies.

    Use it to make the noise level visible to a network at many scales at once.
    It has no weights. It always computes in float32: under bfloat16 the noise
    level 999 would become 1000.

    Args:
        channels: int >= 4. Length of the embedding, half sines and half
            cosines; if odd, a zero comes last.
        max_period: float > 1. The slowest wave has about the wavelength
            `2 * pi * max_period`, the fastest `2 * pi`.
        order: "sin_cos" (DDPM: sines first) or "cos_sin" (ADM).
        frequency_shift: number subtracted from the number of frequencies in
            the exponent's denominator: 1 (DDPM: the slowest frequency is
            `1 / max_period`) or 0 (ADM).
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: numbers of shape `(batch,)`.

    Returns:
        Embeddings of shape `(batch, channels)`, float32.

    Raises:
        ValueError: `channels` is below 4, or the order is unknown.

    Example:

    ```python
    embedding = SinusoidalEmbedding(128)(np.array([0.0, 999.0]))
    embedding.shape  # (2, 128)
    ```

    Reference:
        Vaswani et al. 2017, "Attention Is All You Need", section 3.5, in the
        form of Ho et al. 2020, "Denoising Diffusion Probabilistic Models":
        frequencies `max_period ** (-i / (channels / 2 - frequency_shift))`.
        Differences: none from the latter.
    """

    def __init__(
        self,
        channels,
        max_period=10000.0,
        order="sin_cos",
        frequency_shift=1,
        **kwargs,
    ):
        super().__init__(channels, **kwargs)
        _check_order(order)
        if channels < 4:
            raise ValueError(
                "A sinusoidal embedding needs at least 4 channels. Received: "
                f"channels={channels}. Pass a larger number."
            )
        self.max_period = max_period
        self.order = order
        self.frequency_shift = frequency_shift

    def call(self, inputs):
        levels = ops.expand_dims(ops.cast(inputs, "float32"), 1)
        # The table is kept as whole numbers, and made to depend on the input:
        # converters that store constants in float16 would otherwise round it
        # and shift the phase at level 999 by up to a fifth of a radian.
        zero = ops.cast(0.0 * levels, "int32")
        frequencies = ops.view(self._frequency_bits() + zero, "float32")
        return _waves(levels * frequencies, self.order, self.channels)

    def _frequency_bits(self):
        """The bits of the float32 frequencies, an int32 array."""
        half = self.channels // 2
        exponents = -np.arange(half) / (half - self.frequency_shift)
        return (self.max_period**exponents).astype("float32").view("int32")

    def get_config(self):
        return super().get_config() | {
            "max_period": self.max_period,
            "order": self.order,
            "frequency_shift": self.frequency_shift,
        }


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class FourierEmbedding(Float32Layer):
    """Writes a number as sines and cosines of random frequencies.

    Use it for noise levels that are logarithms, as in NCSN++. The frequencies
    are drawn once, kept as a weight that is not trained, and saved. It always
    computes in float32.

    Args:
        channels: int, even and at least 2. Length of the embedding.
        scale: float > 0. Standard deviation of the frequencies, in waves per
            unit of the input.
        order: "sin_cos" or "cos_sin".
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: numbers of shape `(batch,)`.

    Returns:
        Embeddings of shape `(batch, channels)`, float32.

    Raises:
        ValueError: `channels` is odd or below 2, or the order is unknown.

    Example:

    ```python
    embedding = FourierEmbedding(256)(np.array([-1.2, 0.4]))
    embedding.shape  # (2, 256)
    ```

    Reference:
        Tancik et al. 2020, "Fourier Features Let Networks Learn High
        Frequency Functions", in the form of Song et al. 2021, appendix H.
        Differences: none.
    """

    def __init__(self, channels, scale=16.0, order="sin_cos", **kwargs):
        super().__init__(channels, **kwargs)
        _check_order(order)
        if channels < 2 or channels % 2:
            raise ValueError(
                "A Fourier embedding needs an even number of channels, at "
                f"least 2. Received: channels={channels}. Pass an even number."
            )
        self.scale = scale
        self.order = order

    def build(self, input_shape):
        self.frequencies = self.add_weight(
            shape=(self.channels // 2,),
            initializer=keras.initializers.RandomNormal(stddev=self.scale),
            trainable=False,
            name="frequencies",
        )

    def call(self, inputs):
        levels = ops.expand_dims(ops.cast(inputs, "float32"), 1)
        phase = levels * (2 * math.pi * self.frequencies)
        return _waves(phase, self.order, self.channels)

    def get_config(self):
        return super().get_config() | {
            "scale": self.scale,
            "order": self.order,
        }


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class NoiseLevelEmbedding(keras.layers.Layer):
    """Embeds the noise level: waves, then a two-layer perceptron.

    Use it once per network; every residual block reads the result.

    Args:
        channels: int. Length of the embedding that comes out.
        wave_channels: int. Length of the waves that go into the perceptron.
        max_period: float > 1, see `SinusoidalEmbedding`.
        order: likewise.
        frequency_shift: likewise.
        fourier_scale: None for a `SinusoidalEmbedding`, or the scale of a
            `FourierEmbedding`.
        initialization: family of initial weights, see `UNet`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: noise levels of shape `(batch,)`.
        added: None, or vectors of shape `(batch, wave_channels)` that are
            added to the waves, as EDM does with labels.

    Returns:
        Embeddings of shape `(batch, channels)`.

    Raises:
        ValueError: see the two embeddings.

    Example:

    ```python
    embedding = NoiseLevelEmbedding(512, wave_channels=128)
    embedding(np.array([0.0, 999.0])).shape  # (2, 512)
    ```

    Reference:
        Ho et al. 2020, appendix B: dense, SiLU, dense. Differences: none.
    """

    def __init__(
        self,
        channels,
        wave_channels,
        max_period=10000.0,
        order="sin_cos",
        frequency_shift=1,
        fourier_scale=None,
        initialization="ddpm",
        **kwargs,
    ):
        # Noise levels must reach the waves in float32.
        kwargs["autocast"] = False
        super().__init__(**kwargs)
        check_family(initialization)
        self.channels = channels
        self.wave_channels = wave_channels
        self.max_period = max_period
        self.order = order
        self.frequency_shift = frequency_shift
        self.fourier_scale = fourier_scale
        self.initialization = initialization
        if fourier_scale is None:
            self.waves = SinusoidalEmbedding(
                wave_channels, max_period, order, frequency_shift, name="waves"
            )
        else:
            self.waves = FourierEmbedding(
                wave_channels, fourier_scale, order, name="waves"
            )
        self.dense_1 = self._dense("dense_1", wave_channels)
        self.dense_2 = self._dense("dense_2", channels)

    def _dense(self, name, in_channels):
        return keras.layers.Dense(
            self.channels,
            dtype=self.dtype_policy,
            name=name,
            **initializers(self.initialization, in_channels),
        )

    def build(self, inputs_shape, added_shape=None):
        self.waves.build(inputs_shape)
        self.dense_1.build((None, self.wave_channels))
        self.dense_2.build((None, self.channels))

    def call(self, inputs, added=None):
        waves = self.waves(inputs)
        if added is not None:
            waves = waves + ops.cast(added, "float32")
        return self.dense_2(ops.silu(self.dense_1(waves)))

    def compute_output_shape(self, inputs_shape, added_shape=None):
        return (inputs_shape[0], self.channels)

    def get_config(self):
        return super().get_config() | {
            "channels": self.channels,
            "wave_channels": self.wave_channels,
            "max_period": self.max_period,
            "order": self.order,
            "frequency_shift": self.frequency_shift,
            "fourier_scale": self.fourier_scale,
            "initialization": self.initialization,
        }
