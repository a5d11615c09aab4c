"""Checkpoints of OpenAI's guided-diffusion and improved-diffusion."""

from keras_unet_diffusion.weights.limits import (
    PLAIN_LIMITS,
    check_limits,
    width_problems,
)
from keras_unet_diffusion.weights.named_shapes import multiplier, unless
from keras_unet_diffusion.weights.network_parts import (
    attention_heads,
    attention_layers,
    attention_levels,
    level_channels,
)
from keras_unet_diffusion.weights.unet_layout import UNetLayout

# Downsampling and upsampling that go together.
RESAMPLING = {
    "strided_conv": "nearest_conv",
    "residual_block": "residual_block",
    "average_pool": "nearest",
}
LIMITS = PLAIN_LIMITS | {
    "downsampling": tuple(RESAMPLING),
    "downsample_padding": ((1, 1),),
    "num_groups": (32,),
    "epsilon": (1e-5,),
    "embedding_order": ("cos_sin",),
    "frequency_shift": (0,),
    "decoder_attention": ("all",),
    "middle_attention": (True,),
    "middle_attention_norm": (True,),
    "label_embedding": ("table",),
    "null_label": (None, "learned"),
}


class GuidedDiffusionLayout(UNetLayout):
    """guided-diffusion (ADM) and improved-diffusion (IDDPM), also upsamplers.

    One running number counts the blocks of the encoder (0 is the stem) and
    another those of the decoder; whatever belongs to one block has a second
    number. Query, key and value are fused, in one of two row orders that
    nothing in a file tells apart: "new" where the network was made with
    `use_new_attention_order` (ADM 64x64), else "legacy".

    Reference:
        github.com/openai/guided-diffusion; Dhariwal and Nichol 2021.
    """

    name = "guided_diffusion"
    landmarks = ("time_embed.0.weight", "input_blocks.0.0.weight")
    block_names = {
        "norm_1": "in_layers.0",
        "conv_1": "in_layers.2",
        "injection": "emb_layers.1",
        "norm_2": "out_layers.0",
        "conv_2": "out_layers.3",
        "shortcut": "skip_connection",
    }
    attention_names = {"norm": "norm", "qkv": "qkv", "output": "proj_out"}
    qkv_dimensions = 3
    written_qkv_order = "new"

    def place(self, part, network):
        per_level = network.num_residual_blocks + 1
        # The decoder counts from the coarsest level.
        above = len(network.channel_multipliers) - 1 - (part.level or 0)
        attention = 1 if part.kind == "attention" else 0
        if part.role == "encoder":
            index = part.level * per_level + part.number
            return f"input_blocks.{index}.{attention}"
        if part.role == "downsample":
            index = (part.level + 1) * per_level
            inner = ".op" if part.kind == "conv" else ""
            return f"input_blocks.{index}.0{inner}"
        if part.role == "middle":
            index = 1 if attention else 2 * part.number - 2
            return f"middle_block.{index}"
        if part.role == "decoder":
            index = above * per_level + part.number - 1
            return f"output_blocks.{index}.{attention}"
        if part.role == "upsample":
            index = above * per_level + per_level - 1
            after = 2 if part.level in attention_levels(network) else 1
            inner = ".conv" if part.kind == "conv" else ""
            return f"output_blocks.{index}.{after}{inner}"
        return {
            "noise_dense_1": "time_embed.0",
            "noise_dense_2": "time_embed.2",
            "label": "label_emb",
            "stem": "input_blocks.0.0",
            "output_norm": "out.0",
            "output_conv": "out.2",
        }[part.role]

    def check(self, network):
        limits = dict(LIMITS)
        limits["upsampling"] = (RESAMPLING.get(network.downsampling),)
        base = network.base_channels
        check_limits(
            network,
            self.name,
            limits,
            width_problems(network, base, 4 * base, level_channels(network)[0]),
        )

    def checked_qkv_order(self, network, qkv_order):
        heads = {attention_heads(x) for x in attention_layers(network)}
        if qkv_order is None and heads <= {1}:
            return "new"  # With one head both orders are the same.
        if qkv_order not in ("legacy", "new"):
            raise ValueError(
                "The order of the rows of query, key and value is not in a "
                f"checkpoint of this layout. Received: qkv_order={qkv_order!r}."
                " Pass 'new' if the network was made with "
                "use_new_attention_order (ADM 64x64), else 'legacy'."
            )
        return qkv_order

    def arguments(self, checkpoint, qkv_order=None, **given):
        shapes = self.named_shapes(checkpoint)
        found = _levels(shapes) | {
            "image_size": None,
            "attention_resolutions": (),
            "downsample_padding": (1, 1),
            "epsilon": 1e-5,
            "embedding_order": "cos_sin",
            "frequency_shift": 0,
            "initialization": "adm",
        }
        if "label_emb.weight" in shapes:
            found["num_classes"] = shapes.of("label_emb.weight", 2)[0]
        unknown = _heads_problems(shapes, qkv_order, given)
        images, image_problems = _images(shapes, given)
        unknown += image_problems
        if unknown:
            raise ValueError(
                "These facts about the network are not in a checkpoint of "
                f"this layout. Received: none of {'; '.join(unknown)}. Pass "
                "them as keywords; they are among the flags that the network "
                "was made with."
            )
        return found | images | given


