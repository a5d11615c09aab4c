"""The U-Net: from a noisy image and a noise level to a prediction."""

import keras

from keras_unet_diffusion.presets import PRESETS
from keras_unet_diffusion.published_network import PublishedNetwork
from keras_unet_diffusion.unet_arguments import check_arguments, with_tuples
from keras_unet_diffusion.unet_graph import UNetGraph
from keras_unet_diffusion.unet_parts import level_names


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class UNet(PublishedNetwork):
    """Predicts, pixel for pixel, from a noisy image and its noise level.

    An encoder of residual blocks goes down through the scales, a middle with
    self-attention sees the whole image, a decoder comes up again, and every
    feature map of the encoder is concatenated into the decoder at its scale,
    so that fine detail is not lost on the way. The noise level is embedded
    and injected into every block. It is a functional Keras model: `summary`,
    `layers` and `get_layer` work as usual, with layers called after where
    they are, such as `encoder_16x16_block_2`.

    Use it as the network of a `DiffusionModel`, or alone. The defaults are the
    original DDPM's; `from_preset` builds every published relative of it, and
    `from_checkpoint` one with published weights.

    Args:
        image_size: int, height and width of the images in pixels, or None for
            any size (also oblong) that the total stride divides. The total
            stride is `2 ** (len(channel_multipliers) - 1)`.
        image_channels: int >= 1. Channels of the images; 1 grey, 3 RGB.
        output_channels: int >= 1. Channels that come out; None for as many
            as the images have, twice as many with learned variances.
        base_channels: int >= 1. Unit of the channels.
        channel_multipliers: one number per level; channels at level `i` are
            `base_channels * channel_multipliers[i]`, a whole number. Each
            further level halves the resolution.
        stem_channels: int >= 1. Channels after the first convolution; None
            for those of the first level.
        num_residual_blocks: int >= 1. Residual blocks per level of the
            encoder; the decoder has one more.
        dropout: float in [0, 1), in every residual block.
        attention_resolutions: heights in pixels of the feature maps that get
            self-attention after each block. Must be empty where `image_size`
            is None: give `attention_levels` then.
        attention_levels: levels (0 is the finest) that get self-attention, in
            addition to `attention_resolutions`.
        decoder_attention: "all", or "last" for the last block of each such
            level of the decoder only (NCSN++), or "none".
        middle_attention: bool. Whether the middle has attention.
        middle_attention_norm: bool. False leaves out its normalisation, as
            some networks of diffusers do.
        num_heads: int >= 1. Attention heads; must divide the channels.
        num_head_channels: int >= 1, or None. Channels of one head; overrides
            `num_heads`.
        query_key_norm: bool, see `SpatialSelfAttention`.
        scale_shift: bool. Whether the embedding scales and shifts the second
            normalisation of a block (ADM) or is added (DDPM).
        downsampling: "strided_conv" (DDPM), "average_pool", or
            "residual_block", which pools inside a block (ADM).
        downsample_padding: `(before, after)` zero pixels of the strided
            convolutions: `(0, 1)` DDPM, `(1, 1)` PyTorch networks.
        upsampling: "nearest_conv" (DDPM), "nearest", "bilinear_conv",
            "bilinear", "transposed_conv", or "residual_block" (ADM).
        resampling_kernel: filter of all resampling that is not learned:
            `(1, 1)` or `(1, 3, 3, 1)`, see `FilteredDownsample`.
        resampling_shortcut: "identity" (ADM) or "conv" (NCSN++), in the
            residual blocks that resample.
        skip_connections: "concatenate"; "add", by a 1x1 convolution where the
            channels differ; or "none".
        skip_scale: float that the skips are multiplied by; sqrt(1/2) is
            Imagen's.
        residual_scale: float, by which every sum with a shortcut is
            multiplied: 1, or sqrt(1/2) (NCSN++).
        encoder_pyramid: "none"; "skip" or "residual" let the image itself in
            at every level (NCSN++).
        decoder_pyramid: "none"; "skip" or "residual" let every level
            contribute to the output (NCSN++).
        num_groups: int >= 1. Groups of each group normalisation; must divide
            the channels of every level.
        min_group_channels: None; or int: narrow layers have fewer groups, so
            that each holds at least that many channels (EDM: 4).
        epsilon: float > 0, of each group normalisation: 1e-6 DDPM, 1e-5 ADM.
        noise_level_embedding: "sinusoidal", or "fourier": random frequencies
            (NCSN++, for logarithms of noise levels).
        embedding_order: "sin_cos" (DDPM) or "cos_sin" (ADM).
        frequency_shift: 1 (DDPM) or 0 (ADM), see `SinusoidalEmbedding`.
        fourier_scale: float > 0, see `FourierEmbedding`.
        noise_channels: int. Sines and cosines; None for `base_channels`.
        embedding_channels: int. Length of the embedding that blocks read;
            None for `4 * base_channels`.
        num_classes: int >= 1 for a network conditioned on labels, or None.
        label_embedding: "table" (ADM: a row is added to the embedding) or
            "one_hot" (EDM: added to the waves), see `LabelEmbedding`.
        null_label: None; or "learned" or "zero": the label `num_classes` then
            means no class.
        augmentation_channels: int or None. Length of the vectors that tell
            how an image was augmented (EDM: 9).
        super_resolution_factor: int or None. The network also sees an image
            that is smaller by this factor, enlarged bilinearly.
        self_conditioning: bool. Whether the network also sees its own last
            estimate of the image (Chen et al. 2022, "Analog Bits").
        context_channels: int or None. Channels of a context sequence that
            pixels attend to wherever they attend to each other.
        initialization: family of initial weights: "ddpm" (Glorot uniform,
            last layers nearly 0), "adm" (PyTorch's, last layers exactly 0),
            "diffusers" (PyTorch's) or "edm" (DDPM++ and NCSN++).
        rematerialize: bool. Whether training stores only what goes between
            blocks and computes the inside again for the gradient: less
            memory for more time (README, "Measured"), the same gradients.
        dtype: dtype policy of all layers, None for the global one. The last
            convolution is always float32.
        name: str, name of the model.
        **kwargs: of `keras.Model`.

    Call arguments:
        inputs: dict of `noisy_images` `(batch, height, width, channels)` with
            pixels around [-1, 1]; `noise_level` `(batch,)` in the units of
            the process (DDPM: 0 to 999; EDM: a quarter of the logarithm); and
            where the network takes them integer `labels` `(batch,)`,
            `augmentation` `(batch, augmentation_channels)`,
            `low_resolution_images` `(batch, height / factor, width / factor,
            channels)`, `previous_estimate` like `noisy_images` and `context`
            `(batch, tokens, context_channels)`.
        training: bool. Whether dropout is active.

    Returns:
        Prediction of shape `(batch, height, width, output_channels)`, float32.

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
        Differences: none from the latter at the defaults. Nichol and Dhariwal
        2021; Dhariwal and Nichol 2021; Song et al. 2021, appendix H; Karras
        et al. 2022, appendix C, by the presets.
    """

    PRESETS = PRESETS

    def __init__(
        self,
        image_size=32,
        image_channels=3,
        output_channels=None,
        base_channels=128,
        channel_multipliers=(1, 2, 2, 2),
        stem_channels=None,
        num_residual_blocks=2,
        dropout=0.0,
        attention_resolutions=(16,),
        attention_levels=(),
        decoder_attention="all",
        middle_attention=True,
        middle_attention_norm=True,
        num_heads=1,
        num_head_channels=None,
        query_key_norm=False,
        scale_shift=False,
        downsampling="strided_conv",
        downsample_padding=(0, 1),
        upsampling="nearest_conv",
        resampling_kernel=(1, 1),
        resampling_shortcut="identity",
        skip_connections="concatenate",
        skip_scale=1.0,
        residual_scale=1.0,
        encoder_pyramid="none",
        decoder_pyramid="none",
        num_groups=32,
        min_group_channels=None,
        epsilon=1e-6,
        noise_level_embedding="sinusoidal",
        embedding_order="sin_cos",
        frequency_shift=1,
        fourier_scale=16.0,
        noise_channels=None,
        embedding_channels=None,
        num_classes=None,
        label_embedding="table",
        null_label=None,
        augmentation_channels=None,
        super_resolution_factor=None,
        self_conditioning=False,
        context_channels=None,
        initialization="ddpm",
        rematerialize=False,
        dtype=None,
        name="unet",
        **kwargs,
    ):
        arguments = with_tuples(
            {
                "image_size": image_size,
                "image_channels": image_channels,
                "output_channels": output_channels,
                "base_channels": base_channels,
                "channel_multipliers": channel_multipliers,
                "stem_channels": stem_channels,
                "num_residual_blocks": num_residual_blocks,
                "dropout": dropout,
                "attention_resolutions": attention_resolutions,
                "attention_levels": attention_levels,
                "decoder_attention": decoder_attention,
                "middle_attention": middle_attention,
                "middle_attention_norm": middle_attention_norm,
                "num_heads": num_heads,
                "num_head_channels": num_head_channels,
                "query_key_norm": query_key_norm,
                "scale_shift": scale_shift,
                "downsampling": downsampling,
                "downsample_padding": downsample_padding,
                "upsampling": upsampling,
                "resampling_kernel": resampling_kernel,
                "resampling_shortcut": resampling_shortcut,
                "skip_connections": skip_connections,
                "skip_scale": skip_scale,
                "residual_scale": residual_scale,
                "encoder_pyramid": encoder_pyramid,
                "decoder_pyramid": decoder_pyramid,
                "num_groups": num_groups,
                "min_group_channels": min_group_channels,
                "epsilon": epsilon,
                "noise_level_embedding": noise_level_embedding,
                "embedding_order": embedding_order,
                "frequency_shift": frequency_shift,
                "fourier_scale": fourier_scale,
                "noise_channels": noise_channels,
                "embedding_channels": embedding_channels,
                "num_classes": num_classes,
                "label_embedding": label_embedding,
                "null_label": null_label,
                "augmentation_channels": augmentation_channels,
                "super_resolution_factor": super_resolution_factor,
                "self_conditioning": self_conditioning,
                "context_channels": context_channels,
                "initialization": initialization,
                "rematerialize": rematerialize,
            }
        )
        check_arguments(**arguments)
        policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        graph = UNetGraph(policy, **arguments).build()
        super().__init__(graph, arguments, policy, name=name, **kwargs)

    @property
    def level_names(self):
        """What layers of each level are called after, a tuple of str: such
        as "16x16", or "level_1" for a network of any size."""
        return level_names(self.image_size, len(self.channel_multipliers))
