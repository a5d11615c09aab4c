"""What a pixel of a network's output can see of the image, and what it does.

Three answers: by arithmetic over the layers (`theoretical_receptive_field`),
from which gradients are not zero (`measured_receptive_field`), and how much
each pixel matters in a real network (`effective_receptive_field`). The first
two must agree. Both leave out what mixes the whole image by design: attention,
and the mean and variance of group normalization. The third leaves out nothing.
"""

import keras
import numpy as np
from keras import ops

from keras_unet_diffusion import layers
from keras_unet_diffusion.backends import in_float64, with_pullback
from keras_unet_diffusion.magnitude_preserving_unet import (
    MagnitudePreservingUNet,
)
from keras_unet_diffusion.plain_cnn import PlainCNN
from keras_unet_diffusion.studies.footprints import read_pixels
from keras_unet_diffusion.unet import UNet
from keras_unet_diffusion.unet_parts import level_names

# No smaller than the total stride of any network.
_ANY_STRIDE = 64
_ATTENTION = (layers.SpatialCrossAttention, layers.SpatialSelfAttention)


def theoretical_receptive_field(network, layer_name=None):
    """Height and width of what an output pixel can see, by arithmetic.

    Convolutions and resampling are followed back from a pixel to the image.
    Where the network has several scales, pixels next to each other see squares
    of different size: this is the largest. The image may be smaller.

    Args:
        network: any network of this library, or a functional `keras.Model` of
            such layers and Keras's usual ones, with an image as input.
        layer_name: str, the layer whose output is asked about; None for that
            of the network.

    Returns:
        int, pixels.

    Raises:
        ValueError: there is no such layer, its output does not depend on the
            image, or a layer is of a class that is not known here.

    Example:

    ```python
    theoretical_receptive_field(PlainCNN(num_layers=5))  # 11
    ```

    Reference:
        Araujo et al. 2019, "Computing Receptive Fields of Convolutional Neural
        Networks". Differences: pixels are followed one by one instead of by a
        formula, so that upsampling is exact.
    """
    target = _output_of(network, layer_name)
    order = _images_before(target)
    period = getattr(network, "total_stride", _ANY_STRIDE)
    seen = [_seen_pixels(order, pixel) for pixel in range(period)]
    return max(last - first + 1 for first, last in seen)


