"""Configs of diffusers' `UNet2DModel`, drawn at random."""

import math

from hypothesis import strategies as st

DOWN = {"conv": "DownBlock2D", "resnet": "ResnetDownsampleBlock2D"}
UP = {"conv": "UpBlock2D", "resnet": "ResnetUpsampleBlock2D"}


@st.composite
def configs(draw):
    """Arguments of `UNet2DModel` that `UNet` can express."""
    groups = draw(st.sampled_from([1, 2, 3, 4, 8]))
    head_channels = draw(st.sampled_from([None, 4, 8, 16]))
    num_levels = draw(st.integers(1, 4))
    # Groups and heads divide the channels, of which there are 8 to 48.
    unit = math.lcm(groups, head_channels or 1)
    counts = st.integers(-(-8 // unit), 48 // unit)
    channels = [unit * draw(counts) for _ in range(num_levels)]
    # Images of 8 to 32 pixels that are halved to 2 or more.
    stride = 2 ** (num_levels - 1)
    size = stride * draw(st.integers(max(2, 8 // stride), 32 // stride))
    attention = draw(st.tuples(*num_levels * [st.booleans()]))
    return {
        "sample_size": draw(st.sampled_from([size, [size, size], None])),
        "in_channels": draw(st.integers(1, 4)),
        "out_channels": draw(st.integers(1, 4)),
        "block_out_channels": channels,
        "layers_per_block": draw(st.integers(1, 2)),
        "dropout": draw(st.sampled_from([0.0, 0.1])),
        "downsample_padding": draw(st.sampled_from([0, 1])),
        "attention_head_dim": head_channels,
        "norm_num_groups": groups,
        "attn_norm_num_groups": draw(st.sampled_from([None, groups])),
        "norm_eps": draw(st.sampled_from([1e-6, 1e-5, 1e-3])),
        "resnet_time_scale_shift": draw(
            st.sampled_from(["default", "scale_shift"])
        ),
        "add_attention": draw(st.booleans()),
        "act_fn": draw(st.sampled_from(["silu", "swish"])),
        "num_class_embeds": draw(st.sampled_from([None, 1, 5])),
        "flip_sin_to_cos": draw(st.booleans()),
        "freq_shift": draw(st.sampled_from([0, 1])),
        "time_embedding_dim": draw(st.sampled_from([None, 24])),
        **_side(draw, "down", DOWN, attention),
        **_side(
            draw,
            "up",
            UP,
            draw(st.sampled_from([attention[::-1], num_levels * (False,)])),
        ),
    }


def _side(draw, side, plain_types, attention):
    """Block types, and how those with attention resample."""
    ways = st.sampled_from(["conv", "resnet"])
    way = draw(ways)
    with_attention = f"Attn{side.capitalize()}Block2D"
    types = [with_attention if x else plain_types[way] for x in attention]
    if not attention[-1]:
        types[-1] = plain_types[draw(ways)]  # It does not resample.
    # Only blocks with attention that resample read it.
    free = not any(attention[:-1])
    # Types of the first releases have a prefix.
    prefix = draw(st.sampled_from(["", "", "UNetRes"]))
    return {
        f"{side}_block_types": [prefix + x for x in types],
        f"{side}sample_type": draw(ways) if free else way,
    }


def impossible_changes(config):
    """Changes of a config that make it one which `UNet` cannot express.

    Args:
        config: dict, of `configs`.

    Returns:
        List of dicts. The refusal must name the first key of each.
    """
    levels = len(config["block_out_channels"])
    last = config["block_out_channels"][-1]
    return [
        {"center_input_sample": True},
        {"time_embedding_type": "fourier"},
        {"time_embedding_type": "learned", "num_train_timesteps": 1000},
        {"mid_block_type": None},
        {"mid_block_scale_factor": 1.4},
        {"downsample_padding": 2},
        {"act_fn": "mish"},
        {"class_embed_type": "identity"},
        {"class_embed_type": "timestep"},
        # Heads that do not make up the channels of the middle.
        {"attention_head_dim": next(x for x in (5, 6, 7) if last % x)}
        | {"add_attention": True},
        # As many groups in the attention of the middle as channels.
        {"attn_norm_num_groups": last, "add_attention": True}
        | {"norm_num_groups": 1},
        # Attention on the way up alone.
        {"up_block_types": levels * ["AttnUpBlock2D"]}
        | {"down_block_types": levels * ["DownBlock2D"]},
        # Down by a convolution and then by a block, with as many channels.
        {"down_block_types": [*DOWN.values(), "DownBlock2D"]}
        | {"up_block_types": 3 * ["UpBlock2D"]}
        | {"block_out_channels": 3 * [last]},
    ]
