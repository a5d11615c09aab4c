"""The U-Net: from a noisy image and a noise level to a prediction."""

import keras

from keras_unet_diffusion.presets import PRESETS
from keras_unet_diffusion.unet_graph import UNetGraph


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class UNet(keras.Model):
    """Predicts, pixel for pixel, from a noisy image and its noise level.

    An encoder of residual blocks goes down through the scales, a middle with
    self-attention sees the whole image, a decoder comes up again, and every
    feature map of the encoder is concatenated into the decoder at its scale,
    so that fine detail is not lost on the way. The noise level is embedded
    and injected into every block. It is a functional Keras model: `summary`,
    `layers` and `get_layer` work as usual.

    Use it as the network of a `DiffusionModel`, or alone.

    Args:
        image_size: int, height and width of the images in pixels, or None for
            any size (also oblong) that the total stride divides. The total
            stride is `2 ** (len(channel_multipliers) - 1)`.
        image_channels: int >= 1. Channels in and out; 1 grey, 3 RGB.
        base_channels: int >= 1. Channels at the first level.
        channel_multipliers: one number per level; channels at level `i` are
            `base_channels * channel_multipliers[i]`. Each further level halves
            the resolution.
        num_residual_blocks: int >= 1. Residual blocks per level of the
            encoder; the decoder has one more.
        attention_resolutions: heights in pixels of the feature maps that get
            self-attention after each block; the middle always has it. Must be
            empty where `image_size` is None: give `attention_levels` then.
        attention_levels: levels (0 is the finest) that get self-attention, in
            addition to `attention_resolutions`.
        num_heads: int >= 1. Attention heads; must divide the channels.
        num_head_channels: int >= 1, or None. Channels of one head; overrides
            `num_heads`.
        dropout: float in [0, 1), in every residual block.
        scale_shift: bool. Whether the embedding scales and shifts the second
            normalisation of a block (ADM) or is added (DDPM).
        downsample_padding: `(before, after)` zero pixels of the strided
            convolutions: `(0, 1)` DDPM, `(1, 1)` PyTorch networks.
        num_groups: int >= 1. Groups of each group normalisation; must divide
            the channels of every level.
        epsilon: float > 0, of each group normalisation: 1e-6 DDPM, 1e-5 ADM.
        num_classes: int >= 1 for a network conditioned on labels, or None.
        dtype: dtype policy of all layers, None for the global one. The last
            convolution is always float32.
        name: str, name of the model.
        **kwargs: of `keras.Model`.

    Call arguments:
        inputs: dict of `noisy_images` `(batch, height, width, channels)` with
            pixels around [-1, 1], `noise_level` `(batch,)` in the units of
            the process (DDPM: 0 to 999), and, with `num_classes`, integer
            `labels` `(batch,)`.
        training: bool. Whether dropout is active.

    Returns:
        Prediction of shape `(batch, height, width, channels)`, float32.

    Raises:
        ValueError: sizes, groups or heads that do not fit together; the
            message says which and what to do.

    Example:

    ```python
    network = UNet.from_preset("ddpm_cifar10")
    prediction = network(
        {"noisy_images": images, "noise_level": np.array([999.0, 0.0])}
    )
    ```

    Reference:
        Ronneberger et al. 2015, "U-Net"; Ho et al. 2020, appendix B.
        Differences: none from the latter at the defaults.
    """

    def __init__(
        self,
        image_size=32,
        image_channels=3,
        base_channels=128,
        channel_multipliers=(1, 2, 2, 2),
        num_residual_blocks=2,
        attention_resolutions=(16,),
        attention_levels=(),
        num_heads=1,
        num_head_channels=None,
        dropout=0.0,
        scale_shift=False,
        downsample_padding=(0, 1),
        num_groups=32,
        epsilon=1e-6,
        num_classes=None,
        dtype=None,
        name="unet",
        **kwargs,
    ):
        arguments = {
            "image_size": image_size,
            "image_channels": image_channels,
            "base_channels": base_channels,
            "channel_multipliers": tuple(channel_multipliers),
            "num_residual_blocks": num_residual_blocks,
            "attention_resolutions": tuple(attention_resolutions),
            "attention_levels": tuple(attention_levels),
            "num_heads": num_heads,
            "num_head_channels": num_head_channels,
            "dropout": dropout,
            "scale_shift": scale_shift,
            "downsample_padding": tuple(downsample_padding),
            "num_groups": num_groups,
            "epsilon": epsilon,
            "num_classes": num_classes,
        }
        _check_arguments(**arguments)
        policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        inputs, outputs = UNetGraph(policy, **arguments).build()
        super().__init__(inputs=inputs, outputs=outputs, name=name, **kwargs)
        self.dtype_policy = policy
        for argument, value in arguments.items():
            setattr(self, argument, value)
        self._arguments = tuple(arguments)

    @classmethod
    def from_preset(cls, preset, **overrides):
        """Builds a network from a named set of arguments, not from weights.

        Args:
            preset: str, one of `UNet.presets()`.
            **overrides: constructor arguments that replace the preset's.

        Returns:
            A `UNet` with new weights.

        Raises:
            ValueError: no preset of that name.

        Example:

        ```python
        network = UNet.from_preset("tiny", num_classes=10)
        ```
        """
        if preset not in PRESETS:
            raise ValueError(
                f"There is no preset of that name. Received: preset="
                f"{preset!r}. Choose one of {', '.join(cls.presets())}."
            )
        return cls(**(PRESETS[preset] | overrides))

    @staticmethod
    def presets():
        """Returns the names of the presets, a tuple of str."""
        return tuple(PRESETS)

    @property
    def total_stride(self):
        """Pixels of the image per pixel of the coarsest level, int."""
        return 2 ** (len(self.channel_multipliers) - 1)

    def call(self, inputs, training=None, mask=None):
        height, width = inputs["noisy_images"].shape[1:3]
        for size in (height, width):
            if size is not None and size % self.total_stride:
                raise ValueError(
                    "Height and width must be multiples of the network's "
                    f"total stride, {self.total_stride}. Received: images of "
                    f"{height}x{width} pixels. Crop, pad or resize them."
                )
        return super().call(inputs, training=training, mask=mask)

    def get_config(self):
        config = {name: getattr(self, name) for name in self._arguments}
        dtype = keras.dtype_policies.serialize(self.dtype_policy)
        return config | {
            "dtype": dtype,
            "name": self.name,
            "trainable": self.trainable,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)


