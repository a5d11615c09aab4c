"""Resampling against sums over pixels that are written out, and PyTorch."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_unet_diffusion import layers
from keras_unet_diffusion.layers.filtering import double_nearest

BOX = (1, 1)
LINEAR = (1, 3, 3, 1)
KERNELS = [BOX, LINEAR, (1, 5, 10, 10, 5, 1)]
# Sums of up to 36 float32 products of size 1.
ROUNDING = {"rtol": 1e-5, "atol": 1e-5}


def random_images(*shape, seed=0):
    random = np.random.default_rng(seed)
    return random.standard_normal(shape).astype("float32")


def weigh_patches(images, kernel, before, stride):
    """Strided convolution of zero-padded images by a loop over its outputs.

    Images `(batch, height, width, in)`, kernel `(rows, columns, in, out)`;
    `before` zero pixels above and left, as many as are needed beyond.
    """
    _, height, width, _ = images.shape
    rows, columns, _, channels = kernel.shape
    padded = np.pad(images, ((0, 0), (before, rows), (before, columns), (0, 0)))
    outputs = np.zeros((len(images), height, width, channels))
    outputs = outputs[:, : height // stride, : width // stride]
    for row in range(outputs.shape[1]):
        for column in range(outputs.shape[2]):
            top, left = stride * row, stride * column
            patch = padded[:, top : top + rows, left : left + columns]
            outputs[:, row, column] = np.einsum("bhwc,hwcd->bd", patch, kernel)
    return outputs


def square_filter(kernel, channels):
    """A filter of sum 1 on every channel alone: `(n, n, channels, channels)`"""
    kernel = np.array(kernel) / np.sum(kernel)
    return np.einsum("i,j,cd->ijcd", kernel, kernel, np.eye(channels))


@pytest.mark.parametrize("size", [(8, 6), (7, 9)])
@pytest.mark.parametrize("kernel", KERNELS)
def test_filtering_down_is_a_zero_padded_convolution_of_stride_2(kernel, size):
    images = random_images(2, *size, 3)
    expected = weigh_patches(
        images, square_filter(kernel, 3), len(kernel) // 2 - 1, stride=2
    )
    outputs = layers.FilteredDownsample(kernel)(images)
    np.testing.assert_allclose(outputs, expected, **ROUNDING)


@pytest.mark.parametrize("kernel", KERNELS)
def test_filtering_up_spreads_each_pixel_by_four_times_the_filter(kernel):
    images = random_images(2, 3, 5, 2)
    taps = len(kernel)
    square = 4 * np.outer(kernel, kernel) / np.sum(kernel) ** 2
    spread = np.zeros((2, 6 + taps, 10 + taps, 2))
    for row in range(3):
        for column in range(5):
            spread[
                :,
                2 * row : 2 * row + taps,
                2 * column : 2 * column + taps,
            ] += square[:, :, None] * images[:, row, None, None, column]
    border = taps // 2 - 1
    expected = spread[:, border : border + 6, border : border + 10]
    outputs = layers.FilteredUpsample(kernel)(images)
    np.testing.assert_allclose(outputs, expected, **ROUNDING)


@pytest.mark.parametrize("kernel", KERNELS)
def test_filtering_up_is_four_times_the_transpose_of_filtering_down(kernel):
    fine, coarse = random_images(1, 8, 8, 1), random_images(1, 4, 4, 1, seed=1)
    down = np.sum(layers.FilteredDownsample(kernel)(fine) * coarse)
    up = np.sum(layers.FilteredUpsample(kernel)(coarse) * fine)
    # Sums of 64 products of size 1.
    np.testing.assert_allclose(up, 4 * down, atol=1e-4)


def test_the_box_is_the_mean_of_squares_down_and_their_repetition_up():
    images = random_images(2, 4, 6, 3)
    down = layers.FilteredDownsample(BOX)(images)
    means = images.reshape(2, 2, 2, 3, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(down, means, **ROUNDING)
    up = layers.FilteredUpsample(BOX)(images)
    np.testing.assert_array_equal(up, images.repeat(2, 1).repeat(2, 2))


@pytest.mark.parametrize("layer", ["FilteredDownsample", "FilteredUpsample"])
def test_a_constant_image_stays_the_same_inside_its_border(layer):
    ones = np.ones((1, 8, 8, 2), "float32")
    outputs = np.asarray(getattr(layers, layer)(LINEAR)(ones))
    # Weights of eighths and sixteenths: exact.
    np.testing.assert_array_equal(outputs[:, 1:-1, 1:-1], 1)
    assert (outputs[:, 0] < 1).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_filters_equal_pytorchs_convolutions(kernel):
    torch = pytest.importorskip("torch")
    images = random_images(2, 9, 6, 3)
    weights = torch.tensor(np.outer(kernel, kernel) / np.sum(kernel) ** 2)
    weights = weights[None, None].repeat(3, 1, 1, 1).float()
    arguments = {"stride": 2, "padding": len(kernel) // 2 - 1, "groups": 3}
    channels_first = torch.tensor(images).permute(0, 3, 1, 2)
    for layer, convolve, gain in (
        (layers.FilteredDownsample, torch.nn.functional.conv2d, 1),
        (layers.FilteredUpsample, torch.nn.functional.conv_transpose2d, 4),
    ):
        expected = convolve(channels_first, gain * weights, **arguments)
        np.testing.assert_allclose(
            layer(kernel)(images), expected.permute(0, 2, 3, 1), **ROUNDING
        )


@pytest.mark.parametrize("layer", ["FilteredDownsample", "FilteredUpsample"])
@pytest.mark.parametrize(
    "kernel", [(1, 2, 1), (1, 2, 3, 4), (), (0, 0), ((1, 1), (1, 1)), (1, -1)]
)
def test_a_kernel_that_is_no_even_symmetric_filter_is_refused(layer, kernel):
    with pytest.raises(ValueError, match=r"Received: kernel=\(.*Pass \(1, 1\)"):
        getattr(layers, layer)(kernel)


def interpolation_matrix(size, factor):
    """Linear interpolation between half-pixel centres, edges repeated."""
    matrix = np.zeros((factor * size, size))
    for row in range(factor * size):
        position = np.clip((row + 0.5) / factor - 0.5, 0, size - 1)
        left = min(int(position), size - 1)
        matrix[row, left] += 1 - (position - left)
        matrix[row, min(left + 1, size - 1)] += position - left
    return matrix


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_bilinear_enlargement_interpolates_between_pixel_centres(factor):
    images = random_images(2, 3, 5, 2)
    expected = np.einsum(
        "ph,qw,bhwc->bpqc",
        interpolation_matrix(3, factor),
        interpolation_matrix(5, factor),
        images,
    )
    outputs = layers.BilinearUpsample(factor)(images)
    np.testing.assert_allclose(outputs, expected, **ROUNDING)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_bilinear_enlargement_equals_pytorchs(factor):
    torch = pytest.importorskip("torch")
    images = random_images(2, 5, 4, 3)
    expected = torch.nn.functional.interpolate(
        torch.tensor(images).permute(0, 3, 1, 2),
        scale_factor=factor,
        mode="bilinear",
        align_corners=False,
    )
    np.testing.assert_allclose(
        layers.BilinearUpsample(factor)(images),
        expected.permute(0, 2, 3, 1),
        **ROUNDING,
    )


@pytest.mark.parametrize("factor", [0, 1.5])
def test_a_factor_that_is_no_positive_whole_number_is_refused(factor):
    with pytest.raises(ValueError, match=f"factor={factor}. Pass a positive"):
        layers.BilinearUpsample(factor)


def test_doubling_repeats_each_pixel_as_a_square():
    images = random_images(2, 3, 5, 4)
    expected = images.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(double_nearest(images), expected)


@pytest.mark.parametrize("padding", [(0, 1), (1, 0), (1, 1)])
def test_downsampling_is_a_strided_sum_over_explicit_padding(padding):
    images = random_images(1, 6, 8, 2)
    down = layers.Downsample(3, padding)
    down(images)
    kernel = random_images(3, 3, 2, 3, seed=1)
    down.conv.set_weights([kernel, np.zeros(3)])
    expected = weigh_patches(images, kernel, padding[0], stride=2)
    np.testing.assert_allclose(down(images), expected, **ROUNDING)


@pytest.mark.parametrize(
    "padding, out", [((0, 1), 3), ((1, 0), 3), ((1, 1), 4)]
)
def test_padding_on_both_sides_keeps_the_larger_half_of_odd_sizes(padding, out):
    images = random_images(1, 7, 7, 2)
    down = layers.Downsample(3, padding)
    assert down(images).shape == (1, out, out, 3)
    assert down.compute_output_shape(images.shape) == (1, out, out, 3)


@pytest.mark.parametrize("padding", [(2, 2), (0, 0), (1,)])
def test_another_padding_is_refused(padding):
    with pytest.raises(ValueError, match=r"padding=\("):
        layers.Downsample(3, padding=padding)


@pytest.mark.parametrize("kernel", [BOX, LINEAR])
def test_a_pyramid_step_is_two_convolutions_in_one_zero_border(kernel):
    images = random_images(2, 8, 6, 3)
    pyramid = layers.PyramidDownsample(4, kernel)
    pyramid(images)
    weights = random_images(3, 3, 3, 4, seed=1)
    bias = random_images(4, seed=2)
    pyramid.set_weights([weights, bias])
    # Pixels outside exist for the convolution too, and are zero there.
    border = len(kernel) // 2
    padded = np.pad(images, ((0, 0), (border,) * 2, (border,) * 2, (0, 0)))
    convolved = weigh_patches(padded, weights, before=0, stride=1)
    convolved = convolved[:, :-2, :-2]  # where the kernel lies inside
    expected = weigh_patches(
        convolved, square_filter(kernel, 4), before=0, stride=2
    )[:, :4, :3]
    np.testing.assert_allclose(pyramid(images), expected + bias, **ROUNDING)


def test_a_pyramid_step_equals_pytorchs_two_convolutions():
    torch = pytest.importorskip("torch")
    images = random_images(2, 8, 6, 3)
    pyramid = layers.PyramidDownsample(4, LINEAR)
    pyramid(images)
    weights = random_images(3, 3, 3, 4, seed=1)
    bias = random_images(4, seed=2)
    pyramid.set_weights([weights, bias])
    hidden = torch.nn.functional.conv2d(
        torch.tensor(images).permute(0, 3, 1, 2),
        torch.tensor(weights).permute(3, 2, 0, 1),
        padding=2,
    )
    square = torch.tensor(np.outer(LINEAR, LINEAR) / 64).float()
    expected = torch.nn.functional.conv2d(
        hidden, square[None, None].repeat(4, 1, 1, 1), stride=2, groups=4
    )
    np.testing.assert_allclose(
        pyramid(images), expected.permute(0, 2, 3, 1) + bias, **ROUNDING
    )


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_upsampling_interpolates_and_then_convolves(interpolation):
    images = random_images(2, 3, 5, 2)
    up = layers.Upsample(4, interpolation)
    up(images)
    kernel = random_images(3, 3, 2, 4, seed=1)
    up.conv.set_weights([kernel, np.zeros(4)])
    resample = {
        "nearest": layers.FilteredUpsample(),
        "bilinear": layers.BilinearUpsample(2),
    }
    doubled = np.asarray(resample[interpolation](images))
    expected = weigh_patches(doubled, kernel, before=1, stride=1)
    np.testing.assert_allclose(up(images), expected, **ROUNDING)


def test_transposed_upsampling_spreads_each_pixel_by_4x4_weights():
    images = random_images(2, 3, 5, 2)
    up = layers.Upsample(4, "transposed")
    assert up(images).shape == (2, 6, 10, 4)
    kernel = random_images(4, 4, 4, 2, seed=1)  # (rows, columns, out, in)
    up.conv.set_weights([kernel, np.zeros(4)])
    spread = np.zeros((2, 8, 12, 4))
    for row in range(3):
        for column in range(5):
            spread[:, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4] += (
                np.einsum("bc,hwdc->bhwd", images[:, row, column], kernel)
            )
    np.testing.assert_allclose(up(images), spread[:, 1:-1, 1:-1], **ROUNDING)


def test_transposed_upsampling_equals_pytorchs():
    torch = pytest.importorskip("torch")
    images = random_images(2, 3, 5, 2)
    up = layers.Upsample(4, "transposed")
    up(images)
    theirs = torch.nn.ConvTranspose2d(2, 4, kernel_size=4, stride=2, padding=1)
    # Theirs is (in, out, rows, columns), ours (rows, columns, out, in).
    kernel = theirs.weight.detach().permute(2, 3, 1, 0).numpy()
    up.conv.set_weights([kernel, theirs.bias.detach().numpy()])
    expected = theirs(torch.tensor(images).permute(0, 3, 1, 2)).detach()
    np.testing.assert_allclose(
        up(images), expected.permute(0, 2, 3, 1), **ROUNDING
    )


def test_an_unknown_interpolation_is_refused():
    with pytest.raises(ValueError, match="interpolation='cubic'. Choose"):
        layers.Upsample(4, "cubic")


@pytest.mark.parametrize(
    "down, up",
    [
        (layers.Downsample(2), layers.Upsample(2)),
        (layers.FilteredDownsample(LINEAR), layers.FilteredUpsample(LINEAR)),
        (layers.PyramidDownsample(2), layers.BilinearUpsample(2)),
        (layers.Downsample(2, (1, 1)), layers.Upsample(2, "bilinear")),
        (layers.Downsample(2, (1, 0)), layers.Upsample(2, "transposed")),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_resampling_takes_sizes_known_only_at_run_time(down, up):
    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 2))])
    def down_and_up(images):
        return up(down(images))

    for height, width in ((4, 6), (8, 2)):
        images = random_images(3, height, width, 2)
        assert down_and_up(images).shape == images.shape
    any_size = keras.Input((None, None, 2))
    assert up(down(any_size)).shape == (None, None, None, 2)
