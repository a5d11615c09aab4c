"""Embeddings of class labels."""

import keras
from keras import ops

from keras_unet_diffusion.layers.initialization import (
    check_family,
    initializers,
)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class LabelEmbedding(keras.layers.Layer):
    """Looks up one learned vector for each class.

    Use it to condition a network on a class: its output is added to that of
    `NoiseLevelEmbedding`, or to the waves inside it.

    Args:
        num_classes: int >= 1. Labels are 0 to `num_classes - 1`.
        channels: int >= 1. Length of the embedding.
        null_label: None; or "learned" or "zero", so that the label
            `num_classes` means no class, with a vector that is learned or
            zero. Training with it now and then is what classifier-free
            guidance needs.
        one_hot: bool. True is a dense layer on one-hot labels of root mean
            square 1: `sqrt(num_classes)` times the row, plus a bias (EDM).
        initialization: family of initial weights, see `UNet`; only with
            `one_hot`. Rows are standard normal otherwise.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: integer labels of shape `(batch,)`.

    Returns:
        Embeddings of shape `(batch, channels)`.

    Raises:
        ValueError: `num_classes` or `channels` is below 1, or an unknown
            `null_label`.

    Example:

    ```python
    LabelEmbedding(10, 512)(np.array([3, 7])).shape  # (2, 512)
    ```

    Reference:
        Nichol and Dhariwal 2021, "Improved Denoising Diffusion Probabilistic
        Models", appendix A; null label: Ho and Salimans 2022, section 3.2;
        one-hot: Karras et al. 2022, appendix C. Differences: none.
    """

    def __init__(
        self,
        num_classes,
        channels,
        null_label=None,
        one_hot=False,
        initialization="ddpm",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_family(initialization)
        if num_classes < 1 or channels < 1:
            raise ValueError(
                "A label embedding needs at least one class and one channel. "
                f"Received: num_classes={num_classes}, channels={channels}. "
                "For a network without labels leave the layer out."
            )
        if null_label not in (None, "learned", "zero"):
            raise ValueError(
                "A null label has a learned vector or none. Received: "
                f"null_label={null_label!r}. Pass 'learned', 'zero' or None."
            )
        self.num_classes = num_classes
        self.channels = channels
        self.null_label = null_label
        self.one_hot = one_hot
        self.initialization = initialization

    def build(self, input_shape):
        rows = self.num_classes + (self.null_label == "learned")
        initial = {
            "kernel_initializer": keras.initializers.RandomNormal(stddev=1.0)
        }
        if self.one_hot:
            initial = initializers(self.initialization, rows)
        self.table = self.add_weight(
            shape=(rows, self.channels),
            initializer=initial["kernel_initializer"],
            name="table",
        )
        self.bias = None
        if self.one_hot:
            self.bias = self.add_weight(
                shape=(self.channels,),
                initializer=initial["bias_initializer"],
                name="bias",
            )

    def call(self, inputs):
        labels = ops.cast(inputs, "int32")
        if self.null_label == "zero":
            is_class = ops.expand_dims(labels < self.num_classes, -1)
            labels = ops.minimum(labels, self.num_classes - 1)
            rows = ops.take(self.table, labels, axis=0)
            rows = ops.where(is_class, rows, ops.zeros_like(rows))
        else:
            rows = ops.take(self.table, labels, axis=0)
        if self.one_hot:
            rows = rows * self.num_classes**0.5 + self.bias
        return ops.cast(rows, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.channels)

    def get_config(self):
        return super().get_config() | {
            "num_classes": self.num_classes,
            "channels": self.channels,
            "null_label": self.null_label,
            "one_hot": self.one_hot,
            "initialization": self.initialization,
        }
