"""A stack of convolutions at one resolution: what a U-Net is measured by."""

import keras

from keras_unet_diffusion.functional_network import FunctionalNetwork
from keras_unet_diffusion.layers import NoiseLevelEmbedding
from keras_unet_diffusion.unet_arguments import check_counts


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class PlainCNN(FunctionalNetwork):
    """Predicts each pixel from a small square around it, and nothing more.

    `num_layers` convolutions of 3x3 pixels at the resolution of the image,
    with SiLU between: no scales, no skips, no attention. Use it as the
    baseline that shows what those are for. Each output pixel sees exactly
    `2 * num_layers + 1` pixels squared (`receptive_field`), so to see 32
    pixels takes 16 layers, all at full resolution.

    There is no normalisation: group normalisation takes statistics of the
    whole image, through which every pixel would see all others. He's
    initialisation keeps the signal alive through the depths that are of use
    here.

    Args:
        image_size: int, height and width of the images in pixels, or None for
            any size.
        image_channels: int >= 1. Channels in and out; 1 grey, 3 RGB.
        channels: int >= 1. Channels of every hidden layer.
        num_layers: int >= 2. Convolutions, the last one included.
        condition_on_noise_level: bool. Whether an embedding of the noise
            level is added after every hidden convolution. False takes the
            noise level and ignores it.
        dtype: dtype policy of all layers, None for the global one. The last
            convolution is always float32.
        name: str, name of the model.
        **kwargs: of `keras.Model`.

    Call arguments:
        inputs: dict of `noisy_images` `(batch, height, width, channels)` with
            pixels around [-1, 1], and `noise_level` `(batch,)` in the units
            of the process (DDPM: 0 to 999).

    Returns:
        Prediction of shape `(batch, height, width, channels)`, float32; a new
        network predicts 0.

    Raises:
        ValueError: a count is too small.

    Example:

    ```python
    model = DiffusionModel(PlainCNN(image_size=16, image_channels=1))
    ```

    Reference:
        None; the baseline of this library's own comparisons.
    """

    def __init__(
        self,
        image_size=32,
        image_channels=3,
        channels=64,
        num_layers=5,
        condition_on_noise_level=True,
        dtype=None,
        name="plain_cnn",
        **kwargs,
    ):
        check_counts(
            image_size=image_size,
            image_channels=image_channels,
            channels=channels,
        )
        check_counts(minimum=2, num_layers=num_layers)
        policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        inputs = {
            "noisy_images": keras.Input(
                (image_size, image_size, image_channels),
                dtype="float32",
                name="noisy_images",
            ),
            "noise_level": keras.Input((), dtype="float32", name="noise_level"),
        }
        outputs = _wire(
            inputs, channels, num_layers, condition_on_noise_level, policy
        )
        arguments = {
            "image_size": image_size,
            "image_channels": image_channels,
            "channels": channels,
            "num_layers": num_layers,
            "condition_on_noise_level": condition_on_noise_level,
        }
        graph = (inputs, outputs)
        super().__init__(graph, arguments, policy, name=name, **kwargs)

    @property
    def receptive_field(self):
        """Height and width in pixels of what an output pixel sees, int."""
        return 2 * self.num_layers + 1


def _wire(inputs, channels, num_layers, condition_on_noise_level, policy):
    """Returns the output of the stack of convolutions."""
    embedding = None
    if condition_on_noise_level:
        embedding = NoiseLevelEmbedding(
            4 * channels, channels, dtype=policy, name="noise_level_embedding"
        )(inputs["noise_level"])
        embedding = keras.layers.Activation(
            "silu", dtype=policy, name="embedding_silu"
        )(embedding)
    hidden = inputs["noisy_images"]
    for layer in range(1, num_layers):
        hidden = keras.layers.Conv2D(
            channels,
            3,
            padding="same",
            kernel_initializer="he_normal",
            dtype=policy,
            name=f"conv_{layer}",
        )(hidden)
        if embedding is not None:
            shift = keras.layers.Dense(
                channels, dtype=policy, name=f"injection_{layer}"
            )(embedding)
            shift = keras.layers.Reshape(
                (1, 1, channels), dtype=policy, name=f"shift_{layer}"
            )(shift)
            hidden = keras.layers.Add(dtype=policy, name=f"add_{layer}")(
                [hidden, shift]
            )
        hidden = keras.layers.Activation(
            "silu", dtype=policy, name=f"silu_{layer}"
        )(hidden)
    output_channels = inputs["noisy_images"].shape[-1]
    return keras.layers.Conv2D(
        output_channels,
        3,
        padding="same",
        kernel_initializer="zeros",
        dtype="float32",
        name=f"conv_{num_layers}",
    )(hidden)
