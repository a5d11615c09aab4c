"""The parts of the U-Net: each layer, made by the network's arguments."""

import keras

from keras_unet_diffusion.layers import (
    BilinearUpsample,
    Downsample,
    FilteredDownsample,
    FilteredUpsample,
    GroupNormalization,
    ResidualBlock,
    SpatialCrossAttention,
    SpatialSelfAttention,
    Upsample,
)
from keras_unet_diffusion.layers.initialization import initializers


def level_names(image_size, num_levels):
    """What the layers of each level are called after, the finest first."""
    if image_size is None:
        return tuple(f"level_{level}" for level in range(num_levels))
    sizes = [image_size >> level for level in range(num_levels)]
    return tuple(f"{size}x{size}" for size in sizes)


class GraphArguments:
    """What a network's wiring knows: its arguments, as attributes.

    Args:
        policy: dtype policy of all layers but the last.
        **arguments: those of the network, checked.
    """

    def __init__(self, policy, **arguments):
        self.__dict__.update(arguments)
        self.policy = policy
        self.channels = [
            round(self.base_channels * multiplier)
            for multiplier in self.channel_multipliers
        ]
        self.levels = level_names(self.image_size, len(self.channels))

    def has_attention(self, level):
        """Whether blocks at a level are followed by attention, bool."""
        if level in self.attention_levels:
            return True
        if self.image_size is None:
            return False
        return self.image_size >> level in self.attention_resolutions


class UNetParts(GraphArguments):
    """Makes the layers of one U-Net and applies them."""

    def _downsample(self, hidden, embedding, name):
        channels = hidden.shape[-1]
        if self.downsampling == "residual_block":
            return self._residual_block(
                hidden, embedding, name, resampling="down"
            )
        if self.downsampling == "average_pool":
            layer = FilteredDownsample(
                self.resampling_kernel, dtype=self.policy, name=name
            )
        else:
            layer = Downsample(
                channels,
                self.downsample_padding,
                self.initialization,
                dtype=self.policy,
                name=name,
            )
        return layer(hidden)

    def _upsample(self, hidden, embedding, name):
        channels = hidden.shape[-1]
        if self.upsampling == "residual_block":
            return self._residual_block(
                hidden, embedding, name, resampling="up"
            )
        if self.upsampling == "nearest":
            layer = FilteredUpsample(
                self.resampling_kernel, dtype=self.policy, name=name
            )
        elif self.upsampling == "bilinear":
            layer = BilinearUpsample(2, dtype=self.policy, name=name)
        else:
            interpolation = self.upsampling.removesuffix("_conv")
            layer = Upsample(
                channels,
                interpolation,
                self.resampling_kernel,
                self.initialization,
                dtype=self.policy,
                name=name,
            )
        return layer(hidden)

    def _has_decoder_attention(self, level, is_last_block):
        if self.decoder_attention == "none":
            return False
        if self.decoder_attention == "last" and not is_last_block:
            return False
        return self.has_attention(level)

    def _attention(self, hidden, where, block):
        hidden = self._self_attention(hidden, f"{where}_attention_{block}")
        return self._cross_attention(hidden, f"{where}_cross_attention_{block}")

    def _self_attention(self, hidden, name, normalize=True):
        return SpatialSelfAttention(
            normalize=normalize, name=name, **self._attention_arguments()
        )(hidden)

    def _cross_attention(self, hidden, name):
        if self.context_channels is None:
            return hidden
        return SpatialCrossAttention(name=name, **self._attention_arguments())(
            hidden, self.inputs["context"]
        )

    def _attention_arguments(self):
        return self._common_arguments() | {
            "num_heads": self.num_heads,
            "num_head_channels": self.num_head_channels,
            "query_key_norm": self.query_key_norm,
        }

    def _residual_block(
        self, hidden, embedding, name, channels=None, resampling=None
    ):
        return ResidualBlock(
            channels or hidden.shape[-1],
            dropout=self.dropout,
            scale_shift=self.scale_shift,
            resampling=resampling,
            resampling_kernel=self.resampling_kernel,
            resampling_shortcut=self.resampling_shortcut,
            name=name,
            **self._common_arguments(),
        )(hidden, embedding)

    def _common_arguments(self):
        return {
            "num_groups": self.num_groups,
            "min_group_channels": self.min_group_channels,
            "epsilon": self.epsilon,
            "residual_scale": self.residual_scale,
            "initialization": self.initialization,
            "rematerialize": self.rematerialize,
            "dtype": self.policy,
        }

    def _head(self, hidden, name):
        """Features to an image: normalise, SiLU, convolve, in float32."""
        hidden = self._norm_and_silu(hidden, name)
        return keras.layers.Conv2D(
            self.output_channels or self.image_channels,
            3,
            padding="same",
            dtype="float32",
            name=f"{name}_conv",
            **initializers(self.initialization, 9 * hidden.shape[-1], "last"),
        )(hidden)

    def _norm_and_silu(self, hidden, name):
        hidden = GroupNormalization(
            self.num_groups,
            self.epsilon,
            self.min_group_channels,
            dtype=self.policy,
            name=f"{name}_norm",
        )(hidden)
        silu = keras.layers.Activation(
            "silu", dtype=self.policy, name=f"{name}_silu"
        )
        return silu(hidden)

    def _conv(self, channels, size, name):
        def apply(hidden):
            return keras.layers.Conv2D(
                channels,
                size,
                padding="same",
                dtype=self.policy,
                name=name,
                **initializers(
                    self.initialization, size * size * hidden.shape[-1]
                ),
            )(hidden)

        return apply

    def _sum(self, terms, name, dtype=None):
        if len(terms) == 1:
            return terms[0]
        return keras.layers.Add(dtype=dtype or self.policy, name=name)(terms)

    def _scale(self, hidden, scale, name):
        if scale == 1.0:
            return hidden
        return keras.layers.Rescaling(scale, dtype=self.policy, name=name)(
            hidden
        )

    def _concatenate(self, parts, name, dtype=None):
        return keras.layers.Concatenate(dtype=dtype or self.policy, name=name)(
            parts
        )
