"""What layers that compute in float32 under every policy have in common."""

import keras


class Float32Layer(keras.layers.Layer):
    """A layer that turns numbers `(batch,)` into vectors `(batch, channels)`.

    Always in float32: under bfloat16 the noise level 999 would become 1000.
    A dtype that is passed is ignored.

    Args:
        channels: int. Length of the vectors.
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(self, channels, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.channels = channels

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.channels)

    def get_config(self):
        config = super().get_config()
        # Always float32, so not an argument to store.
        config.pop("dtype", None)
        return config | {"channels": self.channels}
