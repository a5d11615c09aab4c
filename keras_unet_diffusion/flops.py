"""Floating-point operations of a network, counted layer by layer."""

import dataclasses
import math

import keras

from keras_unet_diffusion import layers
from keras_unet_diffusion.layer_shapes import layer_shapes

# Operations outside layers that multiply matrices: there is no rule for them.
_PRODUCTS = {
    "Conv",
    "ConvTranspose",
    "DepthwiseConv",
    "Dot",
    "DotProductAttention",
    "Einsum",
    "Inner",
    "Matmul",
    "SeparableConv",
    "Tensordot",
    "Vdot",
}


@dataclasses.dataclass(frozen=True)
class LayerFlops:
    """What one part of one layer computes for one image, forward.

    Args:
        layer: str, name of the layer in the network.
        part: str, what inside it: "conv_1", "query", "products"; the layer's
            own name if it has no parts.
        kind: "convolution", "dense", "attention" (products of queries, keys
            and values) or "resampling".
        flops: int, operations for one image; a multiply-add is two.
        output_shape: what the layer puts out, batch first, the batch 1.
    """

    layer: str
    part: str
    kind: str
    flops: int
    output_shape: tuple


def count_flops(network, image_size=None, context_tokens=None):
    """Operations of a network for one image, forward.

    Multiply-adds are two operations. Counted are convolutions (pixels of the
    padding too, as everyone does), dense layers, the two products of
    attention and what resampling adds up. Not counted are what works element
    by element: normalisation, activations, sums, softmax; they cost time but
    next to no arithmetic. Use it to compare networks, and for the share of a
    chip's arithmetic that a program reaches.

    Args:
        network: a functional `keras.Model`: any of this library, or of the
            usual Keras layers.
        image_size: int, height and width in pixels; only for a network of any
            size.
        context_tokens: int, length of the context; only for a network with
            context.

    Returns:
        int.

    Raises:
        ValueError: a size is missing, or a layer multiplies matrices in a way
            that is not known here.

    Example:

    ```python
    count_flops(UNet.from_preset("ddpm_cifar10")) / 1e9  # 12.4
    ```
    """
    parts = count_layer_flops(network, image_size, context_tokens)
    return sum(part.flops for part in parts)


def count_training_flops(network, image_size=None, context_tokens=None):
    """Operations of a network for one image in training: 3 times forward.

    The gradient with respect to a layer's inputs and that with respect to its
    weights cost as much as the layer itself. What `rematerialize` computes a
    second time does not count: it is not the model's work.

    Args:
        network: see `count_flops`.
        image_size: likewise.
        context_tokens: likewise.

    Returns:
        int.

    Raises:
        ValueError: see `count_flops`.

    Example:

    ```python
    network = UNet.from_preset("ddpm_cifar10")
    share = images_per_second * count_training_flops(network) / 989e12
    ```

    Reference:
        Chowdhery et al. 2022, "PaLM", appendix B (model FLOPs utilisation).
        Differences: the first convolution's gradient with respect to the
        image, which nobody computes, counts (0.1% of `ddpm_cifar10`).
    """
    return 3 * count_flops(network, image_size, context_tokens)


def count_layer_flops(network, image_size=None, context_tokens=None):
    """The operations of `count_flops`, by layer and part of the layer.

    Args:
        network: see `count_flops`.
        image_size: likewise.
        context_tokens: likewise.

    Returns:
        list of `LayerFlops`, in the order of the network; layers without
        counted operations are left out.

    Raises:
        ValueError: see `count_flops`.

    Example:

    ```python
    for part in count_layer_flops(UNet.from_preset("tiny")):
        print(part.layer, part.part, part.flops)
    ```
    """
    counted = []
    for layer, inputs, output in layer_shapes(
        network, image_size, context_tokens
    ):
        for part, kind, flops in _parts(layer, inputs, output):
            if flops:
                counted.append(
                    LayerFlops(layer.name, part, kind, flops, output)
                )
    return counted


def _parts(layer, inputs, output):
    """Yields (part, kind, operations) of a call, given the shapes of its
    inputs and of its output."""
    conv_layers = (
        keras.layers.Conv1D,
        keras.layers.Conv2D,
        keras.layers.Conv3D,
        keras.layers.DepthwiseConv2D,
        layers.MagnitudePreservingConv2D,
    )
    dense_layers = (keras.layers.Dense, layers.MagnitudePreservingDense)
    attention = (layers.SpatialSelfAttention, layers.SpatialCrossAttention)
    blocks = (
        layers.MagnitudePreservingEncoderBlock,
        layers.MagnitudePreservingDecoderBlock,
    )
    name = layer.name
    if isinstance(layer, keras.layers.Conv2DTranspose):
        yield _convolution(layer, inputs[0], name)
    elif isinstance(layer, conv_layers):
        yield _convolution(layer, output, name)
    elif isinstance(layer, dense_layers):
        yield _dense(layer, math.prod(output[1:-1]), name)
    elif isinstance(layer, layers.NoiseLevelEmbedding):
        yield from (_dense(layer.dense_1), _dense(layer.dense_2))
    elif isinstance(layer, layers.MagnitudePreservingEmbedding):
        yield _dense(layer.noise_projection)
    elif isinstance(layer, layers.ModulatedGroupNormalization):
        yield _dense(layer.modulation)
    elif isinstance(layer, layers.ResidualBlock):
        yield from _residual_block(layer, inputs[0], output)
    elif isinstance(layer, blocks):
        yield from _magnitude_preserving_block(layer, inputs[0], output)
    elif isinstance(layer, attention):
        context = inputs[1] if len(inputs) > 1 else None
        yield from _attention(layer, output, context)
    elif isinstance(layer, layers.MagnitudePreservingSelfAttention):
        yield from _attention(layer, output)
    elif isinstance(layer, layers.Downsample):
        yield _convolution(layer.conv, output)
    elif isinstance(layer, layers.Upsample):
        yield from _upsample(layer, inputs[0], output)
    elif isinstance(layer, layers.PyramidDownsample):
        yield from _pyramid(layer, inputs[0], output)
    else:
        _check_is_elementwise(layer)
        yield (name, "resampling", _resampling(layer, inputs, output))


