"""What a project's networks cannot be, as tables and exact refusals."""

from keras_unet_diffusion.weights.network_parts import attention_levels

# What no project here has: argument of `UNet` -> the values it may have.
COMMON_LIMITS = {
    "query_key_norm": (False,),
    "skip_connections": ("concatenate",),
    "skip_scale": (1.0,),
    "decoder_pyramid": ("none",),
    "context_channels": (None,),
}
# What further ones have only in part.
PLAIN_LIMITS = COMMON_LIMITS | {
    "encoder_pyramid": ("none",),
    "noise_level_embedding": ("sinusoidal",),
    "augmentation_channels": (None,),
    "min_group_channels": (None,),
    "residual_scale": (1.0,),
    "resampling_kernel": ((1, 1),),
    "resampling_shortcut": ("identity",),
}


def check_limits(network, layout_name, limits, problems=()):
    """Raises a `ValueError` if a network is not one of a project's.

    Args:
        network: `UNet`.
        layout_name: str, what to call the project.
        limits: dict of `UNet` arguments; values are the tuples of values that
            the project's networks may have.
        problems: further reasons, sentences that were found otherwise.
    """
    problems = list(problems)
    for argument, possible in limits.items():
        value = getattr(network, argument)
        if value not in possible and has_effect(argument, network):
            wanted = " or ".join(repr(x) for x in possible)
            problems.append(f"{argument}={value!r} (must be {wanted})")
    if problems:
        raise ValueError(
            f"The {layout_name} layout cannot express this network. Received: "
            f"{'; '.join(problems)}. Choose another layout, or build the "
            "network with these arguments."
        )


def width_problems(network, noise_channels, embedding_channels, stem_channels):
    """Sentences on widths that a project derives and the network has not."""
    noise_dense = network.get_layer("noise_level_embedding").dense_1.kernel
    stem = network.get_layer("stem").kernel
    problems = []
    for argument, value, wanted in (
        ("noise_channels", noise_dense.shape[0], noise_channels),
        ("embedding_channels", noise_dense.shape[1], embedding_channels),
        ("stem_channels", stem.shape[-1], stem_channels),
    ):
        if wanted is not None and value != wanted:
            problems.append(f"{argument}={value} (must be {wanted})")
    return problems


def has_effect(argument, network):
    """Whether an argument has an effect on this network at all, bool."""
    if argument in ("label_embedding", "null_label"):
        return network.num_classes is not None
    if argument == "resampling_shortcut":
        return "residual_block" in (network.downsampling, network.upsampling)
    if argument == "downsample_padding":
        return network.downsampling == "strided_conv"
    if argument == "frequency_shift":
        return network.noise_level_embedding == "sinusoidal"
    if argument == "decoder_attention":
        return bool(attention_levels(network))
    if argument == "middle_attention_norm":
        return network.middle_attention
    return True
