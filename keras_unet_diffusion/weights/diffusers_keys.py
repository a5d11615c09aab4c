"""The keys of diffusers' `UNet2DModel`: their defaults and types."""

CLASS_NAME = "UNet2DModel"
# What the class takes for a key that is not in the file (release 0.42.1).
DEFAULTS = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ("DownBlock2D", *3 * ("AttnDownBlock2D",)),
    "mid_block_type": "UNetMidBlock2D",
    "up_block_types": (*3 * ("AttnUpBlock2D",), "UpBlock2D"),
    "block_out_channels": (224, 448, 672, 896),
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "dropout": 0.0,
    "act_fn": "silu",
    # Channels per head; null means one head of all channels.
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
    "class_embed_type": None,
    "num_class_embeds": None,
    "num_train_timesteps": None,
}
# A channel, a size, a number of anything: no checkpoint comes near it.
_MOST = 2**31 - 1


def _is_count(value):
    return type(value) is int and 1 <= value <= _MOST


def _is_number(value):
    # Beyond the range of floats there are still whole numbers.
    return type(value) in (int, float) and abs(value) <= _MOST


def _is_list(values, is_right):
    return type(values) in (list, tuple) and all(map(is_right, values))


def _is_text(value):
    return type(value) is str


BOOL = ("true or false", lambda x: type(x) is bool)
TEXT = ("text", _is_text)
OPTIONAL_TEXT = ("text or null", lambda x: x is None or _is_text(x))
TEXTS = ("a list of text", lambda x: bool(x) and _is_list(x, _is_text))
COUNT = ("a whole number from 1", _is_count)
COUNT_FROM_0 = (
    "a whole number from 0",
    lambda x: _is_count(x) or (type(x) is int and x == 0),
)
OPTIONAL_COUNT = (
    "a whole number from 1 or null",
    lambda x: x is None or _is_count(x),
)
COUNTS = (
    "a list of whole numbers from 1",
    lambda x: bool(x) and _is_list(x, _is_count),
)
SIZE = (
    "a whole number from 1, a pair of them or null",
    lambda x: (
        x is None or _is_count(x) or (_is_list(x, _is_count) and len(x) == 2)
    ),
)
NUMBER = ("a number", _is_number)
POSITIVE = ("a number above 0", lambda x: _is_number(x) and x > 0)
RATE = ("a number from 0 to below 1", lambda x: _is_number(x) and 0 <= x < 1)
# Key -> what it must be, in words and as a function.
TYPES = {
    "sample_size": SIZE,
    "in_channels": COUNT,
    "out_channels": COUNT,
    "center_input_sample": BOOL,
    "time_embedding_type": TEXT,
    "time_embedding_dim": OPTIONAL_COUNT,
    "freq_shift": NUMBER,
    "flip_sin_to_cos": BOOL,
    "down_block_types": TEXTS,
    "mid_block_type": OPTIONAL_TEXT,
    "up_block_types": TEXTS,
    "block_out_channels": COUNTS,
    "layers_per_block": COUNT,
    "mid_block_scale_factor": NUMBER,
    "downsample_padding": COUNT_FROM_0,
    "downsample_type": TEXT,
    "upsample_type": TEXT,
    "dropout": RATE,
    "act_fn": TEXT,
    "attention_head_dim": OPTIONAL_COUNT,
    "norm_num_groups": COUNT,
    "attn_norm_num_groups": OPTIONAL_COUNT,
    "norm_eps": POSITIVE,
    "resnet_time_scale_shift": TEXT,
    "add_attention": BOOL,
    "class_embed_type": OPTIONAL_TEXT,
    "num_class_embeds": OPTIONAL_COUNT,
    "num_train_timesteps": OPTIONAL_COUNT,
}


def check_types(config, path):
    """Raises a `ValueError` for values that no network has.

    Args:
        config: dict with every key of `DEFAULTS`.
        path: the checkpoint that it belongs to.
    """
    wrong = [
        f"{key}={_shortened(config[key])} (must be {words})"
        for key, (words, is_right) in TYPES.items()
        if not is_right(config[key])
    ]
    if wrong:
        raise ValueError(
            "The config.json of a diffusers network has values of another "
            f"type than their keys. Received: {'; '.join(wrong)}, beside "
            f"{path}. Correct the config.json or fetch it again."
        )


def _shortened(value):
    """A value as an error shows it, however long it is."""
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "..."
