"""Whether a network is the one that the config.json of diffusers describes."""

from keras_unet_diffusion.weights.diffusers_config import arguments_from_config
from keras_unet_diffusion.weights.limits import has_effect
from keras_unet_diffusion.weights.network_parts import (
    attention_heads,
    attention_layers,
    attention_levels,
    level_channels,
)

# Arguments of which the values themselves are compared. What remains follows
# from others, or has one value in all networks that diffusers can express.
PLAIN = (
    "image_channels",
    "num_residual_blocks",
    "decoder_attention",
    "middle_attention",
    "middle_attention_norm",
    "scale_shift",
    "num_groups",
    "epsilon",
    "embedding_order",
    "frequency_shift",
)
# And those that say nothing where there is one level only.
BETWEEN_LEVELS = ("downsampling", "downsample_padding", "upsampling")


def compare_config(network, config, path):
    """Raises a `ValueError` if a network would not predict as the config says.

    What has no effect on predictions is not compared: `dropout`,
    `image_size`, initial weights, and how a number of heads was expressed.

    Args:
        network: `UNet` that diffusers can express.
        config: dict, contents of a config.json.
        path: the checkpoint that it belongs to.
    """
    wanted = arguments_from_config(config, path)
    differing = [
        f"{name}={ours!r} ({theirs!r} in the config)"
        for name, ours, theirs in _compared(network, wanted)
        if ours != theirs
    ]
    if differing:
        raise ValueError(
            "The config.json beside the checkpoint is of another network, "
            "though all shapes agree. Received a network with "
            f"{'; '.join(differing)}, and {path}. Build the network by the "
            "arguments that infer_arguments finds in the checkpoint."
        )


def _compared(network, wanted):
    """Arguments with their values in the network and in the config."""
    base = wanted["base_channels"]
    channels = [round(base * x) for x in wanted["channel_multipliers"]]
    yield "channels of the levels", level_channels(network), channels
    outputs = wanted["output_channels"] or wanted["image_channels"]
    yield "output_channels", network.output_shape[-1], outputs
    embedding = network.get_layer("noise_level_embedding").dense_1.kernel
    wanted_embedding = wanted["embedding_channels"] or 4 * base
    yield "embedding_channels", embedding.shape[-1], wanted_embedding
    classes = None
    if network.num_classes is not None:
        # One more with a learned null label.
        classes = network.get_layer("label_embedding").table.shape[0]
    yield "num_classes", classes, wanted["num_classes"]
    levels = tuple(attention_levels(network))
    yield "attention_levels", levels, wanted["attention_levels"]
    yield _heads(network, wanted["num_head_channels"])
    resamples = len(network.channel_multipliers) > 1
    for name in PLAIN + (BETWEEN_LEVELS if resamples else ()):
        if has_effect(name, network):
            yield name, getattr(network, name), wanted[name]


def _heads(network, head_channels):
    """Numbers of heads by the channels that they share."""
    ours, theirs = {}, {}
    for layer in attention_layers(network):
        channels = layer.query.kernel.shape[-1]
        ours[channels] = attention_heads(layer)
        theirs[channels] = channels // (head_channels or channels)
    name = "num_heads or num_head_channels, as heads by channels,"
    return name, dict(sorted(ours.items())), dict(sorted(theirs.items()))
