"""The embedding of noise level and label, at a known magnitude."""

import math

import keras
import numpy as np
from keras import ops

from keras_unet_diffusion.layers.float32 import Float32Layer
from keras_unet_diffusion.layers.magnitude_preserving import (
    MagnitudePreservingDense,
    add_normalized_weight,
    mp_silu,
    mp_sum,
    normalize_kernel,
)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class MagnitudePreservingFourierEmbedding(Float32Layer):
    """Writes a number as cosines of random frequencies and phases.

    Frequencies and phases are drawn once and never trained, but they are
    weights: they belong to the trained network. It always computes in
    float32.

    Args:
        channels: int >= 1. Length of the embedding.
        bandwidth: float > 0. Spread of the frequencies, in cycles per unit
            of the input.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: numbers of shape `(batch,)`.

    Returns:
        Embeddings of shape `(batch, channels)`, float32, of mean square 1.

    Example:

    ```python
    embedding = MagnitudePreservingFourierEmbedding(128)
    embedding(np.array([-1.0, 0.5])).shape  # (2, 128)
    ```

    Reference:
        Karras et al. 2024, appendix B. Differences: none.
    """

    def __init__(self, channels, bandwidth=1.0, **kwargs):
        super().__init__(channels, **kwargs)
        self.bandwidth = bandwidth

    def build(self, input_shape):
        self.frequencies = self.add_weight(
            shape=(self.channels,),
            initializer=keras.initializers.RandomNormal(
                stddev=2 * np.pi * self.bandwidth
            ),
            trainable=False,
            name="frequencies",
        )
        self.phases = self.add_weight(
            shape=(self.channels,),
            initializer=keras.initializers.RandomUniform(0.0, 2 * np.pi),
            trainable=False,
            name="phases",
        )

    def call(self, inputs):
        inputs = ops.expand_dims(ops.cast(inputs, "float32"), 1)
        phase = inputs * self.frequencies + self.phases
        return math.sqrt(2) * ops.cos(phase)

    def get_config(self):
        return super().get_config() | {
            "bandwidth": self.bandwidth,
        }


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class MagnitudePreservingEmbedding(keras.layers.Layer):
    """Embeds the noise level and, if there are classes, the label.

    Use it once per network; every block reads the result. The noise level
    becomes Fourier features, then a dense layer; the label selects a row of a
    table; both are blended half and half and passed through SiLU.

    Args:
        channels: int >= 1. Length of the embedding that comes out.
        noise_channels: int >= 1. Length of the Fourier features.
        num_classes: int >= 1, labels are 0 to `num_classes - 1`; None for a
            layer without labels.
        null_label: bool. Whether the label `num_classes` is allowed, which
            stands for no label: its row is zero.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        noise_level: numbers of shape `(batch,)`; the paper's are
            `log(sigma) / 4`.
        labels: integers of shape `(batch,)`, or None without classes.

    Returns:
        Embeddings of shape `(batch, channels)`.

    Raises:
        ValueError: `num_classes` is below 1, or `null_label` has no classes
            to stand beside.

    Example:

    ```python
    embedding = MagnitudePreservingEmbedding(512, 128, num_classes=10)
    embedding(np.array([-1.0, 0.5]), np.array([3, 7])).shape  # (2, 512)
    ```

    Reference:
        Karras et al. 2024, config G and Eq. 88. Differences: none; the
        product of a one-hot vector and a kernel is written as a look-up.
    """

    def __init__(
        self,
        channels,
        noise_channels,
        num_classes=None,
        null_label=False,
        **kwargs,
    ):
        # Noise levels must reach the Fourier features in float32.
        kwargs["autocast"] = False
        super().__init__(**kwargs)
        if num_classes is not None and num_classes < 1:
            raise ValueError(
                "A label embedding needs at least one class. Received: "
                f"num_classes={num_classes}. For a network without labels "
                "pass num_classes=None."
            )
        if null_label and num_classes is None:
            raise ValueError(
                "null_label stands beside the labels of classes. Received: "
                "null_label=True, num_classes=None. Pass num_classes, or "
                "null_label=False."
            )
        self.channels = channels
        self.noise_channels = noise_channels
        self.num_classes = num_classes
        self.null_label = null_label
        self.waves = MagnitudePreservingFourierEmbedding(
            noise_channels, name="waves"
        )
        self.noise_projection = MagnitudePreservingDense(
            channels, dtype=self.dtype_policy, name="noise_projection"
        )

    def build(self, noise_level_shape, labels_shape=None):
        self.waves.build(noise_level_shape)
        self.noise_projection.build((None, self.noise_channels))
        self.label_table = None
        if self.num_classes is not None:
            shape = (self.num_classes, self.channels)
            self.label_table = add_normalized_weight(self, shape, "label_table")

    def call(self, noise_level, labels=None):
        embedding = self.noise_projection(self.waves(noise_level))
        if self.label_table is not None:
            embedding = mp_sum(embedding, self._label_rows(labels), 0.5)
        return mp_silu(embedding)

    def _label_rows(self, labels):
        # The factor sqrt(num_classes) that gives a one-hot vector a mean
        # square of 1 cancels with the 1 / sqrt(fan-in) of the kernel.
        table = normalize_kernel(self.label_table)
        if self.null_label:
            table = ops.pad(table, ((0, 1), (0, 0)))
        rows = ops.take(table, ops.cast(labels, "int32"), axis=0)
        return ops.cast(rows, self.compute_dtype)

    def compute_output_shape(self, noise_level_shape, labels_shape=None):
        return (noise_level_shape[0], self.channels)

    def get_config(self):
        return super().get_config() | {
            "channels": self.channels,
            "noise_channels": self.noise_channels,
            "num_classes": self.num_classes,
            "null_label": self.null_label,
        }