@in_float64
def measured_receptive_field(network, layer_name=None):
    """Height and width of what an output pixel can see, from gradients.

    A copy of the network with few channels, random weights in float64, and
    neither attention nor group normalization is differentiated with respect to
    a wide strip: a pixel is seen where the derivative is not zero.

    Args:
        network: `UNet`, `MagnitudePreservingUNet` or `PlainCNN`.
        layer_name: see `theoretical_receptive_field`.

    Returns:
        int, pixels.

    Raises:
        ValueError: the network is of another class, or see
            `theoretical_receptive_field`.

    Example:

    ```python
    measured_receptive_field(PlainCNN(num_layers=5))  # 11
    ```

    Reference:
        None; it is the definition.
    """
    # Wider than what is to be seen, so that more would be noticed.
    width = 2 * theoretical_receptive_field(network, layer_name)
    local = _local_copy(network)
    target = _output_of(local, _name_in_copy(network, local, layer_name))
    part = keras.Model(local.inputs, target)
    stride = local.total_stride
    inputs = _strip(local, stride, stride * (width // stride + 3))

    def columns(images):
        given = inputs | {"noisy_images": images}
        # Not `part(given)`, which rounds images to float32 first: far from
        # the middle their derivatives are smaller than its least number.
        outputs = part._run_through_graph(
            [given[tensor.name] for tensor in part.inputs],
            operation_fn=lambda operation: operation,
        )
        return ops.sum(outputs, (0, 1, 3))

    outputs, pullback = with_pullback(columns, inputs["noisy_images"])
    return max(
        _width(pullback(ops.one_hot(pixel, len(outputs), dtype=outputs.dtype)))
        for pixel in _middle_pixels(len(outputs), stride)
    )


def effective_receptive_field(network, inputs, pixel=None):
    """How much each pixel of the image matters for one pixel of the output.

    The mean over images and output channels of the absolute derivatives, by
    the network as it is: attention, normalization and all weights included.

    Args:
        network: functional `keras.Model` that takes a dict of inputs.
        inputs: dict of the network's inputs, as it is called with;
            `noisy_images` of shape `(batch, height, width, channels)`.
        pixel: `(row, column)` of the output; None for the middle.

    Returns:
        Array of shape `(height, width)`, float; its sum is 1 unless the
        output does not depend on the image at all.

    Example:

    ```python
    inputs = {"noisy_images": images, "noise_level": np.full(len(images), 500)}
    field = effective_receptive_field(network, inputs)
    ```

    Reference:
        Luo et al. 2016, "Understanding the Effective Receptive Field in Deep
        Convolutional Neural Networks", section 2. Differences: absolute
        derivatives, so that positive and negative ones do not cancel.
    """
    inputs = {name: ops.convert_to_tensor(x) for name, x in inputs.items()}
    images = ops.cast(inputs["noisy_images"], "float32")
    row, column = pixel or (images.shape[1] // 2, images.shape[2] // 2)

    def values(images):
        return network(inputs | {"noisy_images": images})[:, row, column, :]

    outputs, pullback = with_pullback(values, images)
    channels = outputs.shape[-1]
    field = 0.0
    for channel in range(channels):
        share = ops.one_hot([channel], channels, dtype=outputs.dtype)
        shares = ops.tile(share, (len(images), 1))
        gradient = np.abs(ops.convert_to_numpy(pullback(shares)))
        field = field + gradient.sum(axis=(0, 3), dtype="float64")
    return field / max(field.sum(), np.finfo("float64").tiny)


def _output_of(network, layer_name):
    if layer_name is None:
        return network.outputs[0]
    try:
        return network.get_layer(layer_name).output
    except ValueError:
        names = [layer.name for layer in network.layers]
        raise ValueError(
            f"The network has no such layer. Received: {layer_name!r}. "
            f"Choose one of {', '.join(names)}."
        ) from None


def _images_before(target):
    """All images (KerasTensors) that a tensor is computed from, and itself
    last, each after those that it is computed from."""
    order, visited = [], set()

    def visit(tensor):
        if id(tensor) in visited or len(tensor.shape) != 4:
            return
        visited.add(id(tensor))
        for parent in _parents(tensor):
            visit(parent)
        order.append(tensor)

    visit(target)
    if not any(tensor.name == "noisy_images" for tensor in order):
        raise ValueError(
            "Only what is computed from the image has a receptive field. "
            f"Received: {target.name} of shape {target.shape}. Choose a layer "
            "between the image and the output."
        )
    return order


def _parents(tensor):
    history = tensor._keras_history
    node = history.operation._inbound_nodes[history.node_index]
    return node.input_tensors


def _seen_pixels(order, pixel):
    """The pixels `(first, last)` of the image that the last tensor sees at a
    pixel, along one axis."""
    needed = {id(order[-1]): (pixel, pixel)}
    for tensor in reversed(order):
        if tensor.name == "noisy_images":
            seen = needed[id(tensor)]
        for parent in _parents(tensor):
            if len(parent.shape) != 4:
                continue
            layer = tensor._keras_history.operation
            first, last = read_pixels(layer, needed[id(tensor)])
            known = needed.get(id(parent), (first, last))
            needed[id(parent)] = (min(first, known[0]), max(last, known[1]))
    return seen


def _local_copy(network):
    """The same wiring with few channels and nothing that sees all pixels."""
    config = network.get_config()
    config |= {"image_size": None, "dtype": "float64"}
    if isinstance(network, UNet):
        config |= {
            "base_channels": 4,
            "stem_channels": None,
            "noise_channels": None,
            "embedding_channels": None,
            "context_channels": None,
            "attention_resolutions": (),
            "attention_levels": (),
            "middle_attention": False,
            "num_groups": 1,
            "min_group_channels": None,
        }
    elif isinstance(network, MagnitudePreservingUNet):
        config |= {
            "base_channels": 4,
            "attention_resolutions": (),
            "attention_levels": (),
            "num_head_channels": 1,
        }
    elif isinstance(network, PlainCNN):
        config |= {"channels": 4}
    else:
        raise ValueError(
            "Networks of this library alone can be built anew without what "
            f"mixes all pixels. Received: a {type(network).__name__}. Use "
            "theoretical_receptive_field or effective_receptive_field."
        )
    copy = type(network).from_config(config)
    _replace_what_mixes_all(copy)
    _draw_weights(copy)
    return copy


def _replace_what_mixes_all(network):
    for layer in network._flatten_layers():
        if isinstance(layer, layers.GroupNormalization):
            layer.call = lambda inputs, offset=None: inputs
        elif isinstance(layer, layers.ModulatedGroupNormalization):
            layer.call = lambda inputs, embedding, offset=None: inputs
        elif isinstance(layer, layers.MagnitudePreservingSelfAttention):
            layer.call = lambda inputs: inputs


def _draw_weights(network):
    """Random convolutions, and nothing else that is not zero.

    No derivative is 0 by chance or by design: last layers start at 0. Features
    of a strip of zeros are zero too, where SiLU has a slope of 1/2; far below
    zero its slope would be lost to rounding.
    """
    generator = np.random.default_rng(0)
    for variable in network.trainable_variables:
        shape = variable.shape
        values = np.ones(shape) if len(shape) == 0 else np.zeros(shape)
        if len(shape) > 2:
            values = generator.normal(size=shape) / np.prod(shape[:-1]) ** 0.5
        variable.assign(values)


def _name_in_copy(network, local, layer_name):
    """What a layer is called in the copy, where levels have no sizes."""
    if layer_name is None:
        return None
    if isinstance(network.get_layer(layer_name), _ATTENTION):
        # It sees what its input sees: the copy has no such layer.
        (image, *_) = _parents(network.get_layer(layer_name).output)
        parent = image._keras_history.operation.name
        return _name_in_copy(network, local, parent)
    num_levels = len(getattr(network, "channel_multipliers", ()))
    names = level_names(network.image_size, num_levels)
    new_names = level_names(None, num_levels)
    for name, new_name in zip(names, new_names, strict=True):
        layer_name = layer_name.replace(f"coder_{name}", f"coder_{new_name}")
    return layer_name


def _strip(network, height, width):
    """Inputs of one image, all zero, as high as the total stride."""
    inputs = {}
    for tensor in network.inputs:
        shape = (1, *tensor.shape[1:])
        if len(shape) == 4:
            factor = 1
            if tensor.name == "low_resolution_images":
                factor = network.super_resolution_factor
            shape = (1, height // factor, width // factor, shape[-1])
        dtype = "int32" if tensor.dtype == "int32" else "float64"
        inputs[tensor.name] = ops.zeros(shape, dtype)
    return inputs


def _middle_pixels(size, stride):
    """One total stride of pixels, far from the ends."""
    first = size // 2
    return range(first, first + min(stride, size - first))


def _width(gradient):
    """Pixels between the first and the last that is not zero, inclusive."""
    columns = np.abs(ops.convert_to_numpy(gradient)).sum(axis=(0, 1, 3))
    (seen,) = np.nonzero(columns)
    return int(seen[-1] - seen[0] + 1)
