"""Fixed filters between scales: means, repeated pixels, interpolation."""

import keras
import numpy as np
from keras import ops

# The plainest kernel: means of 2x2 pixels down, repeated pixels up.
BOX = (1, 1)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class FilteredDownsample(keras.layers.Layer):
    """Halves height and width by a fixed low-pass filter of stride 2.

    Use it where resampling shall learn nothing: in the up and down residual
    blocks, or alone. The filter is normalised to sum 1.

    Args:
        kernel: filter along each axis, an even number of symmetric numbers:
            `(1, 1)` is the mean of 2x2 pixels, `(1, 3, 3, 1)` aliases less.
            Pixels beyond the border are zero.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: images of shape `(batch, height, width, channels)`; of odd
            sizes the last row or column is left out.

    Returns:
        Images of shape `(batch, height // 2, width // 2, channels)`.

    Raises:
        ValueError: the kernel is not an even number of symmetric numbers.

    Example:

    ```python
    FilteredDownsample((1, 3, 3, 1))(np.ones((2, 32, 32, 64))).shape
    ```

    Reference:
        Zhang 2019, "Making Convolutional Networks Shift-Invariant Again";
        Song et al. 2021, appendix H. Differences: none.
    """

    def __init__(self, kernel=BOX, **kwargs):
        super().__init__(**kwargs)
        self.kernel = tuple(kernel)
        self._blur = box_factor(self.kernel)

    def call(self, inputs):
        blurred = filter_images(inputs, self._blur, "same")
        return ops.average_pool(blurred, 2, 2, "valid")

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        return (batch, height and height // 2, width and width // 2, channels)

    def get_config(self):
        return super().get_config() | {"kernel": self.kernel}


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class FilteredUpsample(keras.layers.Layer):
    """Doubles height and width by a fixed interpolation filter.

    The transpose of `FilteredDownsample`, four times as strong, so that a
    constant image stays the same inside its border.

    Args:
        kernel: filter along each axis, an even number of symmetric numbers:
            `(1, 1)` repeats each pixel (nearest neighbour), `(1, 3, 3, 1)`
            interpolates linearly, to zero beyond the border.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: images of shape `(batch, height, width, channels)`.

    Returns:
        Images of shape `(batch, 2 * height, 2 * width, channels)`.

    Raises:
        ValueError: the kernel is not an even number of symmetric numbers.

    Example:

    ```python
    FilteredUpsample()(np.ones((2, 16, 16, 64))).shape  # (2, 32, 32, 64)
    ```

    Reference:
        Song et al. 2021, appendix H. Differences: none.
    """

    def __init__(self, kernel=BOX, **kwargs):
        super().__init__(**kwargs)
        self.kernel = tuple(kernel)
        self._blur = box_factor(self.kernel)

    def call(self, inputs):
        return filter_images(double_nearest(inputs), self._blur, "same")

    def compute_output_shape(self, input_shape):
        return doubled_shape(input_shape)

    def get_config(self):
        return super().get_config() | {"kernel": self.kernel}


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class BilinearUpsample(keras.layers.Layer):
    """Enlarges images by a whole factor, bilinearly.

    Half-pixel centres, edges repeated: as PyTorch's `interpolate` without
    `align_corners`. Use it to bring a low-resolution image to the size of the
    image that is denoised. Computed in float32 at least.

    Args:
        factor: int >= 1.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: images of shape `(batch, height, width, channels)`.

    Returns:
        Images of shape `(batch, factor * height, factor * width, channels)`.

    Raises:
        ValueError: `factor` is below 1.

    Example:

    ```python
    BilinearUpsample(4)(np.ones((2, 64, 64, 3))).shape  # (2, 256, 256, 3)
    ```

    Reference:
        Nichol and Dhariwal 2021, appendix A (upsampling models).
        Differences: none.
    """

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        if factor < 1 or factor != int(factor):
            raise ValueError(
                "Images are enlarged by a whole factor. Received: factor="
                f"{factor}. Pass a positive whole number."
            )
        self.factor = factor

    def call(self, inputs):
        return resize_bilinear(inputs, self.factor)

    def compute_output_shape(self, input_shape):
        return doubled_shape(input_shape, self.factor)

    def get_config(self):
        return super().get_config() | {"factor": self.factor}


def double_nearest(images):
    """Doubles height and width: each pixel becomes a 2x2 square of itself.

    `(batch, height, width, channels)` to
    `(batch, 2 * height, 2 * width, channels)`, by concatenation and reshape:
    at most four dimensions, any height and width at run time, built-in
    operations in every runtime, and a gradient that is exact under XLA.
    """
    wide = _interleave_columns([images, images])
    return _interleave_rows([wide, wide])


def resize_bilinear(images, factor):
    """Enlarges `(batch, height, width, channels)` by a whole factor.

    Of arithmetic and reshapes alone, as `double_nearest`: Keras's own resizing
    takes no sizes that are known only at run time.
    """
    # Never below float32, and float64 where that was asked for.
    dtype = keras.backend.result_type(images.dtype, "float32")
    hidden = ops.cast(images, dtype)
    left = ops.concatenate([hidden[:, :, :1], hidden[:, :, :-1]], axis=2)
    right = ops.concatenate([hidden[:, :, 1:], hidden[:, :, -1:]], axis=2)
    hidden = _interleave_columns(_between(left, hidden, right, factor))
    above = ops.concatenate([hidden[:, :1], hidden[:, :-1]], axis=1)
    below = ops.concatenate([hidden[:, 1:], hidden[:, -1:]], axis=1)
    hidden = _interleave_rows(_between(above, hidden, below, factor))
    return ops.cast(hidden, images.dtype)


def _between(before, here, after, factor):
    """The `factor` pixels that each pixel becomes along one axis.

    Their centres lie `(phase + 1/2) / factor - 1/2` pixels from its own.
    """
    phases = []
    for phase in range(factor):
        offset = (phase + 0.5) / factor - 0.5
        neighbour = before if offset < 0 else after
        phases.append((1 - abs(offset)) * here + abs(offset) * neighbour)
    return phases


def _interleave_columns(phases):
    """Images whose columns are the first of each image, the second, ..."""
    shape, channels = ops.shape(phases[0]), phases[0].shape[-1]
    # Pixels in a row, as if they were channels of one.
    wide = ops.concatenate(phases, axis=-1)
    return ops.reshape(wide, (-1, shape[1], len(phases) * shape[2], channels))


def _interleave_rows(phases):
    """Images whose rows are the first of each image, the second, ..."""
    shape, channels = ops.shape(phases[0]), phases[0].shape[-1]
    height, width = shape[1], shape[2]
    rows = [ops.reshape(x, (-1, height, width * channels)) for x in phases]
    rows = ops.concatenate(rows, axis=-1)
    return ops.reshape(rows, (-1, len(phases) * height, width, channels))


def box_factor(kernel):
    """What a resampling filter does besides the box (1, 1), sum 1.

    Every symmetric filter of even length is the box convolved with a shorter
    one: (1, 3, 3, 1) = (1, 1) * (1, 2, 1). So a filter of stride 2 is a blur
    and then a mean of 2x2 pixels, and its transpose doubles pixels and blurs:
    three operations that every runtime has.

    Raises:
        ValueError: the kernel is not an even number of symmetric numbers.
    """
    kernel = np.asarray(kernel, "float64")
    is_filter = kernel.ndim == 1 and len(kernel) % 2 == 0 and kernel.sum() > 0
    if not is_filter or not np.array_equal(kernel, kernel[::-1]):
        raise ValueError(
            "A resampling kernel is an even number of numbers, the same from "
            f"both ends. Received: kernel={tuple(kernel.flat)}. Pass (1, 1) "
            "or (1, 3, 3, 1)."
        )
    factor, _ = np.polydiv(kernel, np.ones(2))
    return tuple(float(x) for x in factor / factor.sum())


def filter_images(images, kernel, padding):
    """Convolves height and width of each channel with a short filter."""
    if len(kernel) == 1:
        return images
    channels = images.shape[-1]
    square = np.outer(kernel, kernel)[:, :, None, None]
    weights = ops.convert_to_tensor(
        np.tile(square, (1, 1, channels, 1)), images.dtype
    )
    return ops.depthwise_conv(images, weights, padding=padding)


def doubled_shape(shape, factor=2):
    batch, height, width, channels = shape
    return (
        batch,
        height and factor * height,
        width and factor * width,
        channels,
    )
