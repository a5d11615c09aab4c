"""The wiring of the U-Net: encoder, middle, decoder, and the skips between."""

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


class UNetGraph:
    """Wires the layers of one U-Net; forgotten once the model exists.

    Args:
        policy: dtype policy of all layers but the last.
        **arguments: those of `UNet`, checked.
    """

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
