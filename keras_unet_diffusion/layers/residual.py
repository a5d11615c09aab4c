"""The residual block, into which the noise level is injected."""

import keras
from keras import ops

from keras_unet_diffusion.layers.normalization import (
    GroupNormalization,
    ModulatedGroupNormalization,
)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class ResidualBlock(keras.layers.Layer):
    """Two convolutions around an injected embedding, plus a shortcut.

    Normalise, SiLU, convolve; inject the embedding; normalise, SiLU, dropout,
    convolve; add the input. The second convolution starts at zero, so that a
    new block is its own shortcut. The shortcut is a 1x1 convolution where the
    channels change.

    Args:
        channels: int >= 1. Channels that come out.
        dropout: float in [0, 1). Share of features dropped in training.
        scale_shift: bool. False adds the embedding to the features; True
            scales and shifts the second normalisation by it.
        num_groups: int >= 1 that divides the channels before and after.
        epsilon: float > 0, for the normalisations.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: images of shape `(batch, height, width, in_channels)`.
        embedding: vectors of shape `(batch, embedding_channels)`.
        training: bool. Whether dropout is active.

    Returns:
        Images of shape `(batch, height, width, channels)`.

    Raises:
        ValueError: the groups do not divide the channels, or `dropout` is
            outside [0, 1).

    Example:

    ```python
    block = ResidualBlock(128)
    block(np.ones((2, 32, 32, 64)), np.ones((2, 512))).shape
    ```

    Reference:
        Ho et al. 2020, appendix B (additive); Dhariwal and Nichol 2021,
        section 3.1 (scale and shift). Differences: the last convolution
        starts at exactly 0, where DDPM's code starts it at 1e-10.
    """

    def __init__(
        self,
        channels,
        dropout=0.0,
        scale_shift=False,
        num_groups=32,
        epsilon=1e-6,
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
        self.dropout = dropout
        self.scale_shift = scale_shift
        self.num_groups = num_groups
        self.epsilon = epsilon

    def build(self, inputs_shape, embedding_shape):
        in_channels = inputs_shape[-1]
        hidden_shape = (*inputs_shape[:-1], self.channels)
        dtype = self.dtype_policy
        norm = {
            "num_groups": self.num_groups,
            "epsilon": self.epsilon,
            "dtype": dtype,
        }
        self.norm_1 = GroupNormalization(name="norm_1", **norm)
        self.norm_1.build(inputs_shape)
        self.conv_1 = keras.layers.Conv2D(
            self.channels, 3, padding="same", dtype=dtype, name="conv_1"
        )
        self.conv_1.build(inputs_shape)
        if self.scale_shift:
            self.norm_2 = ModulatedGroupNormalization(name="norm_2", **norm)
            self.norm_2.build(hidden_shape, embedding_shape)
        else:
            self.injection = keras.layers.Dense(
                self.channels, dtype=dtype, name="injection"
            )
            self.injection.build(embedding_shape)
            self.norm_2 = GroupNormalization(name="norm_2", **norm)
            self.norm_2.build(hidden_shape)
        self.drop = keras.layers.Dropout(self.dropout, dtype=dtype, name="drop")
        self.conv_2 = keras.layers.Conv2D(
            self.channels,
            3,
            padding="same",
            kernel_initializer="zeros",
            dtype=dtype,
            name="conv_2",
        )
        self.conv_2.build(hidden_shape)
        self.shortcut = None
        if in_channels != self.channels:
            self.shortcut = keras.layers.Conv2D(
                self.channels, 1, dtype=dtype, name="shortcut"
            )
            self.shortcut.build(inputs_shape)

    def call(self, inputs, embedding, training=False):
        embedding = ops.silu(embedding)
        hidden = self.conv_1(ops.silu(self.norm_1(inputs)))
        if self.scale_shift:
            hidden = self.norm_2(hidden, embedding)
        else:
            hidden = hidden + self.injection(embedding)[:, None, None, :]
            hidden = self.norm_2(hidden)
        hidden = self.drop(ops.silu(hidden), training=training)
        hidden = self.conv_2(hidden)
        if self.shortcut is not None:
            inputs = self.shortcut(inputs)
        return inputs + hidden

    def compute_output_shape(self, inputs_shape, embedding_shape):
        return (*inputs_shape[:-1], self.channels)

    def get_config(self):
        return super().get_config() | {
            "channels": self.channels,
            "dropout": self.dropout,
            "scale_shift": self.scale_shift,
            "num_groups": self.num_groups,
            "epsilon": self.epsilon,
        }
