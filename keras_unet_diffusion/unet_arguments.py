"""What the arguments of a U-Net must be to fit together."""

import numbers

CHOICES = {
    "decoder_attention": ("all", "last", "none"),
    "downsampling": ("strided_conv", "average_pool", "residual_block"),
    "upsampling": (
        "nearest_conv",
        "nearest",
        "bilinear_conv",
        "bilinear",
        "transposed_conv",
        "residual_block",
    ),
    "resampling_shortcut": ("identity", "conv"),
    "skip_connections": ("concatenate", "add", "none"),
    "encoder_pyramid": ("none", "skip", "residual"),
    "decoder_pyramid": ("none", "skip", "residual"),
    "noise_level_embedding": ("sinusoidal", "fourier"),
    "label_embedding": ("table", "one_hot"),
    "null_label": (None, "learned", "zero"),
}
_SEQUENCES = {
    "channel_multipliers",
    "attention_resolutions",
    "attention_levels",
    "downsample_padding",
    "resampling_kernel",
}
_AT_LEAST_ONE = (
    "image_channels",
    "base_channels",
    "num_residual_blocks",
    "output_channels",
    "stem_channels",
    "noise_channels",
    "embedding_channels",
    "num_classes",
    "augmentation_channels",
    "super_resolution_factor",
    "context_channels",
    "image_size",
    "num_heads",
    "num_head_channels",
    "num_groups",
    "min_group_channels",
)


def check_arguments(**arguments):
    """Raises a `ValueError` for what no single layer can notice.

    Args:
        **arguments: all of `UNet`'s but dtype and name.
    """
    check_counts(
        **{name: arguments[name] for name in _AT_LEAST_ONE},
        **{"len(channel_multipliers)": len(arguments["channel_multipliers"])},
    )
    for name, choices in CHOICES.items():
        if arguments[name] not in choices:
            raise ValueError(
                f"{name} is one of a few names. Received: {name}="
                f"{arguments[name]!r}. Choose one of "
                f"{', '.join(map(repr, choices))}."
            )
    _check_resampling_kernel(arguments)
    _check_noise_levels(arguments)
    _check_context(arguments)
    if arguments["null_label"] and arguments["num_classes"] is None:
        raise ValueError(
            "A null label is for networks with labels. Received: null_label="
            f"{arguments['null_label']!r} and num_classes=None. Pass "
            "num_classes too, or leave null_label out."
        )
    check_levels(**arguments)
    check_image_size(**arguments)


def with_tuples(arguments):
    """Arguments with every sequence a tuple, as a config keeps lists.

    Raises:
        ValueError: a number where a sequence belongs.
    """
    tuples = {}
    for name in _SEQUENCES & set(arguments):
        value = arguments[name]
        if not isinstance(value, list | tuple):
            raise ValueError(
                f"{name} is a sequence of numbers. Received: {name}={value!r}."
                f" Pass a tuple, such as ({value},)."
            )
        tuples[name] = tuple(value)
    return arguments | tuples


def check_counts(minimum=1, **counts):
    """Raises a `ValueError` for what is no count; None passes.

    Args:
        minimum: int, of every count.
        **counts: values by name.
    """
    for count, value in counts.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            raise ValueError(
                f"{count} must be one whole number. Received: {count}="
                f"{value!r}."
                + (
                    " For oblong images pass image_size=None."
                    if count == "image_size"
                    else " Pass an int."
                )
            )
        if value < minimum:
            raise ValueError(
                f"{count} must be at least {minimum}. Received: {count}="
                f"{value}."
                + (
                    " For a network without labels pass num_classes=None."
                    if count == "num_classes"
                    else " Pass a larger whole number."
                )
            )


def _check_resampling_kernel(arguments):
    uses = (
        arguments["downsampling"] != "strided_conv",
        arguments["upsampling"]
        in ("nearest", "nearest_conv", "residual_block"),
        arguments["encoder_pyramid"] != "none",
        arguments["decoder_pyramid"] != "none",
    )
    if arguments["resampling_kernel"] != (1, 1) and not any(uses):
        raise ValueError(
            "Nothing in this network resamples by a kernel. Received: "
            f"resampling_kernel={arguments['resampling_kernel']}. Leave it "
            "out, or pass downsampling='residual_block' or 'average_pool', "
            "upsampling='residual_block', 'nearest' or 'nearest_conv'."
        )


def _check_noise_levels(arguments):
    waves = arguments["noise_channels"] or arguments["base_channels"]
    shift = arguments["frequency_shift"]
    if not shift < waves // 2:
        raise ValueError(
            "frequency_shift must be below the number of frequencies. "
            f"Received: frequency_shift={shift} for {waves // 2} frequencies. "
            "Pass 0 or 1, or more noise_channels."
        )
    if not arguments["fourier_scale"] > 0:
        raise ValueError(
            "fourier_scale is a standard deviation. Received: fourier_scale="
            f"{arguments['fourier_scale']}. Pass a positive number."
        )


def _check_context(arguments):
    attends = (
        arguments["middle_attention"]
        or arguments["attention_levels"]
        or arguments["attention_resolutions"]
    )
    if arguments["context_channels"] is not None and not attends:
        raise ValueError(
            "Pixels attend to a context where they attend to each other, "
            "which is nowhere here. Received: context_channels="
            f"{arguments['context_channels']} without attention. Pass "
            "middle_attention=True, attention_levels or "
            "attention_resolutions."
        )


def check_levels(
    base_channels, channel_multipliers, attention_levels, **unused
):
    """Raises a `ValueError` for levels without whole channels, or none."""
    num_levels = len(channel_multipliers)
    for multiplier in channel_multipliers:
        channels = base_channels * multiplier
        # A ratio such as 116 / 28 need not be exact in floats.
        if channels < 1 or abs(channels - round(channels)) > 1e-9 * channels:
            raise ValueError(
                "Each level has a whole number of channels. Received: "
                f"base_channels={base_channels} times {multiplier}, which is "
                f"{channels}. Choose another base or multiplier."
            )
    wrong_levels = [x for x in attention_levels if not 0 <= x < num_levels]
    if wrong_levels:
        raise ValueError(
            f"attention_levels must be numbers from 0 to {num_levels - 1}, "
            "one for each channel multiplier. Received: attention_levels="
            f"{attention_levels}. Leave out {wrong_levels}."
        )


def check_image_size(
    image_size,
    channel_multipliers,
    attention_resolutions,
    super_resolution_factor=None,
    **unused,
):
    """Raises a `ValueError` for sizes that cannot be halved so often."""
    if image_size is None:
        if attention_resolutions:
            raise ValueError(
                "attention_resolutions says nothing where image_size is "
                "None. Received: attention_resolutions="
                f"{attention_resolutions}. Pass attention_resolutions=() and "
                "name the levels by attention_levels, 0 being the finest."
            )
        return
    num_levels = len(channel_multipliers)
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
    if super_resolution_factor and image_size % super_resolution_factor:
        raise ValueError(
            "The low-resolution image is smaller by a whole factor. Received: "
            f"super_resolution_factor={super_resolution_factor} for "
            f"image_size={image_size}. Choose a factor that divides the size."
        )
    resolutions = [image_size >> level for level in range(num_levels)]
    wrong = [x for x in attention_resolutions if x not in resolutions]
    if wrong:
        raise ValueError(
            f"An image of {image_size} pixels has feature maps of "
            f"{resolutions} pixels in {num_levels} levels. Received: "
            f"attention_resolutions={attention_resolutions}. Leave out "
            f"{wrong} or choose among those (--attention_resolutions of a "
            "command)."
        )
