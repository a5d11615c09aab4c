"""Augmentation: what is done to images, and what the network is told."""

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from keras_unet_diffusion.training import Augmentation


def random_images(count, height=6, width=8, channels=2):
    random = np.random.default_rng(0)
    shape = (count, height, width, channels)
    return random.uniform(-1, 1, shape).astype("float32")


def parameters(**values):
    """One image's parameters, zero but for those named."""
    names = (
        "x",
        "y",
        "scale",
        "angle",
        "direction",
        "stretch",
        "right",
        "down",
    )
    assert set(values) <= set(names)
    return tf.constant([[values.get(name, 0.0) for name in names]], tf.float32)


def changed(images, **values):
    return Augmentation().transform(images, parameters(**values)).numpy()


def draw(count, probability):
    random = np.random.default_rng(1)
    return (
        Augmentation(probability)
        .parameters(
            tf.constant(random.random((count, 10)), tf.float32),
            tf.constant(random.standard_normal((count, 4)), tf.float32),
        )
        .numpy()
    )


@pytest.mark.parametrize("jit_compile", [False, True])
def test_nothing_is_changed_exactly_where_nothing_is_drawn(jit_compile):
    images = random_images(3)
    augmentation = Augmentation(0.0)
    drawn = draw(3, 0.0)
    transform = tf.function(augmentation.transform, jit_compile=jit_compile)
    np.testing.assert_array_equal(transform(images, drawn), images)
    np.testing.assert_array_equal(augmentation.labels(drawn), 0)


def test_flips_are_exact():
    images = random_images(1)
    np.testing.assert_array_equal(changed(images, x=1), images[:, :, ::-1])
    np.testing.assert_array_equal(changed(images, y=1), images[:, ::-1])


def test_a_quarter_turn_is_a_quarter_turn():
    images = random_images(1, 8, 8)
    # Rows count downwards, so a positive angle turns clockwise. The angle is
    # known to 1e-7, and the slope of an image is some units a pixel.
    np.testing.assert_allclose(
        changed(images, angle=np.pi / 2),
        np.rot90(images, -1, axes=(1, 2)),
        atol=2e-5,
    )


def test_a_translation_of_whole_pixels_reflects_at_the_border():
    images = random_images(1, 8, 8)
    # An eighth of eight pixels.
    right = changed(images, right=1.0)
    np.testing.assert_allclose(right[:, :, 1:], images[:, :, :-1], atol=1e-6)
    np.testing.assert_allclose(right[:, :, 0], images[:, :, 1], atol=1e-6)
    far = changed(images, down=-2.0)
    expected = np.pad(images, ((0, 0), (0, 2), (0, 0), (0, 0)), "reflect")
    np.testing.assert_allclose(far, expected[:, 2:], atol=1e-6)


def test_all_changes_follow_each_other_in_the_order_of_the_table():
    # A smooth image, given by a formula at any point: two reads of it differ
    # by the error of interpolation alone.
    def image(x, y):
        return np.sin(0.11 * x + 0.3) * np.cos(0.09 * y)

    size, center = 64, 31.5
    rows, columns = np.mgrid[:size, :size].astype(float)
    smooth = image(columns - center, rows - center)
    given = {
        "x": 1.0, "scale": 0.7, "angle": 0.4, "direction": 1.1,
        "stretch": -0.6, "right": 0.3, "down": -0.2,
    }  # fmt: skip

    def turn(angle):
        cos, sin = np.cos(angle), np.sin(angle)
        return np.array([[cos, -sin], [sin, cos]])

    strength = 2 ** (0.2 * given["stretch"])
    stretch = np.diag([strength, 1 / strength])
    forward = (
        turn(given["direction"]) @ stretch @ turn(-given["direction"])
    ) @ (
        turn(given["angle"])
        @ np.diag([2 ** (0.2 * given["scale"])] * 2)
        @ np.diag([-1.0, 1.0])
    )
    moved = np.stack([columns, rows], -1) - center
    moved -= np.array([given["right"], given["down"]]) * size / 8
    sources = moved @ np.linalg.inv(forward).T
    result = changed(smooth[None, ..., None].astype("float32"), **given)
    expected = image(sources[..., 0], sources[..., 1])
    inside = np.abs(sources).max(axis=-1) < center - 2
    assert inside.mean() > 0.4
    # Cubic interpolation errs by the cube of 0.1 per pixel, and less.
    error = np.abs(result[0, ..., 0] - expected)[inside].max()
    assert error < 1e-4


def test_between_pixels_it_is_cubic_convolution():
    # Keys' kernel at half a pixel: -1/16, 9/16, 9/16, -1/16.
    images = random_images(1, 8, 8)
    half = changed(images, right=0.5)
    kernel = np.array([-1, 9, 9, -1]) / 16
    expected = scipy.ndimage.correlate1d(images, kernel, axis=2, mode="mirror")
    np.testing.assert_allclose(half, expected, atol=1e-6)


def test_each_change_is_made_with_its_probability():
    drawn = draw(20_000, 0.2)
    # Five standard deviations of a share of 20,000, at most a half.
    tolerance = 5 * (0.25 / 20_000) ** 0.5
    is_made = drawn != 0
    # A flip that is considered is made half of the time, and that from left
    # to right is considered always.
    shares = [0.5, 0.1, *[0.2] * 6]
    np.testing.assert_allclose(is_made.mean(axis=0), shares, atol=tolerance)
    np.testing.assert_array_equal(is_made[:, 4], is_made[:, 5])
    np.testing.assert_array_equal(is_made[:, 6], is_made[:, 7])
    # Different changes are drawn apart.
    both = (is_made[:, 2] & is_made[:, 3]).mean()
    assert both == pytest.approx(0.04, abs=tolerance)


@pytest.mark.parametrize("probability", [0.01, 0.12, 1.0])
def test_half_of_all_images_are_mirrored_however_few_are_changed(probability):
    # EDM's recipe: AugmentPipe(p=0.12, xflip=1e8, yflip=1, ...) considers
    # what is more likely than 1.
    mirrored = draw(20_000, probability)[:, 0]
    # Five standard deviations of a share of 20,000.
    tolerance = 5 * (0.25 / 20_000) ** 0.5
    assert mirrored.mean() == pytest.approx(0.5, abs=tolerance)


def test_the_labels_tell_the_change():
    labels = Augmentation().labels(
        parameters(x=1, scale=0.5, angle=1, direction=2, stretch=3, down=0.25)
    )
    expected = [
        1, 0, 0.5, np.cos(1) - 1, np.sin(1), 3 * np.cos(2), 3 * np.sin(2), 0,
        0.25,
    ]  # fmt: skip
    np.testing.assert_allclose(labels[0], expected, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 3)])
def test_the_smallest_images_stay_within_their_values(size):
    images = np.full((1, *size, 1), 0.5, "float32")
    values = {"angle": 2.0, "right": 30.0, "scale": -3.0}
    # Weights sum to one, up to float32.
    np.testing.assert_allclose(changed(images, **values), 0.5, atol=1e-5)


@pytest.mark.parametrize("probability", [-0.1, 1.1])
def test_a_probability_out_of_range_is_refused(probability):
    with pytest.raises(ValueError, match=f"probability={probability}"):
        Augmentation(probability)
