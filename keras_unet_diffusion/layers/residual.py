"""The residual block, into which the noise level is injected."""

import keras
from keras import ops

from keras_unet_diffusion.layers.dropping import drop
from keras_unet_diffusion.layers.filtering import (
    BOX,
    FilteredDownsample,
    FilteredUpsample,
)
from keras_unet_diffusion.layers.initialization import (
    check_family,
    initializers,
)
from keras_unet_diffusion.layers.normalization import (
    GroupNormalization,
    ModulatedGroupNormalization,
)
from keras_unet_diffusion.replicas import num_replicas, replica_number

# From the seed of one replica to that of the next: any odd number.
_NEXT_REPLICA = 0x9E3779B1


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class ResidualBlock(keras.layers.Layer):
    """Two convolutions around an injected embedding, plus a shortcut.

    Normalise, SiLU, [resample,] convolve; inject the embedding; normalise,
    SiLU, dropout, convolve; add the input, which is resampled too. The second
    convolution starts at zero or nearly so, so that a new block is its own
    shortcut. The shortcut is a 1x1 convolution where the channels change.

    Args:
        channels: int >= 1. Channels that come out.
        dropout: float in [0, 1). Share of features dropped in training.
        scale_shift: bool. False adds the embedding to the features; True
            scales and shifts the second normalisation by it.
        resampling: None, or "down" or "up" to halve or double the image
            inside the block.
        resampling_kernel: the kernel of `FilteredDownsample` and
            `FilteredUpsample`.
        resampling_shortcut: "identity" or "conv". Whether a block that
            resamples has a 1x1 convolution in its shortcut even where the
            channels stay the same.
        num_groups: int >= 1 that divides the channels before and after.
        epsilon: float > 0, for the normalisations.
        min_group_channels: see `GroupNormalization`.
        residual_scale: float, by which the sum with the shortcut is
            multiplied: 1 DDPM and ADM, sqrt(1/2) EDM's DDPM++ and NCSN++.
        initialization: family of initial weights, see `UNet`.
        rematerialize: bool. Whether training computes the block twice instead
            of storing what happens inside, see `UNet`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: images of shape `(batch, height, width, in_channels)`.
        embedding: vectors of shape `(batch, embedding_channels)`.
        training: bool. Whether dropout is active, and the block
            rematerialized.

    Returns:
        Images of shape `(batch, height, width, channels)`, half or twice as
        high and wide with `resampling`.

    Raises:
        ValueError: the groups do not divide the channels, `dropout` is
            outside [0, 1), or a name is unknown.

    Example:

    ```python
    block = ResidualBlock(128)
    block(np.ones((2, 32, 32, 64)), np.ones((2, 512))).shape
    ```

    Reference:
        Ho et al. 2020, appendix B (additive); Dhariwal and Nichol 2021,
        section 3.1 (scale and shift, resampling); Song et al. 2021, appendix
        H (residual scale). Differences: none.
    """

    def __init__(
        self,
        channels,
        dropout=0.0,
        scale_shift=False,
        resampling=None,
        resampling_kernel=BOX,
        resampling_shortcut="identity",
        num_groups=32,
        epsilon=1e-6,
        min_group_channels=None,
        residual_scale=1.0,
        initialization="ddpm",
        rematerialize=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not 0 <= dropout < 1:
            raise ValueError(
                "dropout is the share of features that is dropped. Received: "
                f"dropout={dropout}. Pass a number from 0 up to, not "
                "including, 1."
            )
        if resampling not in (None, "down", "up"):
            raise ValueError(
                "A residual block resamples down, up, or not. Received: "
                f"resampling={resampling!r}. Pass 'down', 'up' or None."
            )
        if resampling_shortcut not in ("identity", "conv"):
            raise ValueError(
                "There is no such shortcut. Received: resampling_shortcut="
                f"{resampling_shortcut!r}. Pass 'identity' or 'conv'."
            )
        check_family(initialization)
        self.channels = channels
        self.dropout = dropout
        self.scale_shift = scale_shift
        self.resampling = resampling
        self.resampling_kernel = tuple(resampling_kernel)
        self.resampling_shortcut = resampling_shortcut
        self.num_groups = num_groups
        self.epsilon = epsilon
        self.min_group_channels = min_group_channels
        self.residual_scale = residual_scale
        self.initialization = initialization
        self.rematerialize = rematerialize
        self._seeds = keras.random.SeedGenerator() if dropout else None

    def build(self, inputs_shape, embedding_shape):
        in_channels = inputs_shape[-1]
        hidden_shape = (*inputs_shape[:-1], self.channels)
        dtype = self.dtype_policy
        norm = {
            "num_groups": self.num_groups,
            "epsilon": self.epsilon,
            "min_group_channels": self.min_group_channels,
            "dtype": dtype,
        }
        self.norm_1 = GroupNormalization(name="norm_1", **norm)
        self.norm_1.build(inputs_shape)
        self.resample = self._resampler()
        self.conv_1 = self._conv("conv_1", 3, inputs_shape)
        if self.scale_shift:
            self.norm_2 = ModulatedGroupNormalization(
                name="norm_2", initialization=self.initialization, **norm
            )
            self.norm_2.build(hidden_shape, embedding_shape)
        else:
            self.injection = keras.layers.Dense(
                self.channels,
                dtype=dtype,
                name="injection",
                **initializers(self.initialization, embedding_shape[-1]),
            )
            self.injection.build(embedding_shape)
            self.norm_2 = GroupNormalization(name="norm_2", **norm)
            self.norm_2.build(hidden_shape)
        self.conv_2 = self._conv("conv_2", 3, hidden_shape, "last")
        self.shortcut = None
        resampled = self.resampling and self.resampling_shortcut == "conv"
        if in_channels != self.channels or resampled:
            self.shortcut = self._conv("shortcut", 1, inputs_shape)

    def _resampler(self):
        if self.resampling is None:
            return keras.layers.Identity(dtype=self.dtype_policy)
        resampler = {"down": FilteredDownsample, "up": FilteredUpsample}
        return resampler[self.resampling](
            self.resampling_kernel, dtype=self.dtype_policy, name="resample"
        )

    def _conv(self, name, size, input_shape, role="hidden"):
        fan_in = size * size * input_shape[-1]
        conv = keras.layers.Conv2D(
            self.channels,
            size,
            padding="same",
            dtype=self.dtype_policy,
            name=name,
            **initializers(self.initialization, fan_in, role),
        )
        conv.build(input_shape)
        return conv

    def call(self, inputs, embedding, training=False):
        # Drawn here, not inside: computed twice, the block would otherwise
        # drop other features in the backward pass.
        seed = self._seed() if training and self.dropout else None

        def transform(inputs, embedding):
            return self._transform(inputs, embedding, seed)

        if training and self.rematerialize:
            transform = keras.remat(transform)
        return transform(inputs, embedding)

    def _seed(self):
        seed = self._seeds.next()
        if num_replicas() == 1:
            return seed
        # All replicas have the same state: each is to drop others.
        number = ops.cast(replica_number(), seed.dtype)
        return seed + ops.stack([number * _NEXT_REPLICA, 0 * number])

    def _transform(self, inputs, embedding, seed):
        embedding = ops.silu(embedding)
        hidden = self.resample(ops.silu(self.norm_1(inputs)))
        # What the convolution adds to each channel is left to the
        # normalization: it needs no pass over the image for it.
        kernel, bias = (
            ops.cast(weight, self.compute_dtype)
            for weight in (self.conv_1.kernel, self.conv_1.bias)
        )
        hidden = self.conv_1.convolution_op(hidden, kernel)
        if self.scale_shift:
            hidden = self.norm_2(hidden, embedding, offset=bias)
        else:
            offset = self.injection(embedding) + bias
            hidden = self.norm_2(hidden, offset=offset)
        hidden = ops.silu(hidden)
        if seed is not None:
            hidden = drop(hidden, self.dropout, seed)
        hidden = self.conv_2(hidden)
        shortcut = self.resample(inputs)
        if self.shortcut is not None:
            shortcut = self.shortcut(shortcut)
        return (shortcut + hidden) * self.residual_scale

    def compute_output_shape(self, inputs_shape, embedding_shape):
        shape = self._resampler().compute_output_shape(inputs_shape)
        return (*shape[:-1], self.channels)

    def get_config(self):
        return super().get_config() | {
            "channels": self.channels,
            "dropout": self.dropout,
            "scale_shift": self.scale_shift,
            "resampling": self.resampling,
            "resampling_kernel": self.resampling_kernel,
            "resampling_shortcut": self.resampling_shortcut,
            "num_groups": self.num_groups,
            "epsilon": self.epsilon,
            "min_group_channels": self.min_group_channels,
            "residual_scale": self.residual_scale,
            "initialization": self.initialization,
            "rematerialize": self.rematerialize,
        }
