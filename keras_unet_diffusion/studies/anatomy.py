"""What a network is made of: each block with its place, size and cost."""

import dataclasses
import inspect
import math
from pathlib import Path

import keras

from keras_unet_diffusion import layers
from keras_unet_diffusion.flops import count_layer_flops
from keras_unet_diffusion.layer_shapes import layer_shapes
from keras_unet_diffusion.studies.receptive_field import (
    theoretical_receptive_field,
)

_ROOT = Path(__file__).parents[2]
_BYTES_OF_FLOAT32 = 4
_EMBEDDINGS = (
    layers.LabelEmbedding,
    layers.MagnitudePreservingEmbedding,
    layers.NoiseLevelEmbedding,
    keras.layers.Dense,
)
_RESIDUAL_BLOCKS = (
    layers.MagnitudePreservingDecoderBlock,
    layers.MagnitudePreservingEncoderBlock,
    layers.ResidualBlock,
)
_NORMALIZATIONS = (
    layers.GroupNormalization,
    layers.ModulatedGroupNormalization,
)
_SKIPS = (
    keras.layers.Add,
    keras.layers.Concatenate,
    layers.MagnitudePreservingConcatenate,
)
_CONVOLUTIONS = (keras.layers.Conv2D, layers.MagnitudePreservingConv2D)


@dataclasses.dataclass(frozen=True)
class Block:
    """One part of a network, as `describe` lists them.

    Args:
        name: str, name of the Keras layer.
        kind: str: "stem", "residual block", "self-attention",
            "cross-attention", "downsampling", "upsampling", "skip" (where a
            skip connection arrives), "pyramid", "normalization",
            "convolution", "embedding" or "output".
        part: str: "conditioning", "encoder", "middle", "decoder", or "stack"
            in a network without scales.
        level: int, 0 for the finest scale; None for vectors.
        inputs: names of the blocks and network inputs that it reads.
        height: int, of its output in pixels; None for vectors.
        width: likewise.
        channels: int, of its output.
        parameters: int, weights and biases.
        flops: int, operations for one image, forward; see `count_flops`.
        activation_bytes: int, its output for one image in float32.
        receptive_field: int, pixels along an axis of the image that a pixel
            of its output can see through convolutions and resampling; None
            for what does not see it. It may exceed the image.
        sees_whole_image: bool, whether attention lies on the way.
        conditioning: what else than images enters it, such as
            `("noise_level", "labels")`: names of the network's inputs.
        skip_to: str, the block of kind "skip" that reads its output later, or
            None.
        source: `(path, line)` of its class, in this library's repository; for
            layers of Keras `("keras", class name)`.
    """

    name: str
    kind: str
    part: str
    level: int | None
    inputs: tuple
    height: int | None
    width: int | None
    channels: int
    parameters: int
    flops: int
    activation_bytes: int
    receptive_field: int | None
    sees_whole_image: bool
    conditioning: tuple
    skip_to: str | None
    source: tuple


def describe(network, image_size=None, context_tokens=None):
    """Lists the blocks of a network in the order of computation.

    Layers that only pass features on, such as activations and sums, are no
    blocks of their own: what reads them reads what went into them.

    Args:
        network: any network of this library.
        image_size: int, height and width in pixels; only for a network of any
            size.
        context_tokens: int, length of the context; only for a network with
            context.

    Returns:
        tuple of `Block`.

    Raises:
        ValueError: a size is missing, or a layer is of a class that is not
            known to `count_flops` or `theoretical_receptive_field`.

    Example:

    ```python
    for block in describe(UNet.from_preset("tiny")):
        print(block.name, block.kind, block.receptive_field)
    ```
    """
    flops = {}
    for part in count_layer_flops(network, image_size, context_tokens):
        flops[part.layer] = flops.get(part.layer, 0) + part.flops
    shapes = layer_shapes(network, image_size, context_tokens)
    outputs = {layer.name: shape for layer, _, shape in shapes if _kind(layer)}
    # The prediction is as high as the image.
    height = shapes[-1][-1][1]
    skip_to = {}
    for layer, _, _ in shapes:
        if _kind(layer) == "skip":
            skip_to[_maker(_inputs_of(layer)[1], through_weights=True)] = (
                layer.name
            )
    return tuple(
        _block(network, layer, outputs[layer.name], height, flops, skip_to)
        for layer, _, _ in shapes
        if layer.name in outputs
    )


