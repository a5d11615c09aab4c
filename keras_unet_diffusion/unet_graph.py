"""The wiring of the U-Net: encoder, middle, decoder, and the skips between."""

import keras

from keras_unet_diffusion.layers import (
    BilinearUpsample,
    FilteredDownsample,
    FilteredUpsample,
    LabelEmbedding,
    NoiseLevelEmbedding,
    PyramidDownsample,
    Upsample,
)
from keras_unet_diffusion.layers.initialization import initializers
from keras_unet_diffusion.unet_parts import UNetParts


class UNetGraph(UNetParts):
    """Wires the layers of one U-Net; forgotten once the model exists."""

    def build(self):
        """Returns the dict of inputs and the output of the network."""
        self.inputs = {}
        images = self._image_inputs()
        embedding = self._embedding()
        if self.context_channels is not None:
            self._input("context", (None, self.context_channels))
        stem_channels = self.stem_channels or self.channels[0]
        hidden = self._conv(stem_channels, 3, "stem")(images)
        hidden, skips = self._encode(hidden, embedding)
        hidden = self._residual_block(hidden, embedding, "middle_block_1")
        if self.middle_attention:
            hidden = self._self_attention(
                hidden, "middle_attention", self.middle_attention_norm
            )
            hidden = self._cross_attention(hidden, "middle_cross_attention")
        hidden = self._residual_block(hidden, embedding, "middle_block_2")
        outputs = self._decode(hidden, embedding, skips)
        return self.inputs, outputs

    def _input(self, name, shape, dtype="float32"):
        self.inputs[name] = keras.Input(shape, dtype=dtype, name=name)
        return self.inputs[name]

    def _image_inputs(self):
        """The noisy images, with what is concatenated to them."""
        size, channels = self.image_size, self.image_channels
        shape = (size, size, channels)
        images = [self._input("noisy_images", shape)]
        if self.self_conditioning:
            images.append(self._input("previous_estimate", shape))
        if self.super_resolution_factor is not None:
            factor = self.super_resolution_factor
            size = None if size is None else size // factor
            low = self._input("low_resolution_images", (size, size, channels))
            images.append(
                BilinearUpsample(
                    factor, dtype="float32", name="low_resolution_upsample"
                )(low)
            )
        if len(images) == 1:
            return images[0]
        return self._concatenate(images, "stem_inputs", "float32")

    def _embedding(self):
        """One vector of all that conditions every block."""
        noise_level = self._input("noise_level", ())
        base = self.base_channels
        wave_channels = self.noise_channels or base
        channels = self.embedding_channels or 4 * base
        is_fourier = self.noise_level_embedding == "fourier"
        is_one_hot = self.label_embedding == "one_hot"
        to_waves, to_embedding = [], []
        if self.num_classes is not None:
            labels = LabelEmbedding(
                self.num_classes,
                wave_channels if is_one_hot else channels,
                null_label=self.null_label,
                one_hot=is_one_hot,
                initialization=self.initialization,
                dtype=self.policy,
                name="label_embedding",
            )(self._input("labels", (), "int32"))
            (to_waves if is_one_hot else to_embedding).append(labels)
        if self.augmentation_channels is not None:
            initial = initializers(
                self.initialization, self.augmentation_channels
            )
            augmentation = keras.layers.Dense(
                wave_channels,
                use_bias=False,
                kernel_initializer=initial["kernel_initializer"],
                dtype=self.policy,
                name="augmentation_embedding",
            )(self._input("augmentation", (self.augmentation_channels,)))
            to_waves.append(augmentation)
        embedding = NoiseLevelEmbedding(
            channels,
            wave_channels,
            order=self.embedding_order,
            frequency_shift=self.frequency_shift,
            fourier_scale=self.fourier_scale if is_fourier else None,
            initialization=self.initialization,
            dtype=self.policy,
            name="noise_level_embedding",
        )
        added = self._sum(to_waves, "wave_conditioning") if to_waves else None
        embedded = embedding(noise_level, added)
        return self._sum([embedded, *to_embedding], "conditioning")

    def _encode(self, hidden, embedding):
        """Goes down; returns the coarsest features and all skips."""
        skips = [hidden]
        pyramid = self.inputs["noisy_images"]
        for level, channels in enumerate(self.channels):
            where = f"encoder_{self.levels[level]}"
            if level > 0:
                arrived = f"encoder_{self.levels[level - 1]}_downsample"
                hidden = self._downsample(hidden, embedding, arrived)
                hidden, pyramid = self._join_encoder_pyramid(
                    hidden, pyramid, f"{where}_pyramid"
                )
                skips.append(hidden)
            for block in range(1, self.num_residual_blocks + 1):
                hidden = self._residual_block(
                    hidden, embedding, f"{where}_block_{block}", channels
                )
                if self.has_attention(level):
                    hidden = self._attention(hidden, where, block)
                skips.append(hidden)
        return hidden, skips

    def _decode(self, hidden, embedding, skips):
        """Comes up; each block first takes back the latest skip.

        The encoder pushed the stem, `num_residual_blocks` per level and one
        downsampling between levels; so each level of the decoder, which has
        one block more, empties the stack exactly.
        """
        last_block = self.num_residual_blocks + 1
        pyramid = None
        for level, channels in reversed(list(enumerate(self.channels))):
            where = f"decoder_{self.levels[level]}"
            for block in range(1, last_block + 1):
                hidden = self._join_skip(
                    hidden, skips.pop(), f"{where}_skip_{block}"
                )
                hidden = self._residual_block(
                    hidden, embedding, f"{where}_block_{block}", channels
                )
                if self._has_decoder_attention(level, block == last_block):
                    hidden = self._attention(hidden, where, block)
            hidden, pyramid = self._join_decoder_pyramid(
                hidden, pyramid, where, channels
            )
            if level > 0:
                hidden = self._upsample(hidden, embedding, f"{where}_upsample")
        if self.decoder_pyramid == "skip":
            return pyramid
        return self._head(hidden, "output")

    def _join_skip(self, hidden, skip, name):
        """Hidden `(h, w, a)` and skip `(h, w, b)`, joined as was asked for.

        Concatenated they have a + b channels, added or without the skip a.
        """
        if self.skip_connections == "none":
            return hidden
        skip = self._scale(skip, self.skip_scale, f"{name}_scale")
        if self.skip_connections == "concatenate":
            return self._concatenate([hidden, skip], name)
        if skip.shape[-1] != hidden.shape[-1]:
            skip = self._conv(hidden.shape[-1], 1, f"{name}_projection")(skip)
        return self._sum([hidden, skip], name)

    def _join_encoder_pyramid(self, hidden, pyramid, name):
        """Lets the image itself in at every level (Song et al., appendix H).

        "skip": the filtered image, by a 1x1 convolution. "residual": the
        image convolved down, which then goes on from the sum.
        """
        if self.encoder_pyramid == "none":
            return hidden, None
        channels = hidden.shape[-1]
        if self.encoder_pyramid == "skip":
            pyramid = FilteredDownsample(
                self.resampling_kernel,
                dtype=self.policy,
                name=f"{name}_downsample",
            )(pyramid)
            projected = self._conv(channels, 1, name)(pyramid)
            return self._sum([hidden, projected], f"{name}_sum"), pyramid
        pyramid = PyramidDownsample(
            channels,
            self.resampling_kernel,
            self.initialization,
            dtype=self.policy,
            name=name,
        )(pyramid)
        hidden = self._sum([hidden, pyramid], f"{name}_sum")
        hidden = self._scale(hidden, self.residual_scale, f"{name}_scale")
        return hidden, hidden

    def _join_decoder_pyramid(self, hidden, pyramid, where, channels):
        """Lets every level contribute to the output (Song et al., appendix H).

        "skip": an image from every level, the sum of which is the output.
        "residual": features convolved up beside the decoder and added.
        """
        name = f"{where}_pyramid"
        if self.decoder_pyramid == "none":
            return hidden, None
        if self.decoder_pyramid == "skip":
            image = self._head(hidden, name)
            if pyramid is None:
                return hidden, image
            pyramid = FilteredUpsample(
                self.resampling_kernel, dtype="float32", name=f"{name}_upsample"
            )(pyramid)
            return hidden, self._sum([pyramid, image], f"{name}_sum", "float32")
        if pyramid is None:
            hidden_norm = self._norm_and_silu(hidden, name)
            return hidden, self._conv(channels, 3, name)(hidden_norm)
        pyramid = Upsample(
            channels,
            kernel=self.resampling_kernel,
            initialization=self.initialization,
            dtype=self.policy,
            name=name,
        )(pyramid)
        hidden = self._sum([hidden, pyramid], f"{name}_sum")
        hidden = self._scale(hidden, self.residual_scale, f"{name}_scale")
        return hidden, hidden
