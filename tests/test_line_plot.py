"""Diagrams: what is where in the picture."""

import numpy as np
import pytest

from keras_unet_diffusion.training.line_plot import line_plot

# The first and second of Okabe and Ito's colours, as they publish them.
BLUE, VERMILION = (0, 114, 178), (213, 94, 0)


def pixels_of(picture, color):
    """Rows and columns of the pixels of a colour, edges left out."""
    is_near = np.abs(picture.astype(int) - color).max(axis=-1) < 30
    return np.nonzero(is_near)


def frame_of(picture):
    """Top, bottom, left, right of the frame: its dark rows and columns."""
    is_dark = picture.max(axis=-1) < 120
    height, width = is_dark.shape
    rows = np.nonzero(is_dark.sum(axis=1) > width / 2)[0]
    columns = np.nonzero(is_dark.sum(axis=0) > height / 2)[0]
    return rows[0], rows[-1], columns[0], columns[-1]


def assert_diagonal(picture):
    """Asserts that a line goes from the frame's lower left to upper right."""
    top, bottom, left, right = frame_of(picture)
    rows, columns = pixels_of(picture, BLUE)
    expected = bottom + (columns - left) / (right - left) * (top - bottom)
    # Points have a radius of 3 pixels.
    assert np.abs(rows - expected).max() < 4
    assert columns.min() < left + 4 and columns.max() > right - 4


def test_equal_steps_are_equal_distances():
    x = np.linspace(0, 10, 11)
    assert_diagonal(line_plot({"line": (x, 3 * x)}, "x", "y"))


def test_equal_factors_are_equal_distances_on_a_logarithmic_axis():
    x = np.linspace(0, 3, 7)
    picture = line_plot({"line": (x, 10.0**x)}, "x", "y", log_y=True)
    assert_diagonal(picture)


def test_the_picture_has_the_size_asked_for():
    picture = line_plot({"a": ([0, 1], [0, 1])}, "x", "y", size=(300, 200))
    assert picture.shape == (200, 300, 3)
    assert picture.dtype == "uint8"


def test_two_curves_have_two_colours_and_their_names_are_told():
    x = [0, 1, 2]
    low, high = (x, [1, 2, 1]), (x, [4, 5, 4])
    one = line_plot({"low": low}, "x", "y")
    two = line_plot({"low": low, "high": high}, "x", "y")
    assert len(pixels_of(one, VERMILION)[0]) == 0
    top, bottom, _, _ = frame_of(two)
    for color in (BLUE, VERMILION):
        rows, _ = pixels_of(two, color)
        assert (rows < top).any() and ((rows > top) & (rows < bottom)).any()
    # The lower lies below.
    rows = [pixels_of(two, color)[0] for color in (BLUE, VERMILION)]
    assert rows[0].max() > rows[1].max()


@pytest.mark.parametrize("log_y", [False, True])
def test_points_that_cannot_be_drawn_are_left_out(log_y):
    x = np.arange(5.0)
    y = np.array([1.0, np.nan, 10.0, np.inf, 100.0])
    kept = np.isfinite(y)
    found = line_plot({"a": (x, y)}, "x", "y", log_y=log_y)
    expected = line_plot({"a": (x[kept], y[kept])}, "x", "y", log_y=log_y)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0])
def test_a_single_point_is_drawn_inside_the_frame(value):
    picture = line_plot({"a": ([5], [value])}, "x", "y")
    top, bottom, left, right = frame_of(picture)
    rows, columns = pixels_of(picture, BLUE)
    assert len(rows) and top < rows.min() and rows.max() < bottom
    assert left < columns.min() and columns.max() < right


@pytest.mark.parametrize(
    "curves, log_y, message",
    [
        ({}, False, "Received: 0"),
        ({str(k): ([0], [1]) for k in range(5)}, False, "Received: 5"),
        ({"loss": ([1], [np.nan])}, False, "names loss, log_y=False"),
        ({"loss": ([1], [-1.0])}, True, "names loss, log_y=True"),
    ],
)
def test_what_cannot_be_drawn_is_refused(curves, log_y, message):
    with pytest.raises(ValueError, match=message):
        line_plot(curves, "x", "y", log_y=log_y)
