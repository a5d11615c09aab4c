"""The U-Net: from a noisy image and a noise level to a prediction."""

import keras

from keras_unet_diffusion.layers import (
    Downsample,
    GroupNormalization,
    LabelEmbedding,
    NoiseLevelEmbedding,
    ResidualBlock,
    SpatialSelfAttention,
    Upsample,
)
from keras_unet_diffusion.presets import PRESETS


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
        inputs, outputs = _Graph(policy, **arguments).build()
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


class _Graph:
    """Wires the layers of one U-Net; forgotten once the model exists."""

    def __init__(self, policy, **arguments):
        self.policy = policy
        self.arguments = arguments
        self.channels = [
            arguments["base_channels"] * multiplier
            for multiplier in arguments["channel_multipliers"]
        ]

    def __getattr__(self, name):
        return self.arguments[name]

    def build(self):
        """Returns the dict of inputs and the output of the network."""
        inputs, embedding = self._inputs()
        hidden = self._conv(self.channels[0], "stem")(inputs["noisy_images"])
        hidden, skips = self._encode(hidden, embedding)
        hidden = self._residual_block(hidden, embedding, "middle_block_1")
        hidden = self._attention(hidden, "middle_attention")
        hidden = self._residual_block(hidden, embedding, "middle_block_2")
        hidden = self._decode(hidden, embedding, skips)
        hidden = self._norm("output_norm")(hidden)
        hidden = keras.layers.Activation(
            "silu", dtype=self.policy, name="output_silu"
        )(hidden)
        outputs = keras.layers.Conv2D(
            self.image_channels,
            3,
            padding="same",
            kernel_initializer="zeros",
            dtype="float32",
            name="output_conv",
        )(hidden)
        return inputs, outputs

    def _inputs(self):
        size = self.image_size
        inputs = {
            "noisy_images": keras.Input(
                (size, size, self.image_channels),
                dtype="float32",
                name="noisy_images",
            ),
            "noise_level": keras.Input((), dtype="float32", name="noise_level"),
        }
        embedding_channels = 4 * self.base_channels
        embedding = NoiseLevelEmbedding(
            embedding_channels,
            sinusoid_channels=self.base_channels,
            dtype=self.policy,
            name="noise_level_embedding",
        )(inputs["noise_level"])
        if self.num_classes is not None:
            inputs["labels"] = keras.Input((), dtype="int32", name="labels")
            labels = LabelEmbedding(
                self.num_classes,
                embedding_channels,
                dtype=self.policy,
                name="label_embedding",
            )(inputs["labels"])
            embedding = keras.layers.Add(
                dtype=self.policy, name="conditioning"
            )([embedding, labels])
        return inputs, embedding

    def _encode(self, hidden, embedding):
        """Goes down; returns the coarsest features and all skips."""
        skips = [hidden]
        for level, channels in enumerate(self.channels):
            where = f"encoder_{self._resolution(level)}"
            for block in range(1, self.num_residual_blocks + 1):
                hidden = self._residual_block(
                    hidden, embedding, f"{where}_block_{block}", channels
                )
                if self._has_attention(level):
                    hidden = self._attention(
                        hidden, f"{where}_attention_{block}"
                    )
                skips.append(hidden)
            if level < len(self.channels) - 1:
                hidden = Downsample(
                    channels,
                    self.downsample_padding,
                    dtype=self.policy,
                    name=f"{where}_downsample",
                )(hidden)
                skips.append(hidden)
        return hidden, skips

    def _decode(self, hidden, embedding, skips):
        """Comes up; each block first takes back the latest skip."""
        for level, channels in reversed(list(enumerate(self.channels))):
            where = f"decoder_{self._resolution(level)}"
            for block in range(1, self.num_residual_blocks + 2):
                hidden = keras.layers.Concatenate(
                    dtype=self.policy, name=f"{where}_skip_{block}"
                )([hidden, skips.pop()])
                hidden = self._residual_block(
                    hidden, embedding, f"{where}_block_{block}", channels
                )
                if self._has_attention(level):
                    hidden = self._attention(
                        hidden, f"{where}_attention_{block}"
                    )
            if level > 0:
                hidden = Upsample(
                    channels, dtype=self.policy, name=f"{where}_upsample"
                )(hidden)
        return hidden

    def _resolution(self, level):
        if self.image_size is None:
            return f"level_{level}"
        size = self.image_size >> level
        return f"{size}x{size}"

    def _has_attention(self, level):
        if level in self.attention_levels:
            return True
        if self.image_size is None:
            return False
        return self.image_size >> level in self.attention_resolutions

    def _conv(self, channels, name):
        return keras.layers.Conv2D(
            channels, 3, padding="same", dtype=self.policy, name=name
        )

    def _norm(self, name):
        return GroupNormalization(
            self.num_groups, self.epsilon, dtype=self.policy, name=name
        )

    def _residual_block(self, hidden, embedding, name, channels=None):
        return ResidualBlock(
            channels or hidden.shape[-1],
            dropout=self.dropout,
            scale_shift=self.scale_shift,
            num_groups=self.num_groups,
            epsilon=self.epsilon,
            dtype=self.policy,
            name=name,
        )(hidden, embedding)

    def _attention(self, hidden, name):
        return SpatialSelfAttention(
            self.num_heads,
            self.num_head_channels,
            num_groups=self.num_groups,
            epsilon=self.epsilon,
            dtype=self.policy,
            name=name,
        )(hidden)
