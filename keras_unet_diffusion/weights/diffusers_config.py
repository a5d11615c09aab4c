"""The config.json of diffusers' `UNet2DModel` and our arguments, both ways."""

from keras_unet_diffusion.weights.diffusers_keys import (
    CLASS_NAME,
    DEFAULTS,
    check_types,
)
from keras_unet_diffusion.weights.limits import (
    PLAIN_LIMITS,
    check_limits,
    width_problems,
)
from keras_unet_diffusion.weights.named_shapes import exact_widths, unless
from keras_unet_diffusion.weights.network_parts import (
    attention_heads,
    attention_layers,
    attention_levels,
    level_channels,
)

# Keys of which only some values can be expressed by `UNet`.
POSSIBLE = {
    "center_input_sample": (False,),
    "time_embedding_type": ("positional",),
    "mid_block_type": ("UNetMidBlock2D",),
    "mid_block_scale_factor": (1,),
    "downsample_padding": (0, 1),
    "downsample_type": ("conv", "resnet"),
    "upsample_type": ("conv", "resnet"),
    "act_fn": ("silu", "swish"),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "class_embed_type": (None,),
}
# Stood before block types in 2022; diffusers still takes it.
OLD_PREFIX = "UNetRes"
# Block type -> whether it has attention, and how it resamples: "conv",
# "resnet", or None where downsample_type or upsample_type says so.
DOWN_BLOCKS = {
    "DownBlock2D": (False, "conv"),
    "ResnetDownsampleBlock2D": (False, "resnet"),
    "AttnDownBlock2D": (True, None),
}
UP_BLOCKS = {
    "UpBlock2D": (False, "conv"),
    "ResnetUpsampleBlock2D": (False, "resnet"),
    "AttnUpBlock2D": (True, None),
}
DOWNSAMPLING = {"conv": "strided_conv", "resnet": "residual_block"}
UPSAMPLING = {"conv": "nearest_conv", "resnet": "residual_block"}
LIMITS = PLAIN_LIMITS | {
    "downsampling": ("strided_conv", "residual_block"),
    "downsample_padding": ((0, 1), (1, 1)),
    "upsampling": ("nearest_conv", "residual_block"),
    "decoder_attention": ("all", "none"),
    "label_embedding": ("table",),
    "null_label": (None, "learned"),
    "super_resolution_factor": (None,),
}


def arguments_from_config(config, path):
    """The `UNet` arguments of a diffusers network.

    Args:
        config: dict, contents of its config.json.
        path: the checkpoint that it belongs to, for errors.

    Returns:
        Dict of `UNet` arguments.

    Raises:
        ValueError: a value is not of its key's type, or `UNet` cannot
            express the network; the message names the keys of the config and
            what they say.
    """
    given_class = config.get("_class_name", CLASS_NAME)
    if given_class != CLASS_NAME:
        _refuse([f"_class_name={given_class!r} (must be {CLASS_NAME!r})"])
    config = DEFAULTS | config
    check_types(config, path)
    _refuse(
        f"{key}={config[key]!r} (must be "
        f"{' or '.join(repr(x) for x in possible)})"
        for key, possible in POSSIBLE.items()
        if config[key] not in possible
    )
    channels = config["block_out_channels"]
    size = config["sample_size"]
    if not isinstance(size, int) or size % 2 ** (len(channels) - 1):
        size = None
    image_channels = config["in_channels"]
    base, multipliers = exact_widths(channels)
    embedding_channels = config["time_embedding_dim"] or 4 * channels[0]
    padding = config["downsample_padding"]
    return {
        "image_size": size,
        "image_channels": image_channels,
        "output_channels": unless(config["out_channels"], image_channels),
        "base_channels": base,
        "channel_multipliers": multipliers,
        "num_residual_blocks": config["layers_per_block"],
        "dropout": config["dropout"],
        **_attention(config),
        "num_head_channels": config["attention_head_dim"],
        "scale_shift": config["resnet_time_scale_shift"] == "scale_shift",
        **_resampling(config),
        "downsample_padding": (padding, 1),
        "num_groups": config["norm_num_groups"],
        "epsilon": config["norm_eps"],
        "embedding_order": (
            "cos_sin" if config["flip_sin_to_cos"] else "sin_cos"
        ),
        "frequency_shift": config["freq_shift"],
        "noise_channels": unless(channels[0], base),
        "embedding_channels": unless(embedding_channels, 4 * base),
        "num_classes": config["num_class_embeds"],
        "initialization": "diffusers",
    }


def _refuse(problems):
    problems = list(problems)
    if problems:
        raise ValueError(
            "This diffusers network cannot be expressed by UNet. Received in "
            f"its config: {'; '.join(problems)}. Use another network."
        )


def _blocks(config, key, kinds):
    """What `kinds` says of each block type of a config, a list of pairs."""
    types = [x.removeprefix(OLD_PREFIX) for x in config[key]]
    expected = len(config["block_out_channels"])
    unknown = sorted(set(types) - set(kinds))
    if unknown:
        _refuse([f"{key} with {', '.join(unknown)} (only {', '.join(kinds)})"])
    if len(types) != expected:
        _refuse([f"{len(types)} {key} for {expected} block_out_channels"])
    return [kinds[x] for x in types]


