"""Which pixels of its input a layer reads for some pixels of its output.

Along one axis and on an endless image: pixels `first` to `last` of the output
need pixels `first'` to `last'` of the input, all counted from 0, ends included.
"""

import keras

from keras_unet_diffusion import layers

_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
_POOLINGS = (keras.layers.AveragePooling2D, keras.layers.MaxPooling2D)
_RESIDUAL_BLOCKS = (
    layers.MagnitudePreservingEncoderBlock,
    layers.MagnitudePreservingDecoderBlock,
)
# What leaves each pixel where it is. Attention and the statistics of group
# normalization mix the whole image: they are left out here.
_POINTWISE = (
    keras.layers.Activation,
    keras.layers.Add,
    keras.layers.Average,
    keras.layers.BatchNormalization,
    keras.layers.Concatenate,
    keras.layers.Dense,
    keras.layers.Dropout,
    keras.layers.GroupNormalization,
    keras.layers.Identity,
    keras.layers.LayerNormalization,
    keras.layers.LeakyReLU,
    keras.layers.Multiply,
    keras.layers.ReLU,
    keras.layers.Rescaling,
    keras.layers.Subtract,
    layers.GroupNormalization,
    layers.MagnitudePreservingConcatenate,
    layers.MagnitudePreservingSelfAttention,
    layers.ModulatedGroupNormalization,
    layers.SpatialCrossAttention,
    layers.SpatialSelfAttention,
)


def read_pixels(layer, pixels):
    """The pixels that a layer reads, by arithmetic.

    Args:
        layer: a Keras layer between images.
        pixels: `(first, last)`, pixels of its output along one axis.

    Returns:
        `(first, last)`, pixels of its inputs.

    Raises:
        ValueError: the layer's class is not known here.

    Example:

    ```python
    read_pixels(keras.layers.Conv2D(8, 3, padding="same"), (5, 5))  # (4, 6)
    ```

    Reference:
        Dumoulin and Visin 2016, "A guide to convolution arithmetic for deep
        learning".
    """
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return _transposed(layer, pixels)
    if isinstance(layer, layers.MagnitudePreservingConv2D):
        return _widened(pixels, layer.kernel_size // 2)
    if isinstance(layer, _CONVOLUTIONS):
        reach = (layer.kernel_size[1] - 1) * layer.dilation_rate[1] + 1
        return _strided(pixels, reach, layer.strides[1], layer.padding)
    if isinstance(layer, _POOLINGS):
        size, stride = layer.pool_size[1], layer.strides[1]
        return _strided(pixels, size, stride, layer.padding)
    if isinstance(layer, layers.ResidualBlock):
        return read_pixels(layer.resample, _widened(pixels, 2))
    if isinstance(layer, _RESIDUAL_BLOCKS):
        return _magnitude_preserving(layer, _widened(pixels, 2))
    if isinstance(layer, layers.Downsample):
        before, _ = layer.padding
        return (2 * pixels[0] - before, 2 * pixels[1] - before + 2)
    if isinstance(layer, layers.Upsample):
        if layer.interpolation == "transposed":
            return read_pixels(layer.conv, pixels)
        return read_pixels(layer.resample, _widened(pixels, 1))
    if isinstance(layer, layers.PyramidDownsample):
        return _widened(_blurred(layer, _doubled(pixels)), 1)
    if isinstance(layer, layers.FilteredDownsample):
        return _blurred(layer, _doubled(pixels))
    if isinstance(layer, layers.FilteredUpsample):
        return _halved(_blurred(layer, pixels))
    if isinstance(layer, layers.BilinearUpsample):
        return _interpolated(layer.factor, pixels)
    if isinstance(layer, keras.layers.UpSampling2D):
        return _enlarged(layer, pixels)
    if isinstance(layer, _POINTWISE):
        return pixels
    raise ValueError(
        "It is not known which pixels a layer reads. Received: "
        f"{layer.name} of class {type(layer).__name__}. Build the network of "
        "Keras's convolutions and of this library's layers."
    )


def _widened(pixels, border):
    return (pixels[0] - border, pixels[1] + border)


def _doubled(pixels):
    """Of the image of which each 2x2 pixels became one."""
    return (2 * pixels[0], 2 * pixels[1] + 1)


def _halved(pixels):
    """Of the image of which each pixel became 2x2."""
    return (pixels[0] // 2, pixels[1] // 2)


def _blurred(layer, pixels):
    return _widened(pixels, len(layer._blur) // 2)


def _strided(pixels, size, stride, padding):
    before = (size - stride) // 2 if padding == "same" else 0
    first, last = pixels
    return (stride * first - before, stride * last - before + size - 1)


def _transposed(layer, pixels):
    """Output pixel `o` reads all `i` with `0 <= o - stride * i + before <
    size`."""
    size, stride = layer.kernel_size[1], layer.strides[1]
    before = (size - stride) // 2 if layer.padding == "same" else 0
    first, last = pixels
    return (-((size - 1 - before - first) // stride), (last + before) // stride)


def _magnitude_preserving(layer, pixels):
    if not layer.resample:
        return pixels
    if isinstance(layer, layers.MagnitudePreservingEncoderBlock):
        return _doubled(pixels)
    return _halved(pixels)


def _interpolated(factor, pixels):
    """A pixel lies between that whose part it is and the nearer neighbour."""
    first, last = pixels
    left, phase = divmod(first, factor)
    left -= 2 * phase + 1 < factor
    right, phase = divmod(last, factor)
    right += 2 * phase + 1 > factor
    return (left, right)


def _enlarged(layer, pixels):
    if layer.interpolation == "bilinear":
        return _interpolated(layer.size[1], pixels)
    return (pixels[0] // layer.size[1], pixels[1] // layer.size[1])