def guided_arguments(network, qkv_order="new"):
    """Arguments that build a network in guided-diffusion.

    Args:
        network: `UNet` that the layout can express.
        qkv_order: str, the order that its weights were written in.

    Returns:
        Dict of the arguments of guided-diffusion's `UNetModel`, or, where
        `super_resolution_factor` is not None, of its `SuperResModel`.
    """
    layout = GuidedDiffusionLayout()
    layout.check(network)
    layout.checked_qkv_order(network, qkv_order)
    embedding = (
        network.get_layer("label_embedding").table
        if (network.num_classes is not None)
        else None
    )
    return {
        "image_size": network.image_size,
        "in_channels": network.image_channels,
        "model_channels": network.base_channels,
        "out_channels": network.output_shape[-1],
        "num_res_blocks": network.num_residual_blocks,
        # Factors by which the image is smaller there, not sizes in pixels.
        "attention_resolutions": [2**x for x in attention_levels(network)],
        "dropout": network.dropout,
        "channel_mult": list(network.channel_multipliers),
        "conv_resample": network.downsampling != "average_pool",
        "num_classes": None if embedding is None else embedding.shape[0],
        "num_heads": network.num_heads,
        "num_head_channels": network.num_head_channels or -1,
        "use_scale_shift_norm": network.scale_shift,
        "resblock_updown": network.downsampling == "residual_block",
        "use_new_attention_order": qkv_order == "new",
    }


def _levels(shapes):
    """What the names of the blocks say: levels, blocks, attention."""
    encoder = shapes.numbers(r"input_blocks\.(\d+)\..*")
    in_blocks = r"output_blocks\.(\d+)\.[12]\."
    convs = shapes.numbers(in_blocks + r"conv\.weight")
    blocks = shapes.numbers(in_blocks + r"in_layers\.0\.weight")
    num_entries = encoder[-1] + 1
    # Average pooling has no weights: gaps in the numbers are all one sees.
    num_gaps = num_entries - len(encoder)
    num_levels = 1 + (len(convs) or len(blocks) or num_gaps)
    if num_entries % num_levels:
        raise ValueError(
            "The numbers of the blocks do not add up to levels of one length. "
            f"Received: {num_entries} input_blocks and {num_levels} levels. "
            "Check that the file is whole."
        )
    per_level = num_entries // num_levels
    first_blocks = [1 + level * per_level for level in range(num_levels)]
    base = shapes.of("time_embed.0.weight", 2)[1]
    embedding_channels = shapes.of("time_embed.0.weight", 2)[0]
    channels = [
        shapes.of(f"input_blocks.{block}.0.out_layers.0.weight", 1)[0]
        for block in first_blocks
    ]
    injection = shapes.of("input_blocks.1.0.emb_layers.1.weight", 2)
    downsampling = "average_pool" if num_gaps else "strided_conv"
    if blocks:
        downsampling = "residual_block"
    return {
        "base_channels": base,
        "embedding_channels": unless(embedding_channels, 4 * base),
        "channel_multipliers": tuple(multiplier(x, base) for x in channels),
        "num_residual_blocks": per_level - 1,
        "attention_levels": tuple(
            level
            for level, block in enumerate(first_blocks)
            if f"input_blocks.{block}.1.qkv.weight" in shapes
        ),
        "scale_shift": injection[0] == 2 * channels[0],
        "downsampling": downsampling,
        "upsampling": RESAMPLING[downsampling],
    }


def _images(shapes, given):
    """Channels in and out, and what is not certain about them."""
    channels_in = shapes.of("input_blocks.0.0.weight", 4)[1]
    channels_out = shapes.of("out.2.weight", 4)[0]
    problems = []
    image_channels = given.get("image_channels")
    if image_channels is None:
        if given.get("super_resolution_factor"):
            image_channels = channels_in // 2
        else:
            image_channels = channels_in
    # Twice the channels may be an image and the low-resolution one.
    upsampler = channels_in == 2 * channels_out or (
        channels_in == channels_out and channels_in in (2, 6)
    )
    if upsampler and not {"super_resolution_factor", "image_channels"} & set(
        given
    ):
        problems.append(
            "super_resolution_factor (4 for 64 to 256 pixels; None if images "
            f"really have {channels_in} channels)"
        )
    found = {
        "image_channels": image_channels,
        "output_channels": unless(channels_out, image_channels),
    }
    return found, problems


def _heads_problems(shapes, qkv_order, given):
    """What is not known about the heads of attention."""
    channels = [
        shapes.of(match.string, 3)[0] // 3
        for match in shapes.matching(r".*\.qkv\.weight")
    ]
    num_heads = given.get("num_heads")
    num_head_channels = given.get("num_head_channels")
    problems = []
    if num_heads is None and num_head_channels is None:
        problems.append("num_heads or num_head_channels")
    if num_head_channels is not None:
        one_head = set(channels) <= {num_head_channels}
    else:
        one_head = num_heads == 1
    if qkv_order is None and not one_head:
        problems.append(
            "qkv_order ('new' if made with use_new_attention_order, as ADM "
            "64x64 was, else 'legacy')"
        )
    return problems
