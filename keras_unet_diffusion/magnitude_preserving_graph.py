"""The wiring of the magnitude-preserving U-Net."""

import keras

from keras_unet_diffusion.layers import (
    MagnitudePreservingConcatenate,
    MagnitudePreservingConv2D,
    MagnitudePreservingDecoderBlock,
    MagnitudePreservingEmbedding,
    MagnitudePreservingEncoderBlock,
)
from keras_unet_diffusion.unet_parts import GraphArguments


class MagnitudePreservingGraph(GraphArguments):
    """Wires the layers of one network; forgotten once the model exists."""

    def build(self):
        """Returns the dict of inputs and the output of the network."""
        inputs, embedding = self._inputs()
        hidden = MagnitudePreservingConv2D(
            self.channels[0],
            constant_channel=True,
            dtype=self.policy,
            name="stem",
        )(inputs["noisy_images"])
        hidden, skips = self._encode(hidden, embedding)
        hidden = self._middle(hidden, embedding)
        hidden = self._decode(hidden, embedding, skips)
        outputs = MagnitudePreservingConv2D(
            self.image_channels,
            learned_gain=True,
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
        conditions = [inputs["noise_level"]]
        if self.num_classes is not None:
            inputs["labels"] = keras.Input((), dtype="int32", name="labels")
            conditions.append(inputs["labels"])
        embedding = MagnitudePreservingEmbedding(
            max(self.channels),
            noise_channels=self.channels[0],
            num_classes=self.num_classes,
            null_label=self.null_label,
            dtype=self.policy,
            name="embedding",
        )(*conditions)
        return inputs, embedding

    def _encode(self, hidden, embedding):
        """Goes down; returns the coarsest features and all skips."""
        skips = [hidden]
        for level, channels in enumerate(self.channels):
            where = f"encoder_{self.levels[level]}"
            for block in range(1, self.num_residual_blocks + 1):
                hidden = self._block(
                    MagnitudePreservingEncoderBlock,
                    channels,
                    f"{where}_block_{block}",
                    num_head_channels=self._heads(level),
                )(hidden, embedding)
                skips.append(hidden)
            if level < len(self.channels) - 1:
                hidden = self._block(
                    MagnitudePreservingEncoderBlock,
                    channels,
                    f"{where}_downsample",
                    resample=True,
                )(hidden, embedding)
                skips.append(hidden)
        return hidden, skips

    def _middle(self, hidden, embedding):
        """Two blocks at the coarsest level, the first with attention."""
        heads = (self.num_head_channels, None)
        for block, num_head_channels in enumerate(heads, start=1):
            hidden = self._block(
                MagnitudePreservingDecoderBlock,
                self.channels[-1],
                f"middle_block_{block}",
                num_head_channels=num_head_channels,
            )(hidden, embedding)
        return hidden

    def _decode(self, hidden, embedding, skips):
        """Comes up; each block first takes back the latest skip."""
        for level, channels in reversed(list(enumerate(self.channels))):
            where = f"decoder_{self.levels[level]}"
            for block in range(1, self.num_residual_blocks + 2):
                hidden = MagnitudePreservingConcatenate(
                    dtype=self.policy, name=f"{where}_skip_{block}"
                )(hidden, skips.pop())
                hidden = self._block(
                    MagnitudePreservingDecoderBlock,
                    channels,
                    f"{where}_block_{block}",
                    num_head_channels=self._heads(level),
                )(hidden, embedding)
            if level > 0:
                hidden = self._block(
                    MagnitudePreservingDecoderBlock,
                    channels,
                    f"{where}_upsample",
                    resample=True,
                )(hidden, embedding)
        return hidden

    def _block(self, kind, channels, name, **arguments):
        return kind(
            channels,
            dropout=self.dropout,
            dtype=self.policy,
            name=name,
            **arguments,
        )

    def _heads(self, level):
        """Channels of a head at a level, None where it has no attention."""
        return self.num_head_channels if self.has_attention(level) else None