def _attention(config):
    """Where there is self-attention."""
    down = [x for x, _ in _blocks(config, "down_block_types", DOWN_BLOCKS)]
    up = [x for x, _ in _blocks(config, "up_block_types", UP_BLOCKS)][::-1]
    if up != down and any(up):
        _refuse(
            [
                f"down_block_types={list(config['down_block_types'])} and "
                f"up_block_types={list(config['up_block_types'])}, with "
                "attention at different levels"
            ]
        )
    _check_heads(config, down)
    groups = config["attn_norm_num_groups"]
    same_groups = groups in (None, config["norm_num_groups"])
    if config["add_attention"] and not same_groups:
        _refuse(
            [
                f"attn_norm_num_groups={groups} and norm_num_groups="
                f"{config['norm_num_groups']} (must be the same)"
            ]
        )
    default_blocks = config["resnet_time_scale_shift"] == "default"
    return {
        "attention_resolutions": (),
        "attention_levels": tuple(x for x, has in enumerate(down) if has),
        "decoder_attention": "all" if up == down else "none",
        "middle_attention": config["add_attention"],
        "middle_attention_norm": default_blocks or groups is not None,
    }


def _check_heads(config, has_attention):
    """Refuses heads that do not make up the channels between them."""
    channels = config["block_out_channels"]
    levels = zip(channels, has_attention, strict=True)
    attended = [x for x, has in levels if has]
    if config["add_attention"]:
        attended.append(channels[-1])
    head_channels = config["attention_head_dim"]
    if head_channels and any(x % head_channels for x in attended):
        _refuse(
            [
                f"attention_head_dim={head_channels} (must divide the channels "
                f"with attention, {sorted(set(attended))})"
            ]
        )


def _resampling(config):
    """How resolutions change; the coarsest and the last level do not."""
    down = _blocks(config, "down_block_types", DOWN_BLOCKS)[:-1]
    up = _blocks(config, "up_block_types", UP_BLOCKS)[:-1]
    down = {how or config["downsample_type"] for _, how in down}
    up = {how or config["upsample_type"] for _, how in up}
    for kinds, where, types in (
        (down, "down", "downsample_type"),
        (up, "up", "upsample_type"),
    ):
        if len(kinds) > 1:
            key = f"{where}_block_types"
            _refuse(
                [
                    f"{key}={list(config[key])} and {types}="
                    f"{config[types]!r}, which mix both ways of resampling"
                ]
            )
    return {
        "downsampling": DOWNSAMPLING[(down or {"conv"}).pop()],
        "upsampling": UPSAMPLING[(up or {"conv"}).pop()],
    }


def check_network(network, layout_name):
    """Raises a `ValueError` for what `UNet2DModel` cannot express."""
    first = level_channels(network)[0]
    problems = width_problems(network, first, None, first)
    if not (network.middle_attention_norm or network.scale_shift):
        problems.append(
            "middle_attention_norm=False with scale_shift=False (must be True)"
        )
    if len(_head_channels(network)) > 1:
        problems.append(
            f"num_heads={network.num_heads} with heads of different sizes "
            f"{sorted(_head_channels(network))} (num_head_channels must be "
            "given, or num_heads be 1)"
        )
    check_limits(network, layout_name, LIMITS, problems)


def _head_channels(network):
    """Different channels per head, a set: {None} if there is one head."""
    layers = attention_layers(network)
    heads = {attention_heads(layer) for layer in layers}
    if heads <= {1}:
        return {None}
    return {x.query.kernel.shape[-1] // attention_heads(x) for x in layers}


def diffusers_config(network):
    """The config.json with which diffusers builds the same network.

    Args:
        network: `UNet` that `UNet2DModel` can express.

    Returns:
        Dict for a config.json, every key of the class in it.

    Raises:
        ValueError: diffusers cannot express the network.
    """
    check_network(network, "diffusers")
    channels = level_channels(network)
    down, up = _block_types(network)
    has_attention_norm = network.middle_attention_norm and network.scale_shift
    embedding = network.get_layer("noise_level_embedding").dense_1.kernel
    classes = None
    if network.num_classes is not None:
        classes = network.get_layer("label_embedding").table.shape[0]
    resnet = "residual_block"
    return {
        "_class_name": CLASS_NAME,
        **DEFAULTS,
        "sample_size": network.image_size,
        "in_channels": network.image_channels,
        "out_channels": network.output_shape[-1],
        "time_embedding_dim": unless(embedding.shape[-1], 4 * channels[0]),
        "freq_shift": network.frequency_shift,
        "flip_sin_to_cos": network.embedding_order == "cos_sin",
        "down_block_types": down,
        "up_block_types": up,
        "block_out_channels": channels,
        "layers_per_block": network.num_residual_blocks,
        "downsample_padding": network.downsample_padding[0],
        "downsample_type": "resnet"
        if network.downsampling == resnet
        else "conv",
        "upsample_type": "resnet" if network.upsampling == resnet else "conv",
        "dropout": network.dropout,
        "attention_head_dim": _head_channels(network).pop(),
        "norm_num_groups": network.num_groups,
        "attn_norm_num_groups": (
            network.num_groups if has_attention_norm else None
        ),
        "norm_eps": network.epsilon,
        "resnet_time_scale_shift": (
            "scale_shift" if network.scale_shift else "default"
        ),
        "add_attention": network.middle_attention,
        "num_class_embeds": classes,
    }


def _block_types(network):
    """Types of the blocks down and up, two lists of str."""
    with_attention = attention_levels(network)
    plain_down, plain_up = "DownBlock2D", "UpBlock2D"
    if network.downsampling == "residual_block":
        plain_down = "ResnetDownsampleBlock2D"
    if network.upsampling == "residual_block":
        plain_up = "ResnetUpsampleBlock2D"
    down, up = [], []
    for level in range(len(network.channel_multipliers)):
        has = level in with_attention
        down.append("AttnDownBlock2D" if has else plain_down)
        has = has and network.decoder_attention == "all"
        up.append("AttnUpBlock2D" if has else plain_up)
    return down, up[::-1]
