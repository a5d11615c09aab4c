"""How uncertain the network is at each noise level, learned beside it."""

import math

import keras
from keras import ops

from keras_unet_diffusion.layers import MagnitudePreservingFourierEmbedding

# Bound of log(sigma / alpha), where there is no image: alpha**2 of 2**-24.
_LARGEST_LOG_RATIO = 12 * math.log(2)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class Uncertainty(keras.layers.Layer):
    """Learns the logarithm of the loss at each noise level, to divide by it.

    Use it so that all noise levels pull equally on the network throughout
    training, not at its start alone. It has a few hundred weights, which are
    not part of the network, are not averaged, and are not exported.

    Args:
        channels: int >= 1. Length of the Fourier features.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        log_snr: logarithms of the signal-to-noise ratio, `(batch,)`.

    Returns:
        u, `(batch,)`, float32: the loss `L` becomes `L / exp(u) + u`, which
        is least where `exp(u)` is the expected `L`. It starts at 0.

    Example:

    ```python
    u = Uncertainty()(process.schedule.log_snr(t))
    loss = ops.mean(losses / ops.exp(u) + u)
    ```

    Reference:
        Karras et al. 2024, Eq. 14 and 15 ("uncertainty-based weighting").
        Differences: the linear layer is a plain one that starts at zero, so
        that training starts with the loss as it is; the noise level is
        `log(sigma / alpha) / 4` whatever the network is told.
    """

    def __init__(self, channels=128, **kwargs):
        super().__init__(**kwargs | {"dtype": "float32"})
        self.channels = channels
        self.embedding = MagnitudePreservingFourierEmbedding(channels)
        self.linear = keras.layers.Dense(
            1, use_bias=False, kernel_initializer="zeros", dtype="float32"
        )

    def build(self, input_shape):
        self.embedding.build(input_shape)
        self.linear.build((input_shape[0], self.channels))

    def call(self, log_snr):
        log_ratio = -ops.cast(log_snr, "float32") / 2
        log_ratio = ops.clip(log_ratio, -_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO)
        return self.linear(self.embedding(log_ratio / 4))[:, 0]

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {"channels": self.channels}