def _check_arguments(
    image_size,
    image_channels,
    base_channels,
    channel_multipliers,
    num_residual_blocks,
    attention_resolutions,
    attention_levels,
    num_classes,
    **unused,
):
    """Raises a `ValueError` for what no single layer can notice."""
    counts = {
        "image_channels": image_channels,
        "base_channels": base_channels,
        "num_residual_blocks": num_residual_blocks,
        "len(channel_multipliers)": len(channel_multipliers),
    }
    if num_classes is not None:
        counts["num_classes"] = num_classes
    for count, value in counts.items():
        if value < 1:
            raise ValueError(
                f"{count} must be at least 1. Received: {count}={value}."
                + (
                    " For a network without labels pass num_classes=None."
                    if count == "num_classes"
                    else " Pass a positive whole number."
                )
            )
    num_levels = len(channel_multipliers)
    wrong_levels = [x for x in attention_levels if not 0 <= x < num_levels]
    if wrong_levels:
        raise ValueError(
            f"attention_levels must be numbers from 0 to {num_levels - 1}, "
            "one for each channel multiplier. Received: attention_levels="
            f"{attention_levels}. Leave out {wrong_levels}."
        )
    if image_size is None:
        if attention_resolutions:
            raise ValueError(
                "attention_resolutions says nothing where image_size is "
                "None. Received: attention_resolutions="
                f"{attention_resolutions}. Pass attention_resolutions=() and "
                "name the levels by attention_levels, 0 being the finest."
            )
        return
    stride = 2 ** (num_levels - 1)
    if image_size < 1 or image_size % stride:
        below = image_size // stride * stride
        nearest = [x for x in (below, below + stride) if x > 0]
        raise ValueError(
            f"{num_levels} levels halve the image {num_levels - 1} times, so "
            f"image_size must be a multiple of {stride}. Received: "
            f"image_size={image_size}. Use {' or '.join(map(str, nearest))}, "
            "or fewer channel_multipliers."
        )
    resolutions = [image_size >> level for level in range(num_levels)]
    wrong = [x for x in attention_resolutions if x not in resolutions]
    if wrong:
        raise ValueError(
            f"An image of {image_size} pixels has feature maps of "
            f"{resolutions} pixels in {num_levels} levels. Received: "
            f"attention_resolutions={attention_resolutions}. Leave out "
            f"{wrong} or choose among those."
        )
