"""A U-Net taken apart: every layer that has weights, and where it stands."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Part:
    """A layer with weights and its place in the network.

    Args:
        role: str, what the layer is there for: "noise_dense_1",
            "noise_dense_2", "noise_frequencies", "label", "augmentation",
            "stem", "encoder", "downsample", "encoder_pyramid", "middle",
            "decoder", "upsample", "output_norm" or "output_conv".
        kind: str, what weights it has: "dense", "conv", "norm", "block",
            "attention", "frequencies" or "table".
        layer: the Keras layer.
        level: int, 0 being the finest, or None. Downsampling and upsampling
            stand at the level that they leave, a pyramid at the level where
            it arrives.
        number: int >= 1, of the block (attention: of the block before it) in
            its level, or None.
    """

    role: str
    kind: str
    layer: Any
    level: int | None = None
    number: int | None = None


def network_parts(network):
    """Every layer of a `UNet` that has weights, in the order of its use.

    Args:
        network: a built `UNet`.

    Returns:
        List of `Part`.
    """
    return [
        *_conditioning(network),
        Part("stem", "conv", network.get_layer("stem")),
        *_encoder(network),
        *_middle(network),
        *_decoder(network),
        Part("output_norm", "norm", network.get_layer("output_norm")),
        Part("output_conv", "conv", network.get_layer("output_conv")),
    ]


def attention_heads(attention):
    """Number of heads of a built self-attention layer, int."""
    channels = attention.query.kernel.shape[-1]
    if attention.num_head_channels is None:
        return attention.num_heads
    return channels // attention.num_head_channels


def attention_layers(network):
    """All attention layers of a network, a list."""
    return [x for x in network.layers if hasattr(x, "output_projection")]


def level_channels(network):
    """Channels at each level, a list of int, the finest first."""
    first_blocks = [
        network.get_layer(f"encoder_{where}_block_1")
        for where in network.level_names
    ]
    return [block.channels for block in first_blocks]


def attention_levels(network):
    """Levels of the encoder with self-attention, a list of int."""
    layers = _layers_by_name(network)
    return [
        level
        for level, where in enumerate(network.level_names)
        if f"encoder_{where}_attention_1" in layers
    ]


def _conditioning(network):
    embedding = network.get_layer("noise_level_embedding")
    parts = [
        Part("noise_dense_1", "dense", embedding.dense_1),
        Part("noise_dense_2", "dense", embedding.dense_2),
    ]
    if network.noise_level_embedding == "fourier":
        parts.append(Part("noise_frequencies", "frequencies", embedding.waves))
    if network.num_classes is not None:
        label = network.get_layer("label_embedding")
        parts.append(Part("label", "table", label))
    if network.augmentation_channels is not None:
        augmentation = network.get_layer("augmentation_embedding")
        parts.append(Part("augmentation", "dense", augmentation))
    return parts


def _encoder(network):
    layers = _layers_by_name(network)
    top = len(network.level_names) - 1
    for level, where in enumerate(network.level_names):
        if f"encoder_{where}_pyramid" in layers:
            pyramid = layers[f"encoder_{where}_pyramid"]
            yield Part("encoder_pyramid", "conv", pyramid, level)
        for number in range(1, network.num_residual_blocks + 1):
            yield from _block(layers, "encoder", where, level, number)
        if level < top:
            yield from _resampling(
                layers[f"encoder_{where}_downsample"],
                "downsample",
                network.downsampling,
                level,
            )


def _middle(network):
    block_1, block_2 = map(
        network.get_layer, ("middle_block_1", "middle_block_2")
    )
    yield Part("middle", "block", block_1, number=1)
    if network.middle_attention:
        yield Part("middle", "attention", network.get_layer("middle_attention"))
    yield Part("middle", "block", block_2, number=2)


def _decoder(network):
    layers = _layers_by_name(network)
    for level, where in reversed(list(enumerate(network.level_names))):
        for number in range(1, network.num_residual_blocks + 2):
            yield from _block(layers, "decoder", where, level, number)
        if level > 0:
            yield from _resampling(
                layers[f"decoder_{where}_upsample"],
                "upsample",
                network.upsampling,
                level,
            )


def _block(layers, role, where, level, number):
    block = layers[f"{role}_{where}_block_{number}"]
    yield Part(role, "block", block, level, number)
    attention = layers.get(f"{role}_{where}_attention_{number}")
    if attention is not None:
        yield Part(role, "attention", attention, level, number)


def _resampling(layer, role, how, level):
    if how == "residual_block":
        yield Part(role, "block", layer, level)
    elif layer.weights:
        yield Part(role, "conv", layer.conv, level)


def _layers_by_name(network):
    return {layer.name: layer for layer in network.layers}