def table(blocks):
    """The blocks as a table in Markdown, with totals.

    Args:
        blocks: what `describe` returns.

    Returns:
        str, lines of Markdown.

    Example:

    ```python
    print(table(describe(UNet.from_preset("ddpm_cifar10"))))
    ```
    """
    lines = [
        "| block | kind | output | parameters | MFLOP | activations, KiB "
        "| receptive field | skip to |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for block in blocks:
        sizes = (block.height, block.width, block.channels)
        shape = " x ".join(str(size) for size in sizes if size is not None)
        seen = "" if block.receptive_field is None else block.receptive_field
        if block.sees_whole_image:
            seen = f"{seen}; all by attention"
        lines.append(
            f"| {block.name} | {block.kind} | {shape} | {block.parameters:,} "
            f"| {block.flops / 1e6:,.1f} "
            f"| {block.activation_bytes / 1024:,.0f} | {seen} "
            f"| {block.skip_to or ''} |"
        )
    totals = [
        sum(getattr(block, name) for block in blocks)
        for name in ("parameters", "flops", "activation_bytes")
    ]
    lines.append(
        f"| total | | | {totals[0]:,} | {totals[1] / 1e6:,.1f} "
        f"| {totals[2] / 1024:,.0f} | | |"
    )
    return "\n".join(lines)


def _block(network, layer, shape, height, flops, skip_to):
    is_image = len(shape) == 4
    parents = _inputs_of(layer)
    attention = is_image and _has_attention(layer.output)
    return Block(
        name=layer.name,
        kind=_kind(layer),
        part=_part(layer, is_image),
        level=round(math.log2(height / shape[1])) if is_image else None,
        inputs=tuple(_maker(x) for x in parents if len(x.shape) == 4)
        or tuple(_maker(x) for x in parents),
        height=shape[1] if is_image else None,
        width=shape[2] if is_image else None,
        channels=shape[-1],
        parameters=layer.count_params(),
        flops=flops.get(layer.name, 0),
        activation_bytes=math.prod(shape) * _BYTES_OF_FLOAT32,
        receptive_field=(
            theoretical_receptive_field(network, layer.name)
            if is_image and "noisy_images" in _network_inputs(layer.output)
            else None
        ),
        sees_whole_image=attention,
        conditioning=_conditioning(parents) if is_image else (),
        skip_to=skip_to.get(layer.name),
        source=_source(type(layer)),
    )


def _kind(layer):
    """What a layer is called in the field, None for what only passes on."""
    name = layer.name
    if isinstance(layer, keras.layers.InputLayer):
        return None
    if "_skip_" in name and isinstance(layer, _SKIPS):
        return "skip"
    if "_pyramid" in name and layer.weights:
        return "pyramid"
    if name.endswith("_downsample") and "_pyramid" not in name:
        return "downsampling"
    if name.endswith("_upsample") and "_pyramid" not in name:
        return "upsampling"
    if name == "stem":
        return "stem"
    if name == "output_conv":
        return "output"
    if isinstance(layer, _RESIDUAL_BLOCKS):
        return "residual block"
    if isinstance(layer, layers.SpatialSelfAttention):
        return "self-attention"
    if isinstance(layer, layers.SpatialCrossAttention):
        return "cross-attention"
    if isinstance(layer, _EMBEDDINGS):
        return "embedding"
    if isinstance(layer, _NORMALIZATIONS):
        return "normalization"
    if isinstance(layer, _CONVOLUTIONS):
        return "convolution"
    return None


def _part(layer, is_image):
    if not is_image:
        return "conditioning"
    starts = {
        "stem": "encoder",
        "low_resolution": "encoder",
        "encoder": "encoder",
        "middle": "middle",
        "decoder": "decoder",
        "output": "decoder",
    }
    for start, part in starts.items():
        if layer.name.startswith(start):
            return part
    return "stack"


def _inputs_of(layer):
    return layer._inbound_nodes[0].input_tensors


def _maker(tensor, through_weights=False):
    """Name of the block or network input that a tensor comes from.

    With `through_weights` also past what a skip passes on its way: it is
    projected and scaled where the channels differ.
    """
    layer = tensor._keras_history.operation
    if isinstance(layer, keras.layers.InputLayer):
        return layer.name
    on_the_way = through_weights and "_skip_" in layer.name
    if _kind(layer) and not on_the_way:
        return layer.name
    return _maker(_inputs_of(layer)[0], through_weights)


def _has_attention(tensor):
    """Whether attention over the whole image lies before a tensor."""
    layer = tensor._keras_history.operation
    if isinstance(layer, layers.SpatialSelfAttention):
        return True
    if isinstance(layer, _RESIDUAL_BLOCKS) and getattr(
        layer, "attention", None
    ):
        return True
    if isinstance(layer, keras.layers.InputLayer):
        return False
    return any(_has_attention(x) for x in _inputs_of(layer) if _is_image(x))


def _is_image(tensor):
    return len(tensor.shape) == 4


def _conditioning(tensors):
    """Names of the network's inputs that reach a block as vectors, directly
    or by a sum before it that is no block of its own."""
    found = []
    for tensor in tensors:
        layer = tensor._keras_history.operation
        if not _is_image(tensor):
            found += _network_inputs(tensor)
        elif _kind(layer) is None and not isinstance(
            layer, keras.layers.InputLayer
        ):
            found += _conditioning(_inputs_of(layer))
    return tuple(dict.fromkeys(found))


def _network_inputs(tensor):
    layer = tensor._keras_history.operation
    if isinstance(layer, keras.layers.InputLayer):
        return [layer.name]
    return [name for x in _inputs_of(layer) for name in _network_inputs(x)]


def _source(kind):
    path = Path(inspect.getsourcefile(kind))
    if not path.is_relative_to(_ROOT / "keras_unet_diffusion"):
        return ("keras", kind.__name__)
    _, line = inspect.getsourcelines(kind)
    return (path.relative_to(_ROOT).as_posix(), line)