def _check_is_elementwise(layer):
    """Raises a `ValueError` if a layer without a rule may need one."""
    look_up = (layers.LabelEmbedding, keras.layers.Embedding)
    weights = getattr(layer, "weights", ())
    has_kernel = any(len(weight.shape) > 1 for weight in weights)
    products = (keras.layers.Attention, keras.layers.Dot)
    if (
        (has_kernel and not isinstance(layer, look_up))
        or isinstance(layer, products)
        or type(layer).__name__ in _PRODUCTS
    ):
        raise ValueError(
            "It is not known how many operations a layer takes. Received: "
            f"{layer.name} of class {type(layer).__name__}. Build the network "
            "of Keras's convolutions and dense layers and of this library's."
        )


def _pixels(shape):
    return math.prod(shape[1:-1])


def _convolution(layer, shape, part=None):
    """Each weight is used once per pixel of `shape`."""
    flops = 2 * math.prod(layer.kernel.shape) * _pixels(shape)
    return (part or layer.name, "convolution", flops)


def _dense(layer, rows=1, part=None):
    flops = 2 * math.prod(layer.kernel.shape) * rows
    return (part or layer.name, "dense", flops)


def _attention(layer, images, context=None):
    """Queries and outputs by pixel, keys and values by what is looked at."""
    pixels, channels = _pixels(images), images[-1]
    tokens = pixels if context is None else context[1]
    yield _dense(layer.query, pixels)
    yield _dense(layer.key, tokens)
    yield _dense(layer.value, tokens)
    # Query times key, and weights times value: every head has its channels.
    yield ("products", "attention", 2 * 2 * pixels * tokens * channels)
    yield _dense(layer.output_projection, pixels)


def _residual_block(layer, inputs, output):
    resampled = _resampling(
        layer.resample, [inputs], (*output[:-1], inputs[-1])
    )
    # What is convolved, and the shortcut beside it.
    yield ("resample", "resampling", 2 * resampled)
    yield _convolution(layer.conv_1, output)
    if layer.scale_shift:
        yield _dense(layer.norm_2.modulation)
    else:
        yield _dense(layer.injection)
    yield _convolution(layer.conv_2, output)
    if layer.shortcut is not None:
        yield _convolution(layer.shortcut, output)


def _magnitude_preserving_block(layer, inputs, output):
    is_encoder = isinstance(layer, layers.MagnitudePreservingEncoderBlock)
    if layer.resample and is_encoder:
        yield ("resample", "resampling", 4 * _pixels(output) * inputs[-1])
    if layer.shortcut is not None:
        yield _convolution(layer.shortcut, output)
    yield _convolution(layer.conv_1, output)
    yield _dense(layer.modulation)
    yield _convolution(layer.conv_2, output)
    if layer.attention is not None:
        for part, kind, flops in _attention(layer.attention, output):
            yield (f"attention/{part}", kind, flops)


def _upsample(layer, inputs, output):
    if layer.interpolation == "transposed":
        yield _convolution(layer.conv, inputs)
        return
    doubled = (*output[:-1], inputs[-1])
    flops = _resampling(layer.resample, [inputs], doubled)
    yield ("resample", "resampling", flops)
    yield _convolution(layer.conv, output)


def _pyramid(layer, inputs, output):
    """The convolution comes before the filter, on its wider border."""
    blur = len(layer._blur)
    height, width = (x + 2 * (blur // 2) for x in inputs[1:3])
    yield _convolution(layer, (1, height, width, output[-1]), "conv")
    blurred = _filter(layer._blur, inputs[1] * inputs[2] * output[-1])
    means = 4 * _pixels(output) * output[-1]
    yield ("resample", "resampling", blurred + means)


def _resampling(layer, inputs, output):
    """Operations of a fixed filter, 0 for what is none."""
    values = math.prod(output)
    if isinstance(layer, layers.FilteredDownsample):
        # A mean of four: three sums and a product.
        return _filter(layer._blur, math.prod(inputs[0])) + 4 * values
    if isinstance(layer, layers.FilteredUpsample):
        return _filter(layer._blur, values)
    if isinstance(layer, layers.BilinearUpsample):
        # Two products and a sum, along the rows and then along the columns.
        return 3 * (values // layer.factor + values)
    if isinstance(layer, keras.layers.AveragePooling2D):
        return math.prod(layer.pool_size) * values
    return 0


def _filter(kernel, values):
    """Of a separable filter, computed as a square one; none is left out."""
    return 0 if len(kernel) == 1 else 2 * len(kernel) ** 2 * values
