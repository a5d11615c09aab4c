"""How figures of studies look: the same colours, axes and labels in all."""

import importlib.util
import io

import numpy as np
from PIL import Image

from keras_unet_diffusion.data import image_grid
from keras_unet_diffusion.files import written_whole

# Okabe and Ito 2008, "Color Universal Design": told apart by all. Yellow is
# left out, being pale on white.
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
)
_DPI = 144


def check_matplotlib():
    """Raises a `ValueError` if figures cannot be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError(
            "Figures are drawn by matplotlib. Received: an environment "
            "without it. Run pip install matplotlib, or leave figures out by "
            "--nofigure."
        )


def new_figure(num_columns, height=3.2, widths=None):
    """A figure with axes beside each other.

    Args:
        num_columns: int >= 1.
        height: float, inches; the width is 7.2 for all.
        widths: relative widths of the columns; None for equal ones.

    Returns:
        `(figure, axes)`, of matplotlib, `axes` an array.
    """
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(7.2, height), dpi=_DPI, layout="constrained", facecolor="white"
    )
    axes = figure.subplots(1, num_columns, squeeze=False, width_ratios=widths)[
        0
    ]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    return figure, axes


def save_figure(figure, path):
    """Writes a figure as a PNG file of 256 colours, a third of the size.

    Args:
        figure: of matplotlib.
        path: of the file.
    """
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    with Image.open(drawn) as picture, written_whole(path) as temporary:
        colours = picture.convert("RGB").quantize(256, dither=0)
        colours.save(temporary, format="PNG", optimize=True, dpi=(_DPI, _DPI))


def use_log_scale(axis):
    """Makes y logarithmic, with plain numbers at its ticks: powers of ten,
    and 2 and 5 times those where there are few."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    def minor(y, position):
        low, high = axis.get_ylim()
        return f"{y:g}" if high < 300 * low else ""

    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axis.yaxis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
    axis.yaxis.set_minor_formatter(FuncFormatter(minor))
    axis.tick_params(which="minor", labelsize=8)


def use_log_scale_if_wide(axis, values):
    """`use_log_scale`, if the largest value is ten times the least."""
    if np.max(values) > 10 * np.min(values):
        use_log_scale(axis)


def label_axes(axis, x, y, title=""):
    """Writes what the axes show, with units."""
    axis.set_xlabel(x, fontsize=8)
    axis.set_ylabel(y, fontsize=8)
    axis.set_title(title, fontsize=9, loc="left")


def draw_lines(axis, x, lines, label_ends=True, **options):
    """Draws lines with their spread, each with its name at its end.

    Args:
        axis: of matplotlib, its scales already set.
        x: `(points,)`.
        lines: dict of arrays `(seeds, points)` by name; the line is their
            mean, the band goes from the least to the largest.
        label_ends: bool. Whether names are written; not where the same
            colours bear their names beside it.
        **options: of `axis.plot`.
    """
    ends = {}
    for k, (name, values) in enumerate(lines.items()):
        values = np.asarray(values, float)
        colour = COLOURS[k % len(COLOURS)]
        axis.plot(
            x, values.mean(axis=0), color=colour, linewidth=1.5, **options
        )
        axis.fill_between(
            x,
            values.min(axis=0),
            values.max(axis=0),
            color=colour,
            alpha=0.18,
            linewidth=0,
        )
        ends[name] = (values[:, -1].mean(), colour)
    if label_ends:
        _label_ends(axis, x[-1], ends)


def _label_ends(axis, x, ends):
    """Names beside the ends of lines, moved apart where they would overlap."""
    low, high = axis.get_ylim()
    to_axis = axis.transData
    heights = {
        name: axis.transAxes.inverted().transform(to_axis.transform((x, y)))[1]
        for name, (y, _) in ends.items()
    }
    least = 0.075
    placed = {}
    below = -1.0
    for name in sorted(heights, key=heights.get):
        below = placed[name] = max(heights[name], below + least)
    # As many as fit: what sticks out above pushes the others down.
    above = max(1.02, max(heights.values()))
    for name in sorted(placed, key=placed.get, reverse=True):
        above = placed[name] = min(placed[name], above)
        above -= least
    axis.set_ylim(low, high)
    for name, (_, colour) in ends.items():
        axis.annotate(
            name,
            (1.02, placed[name]),
            xycoords="axes fraction",
            color=colour,
            fontsize=8,
            va="center",
            annotation_clip=False,
        )


def draw_bars(axis, groups, bars):
    """Draws bars in groups, with a dot for each seed.

    Args:
        axis: of matplotlib.
        groups: names of the groups, on the x axis.
        bars: dict of arrays `(seeds, groups)` by name.
    """
    for x, values, colour, width in _in_groups(axis, groups, bars):
        axis.bar(x, values.mean(axis=0), 0.92 * width, color=colour)
        axis.plot(np.tile(x, len(values)), values.ravel(), "k.", markersize=3)


def draw_points(axis, groups, points):
    """Draws means as lines in groups, with a dot for each seed.

    For ratios that differ little from 1, which bars from 0 would hide.

    Args:
        axis: of matplotlib.
        groups: names of the groups, on the x axis.
        points: dict of arrays `(seeds, groups)` by name.
    """
    for x, values, colour, width in _in_groups(axis, groups, points):
        ends = x - 0.4 * width, x + 0.4 * width
        axis.hlines(values.mean(axis=0), *ends, color=colour, linewidth=2)
        axis.plot(
            np.tile(x, len(values)),
            values.ravel(),
            ".",
            color=colour,
            markersize=4,
        )


def _in_groups(axis, groups, series):
    """Labels the groups; yields where each series stands in them, its values,
    its colour and how wide it may be."""
    width = 0.8 / len(series)
    for k, (_, values) in enumerate(series.items()):
        x = np.arange(len(groups)) + (k - (len(series) - 1) / 2) * width
        yield x, np.asarray(values, float), COLOURS[k % len(COLOURS)], width
    # In two lines, as there is little room: "1/16 to", "1/8".
    names = ["\n".join(name.rsplit(" ", 1)) for name in groups]
    axis.set_xticks(np.arange(len(groups)), names, fontsize=7)


def draw_images(axis, images, title, num_columns=4):
    """Draws images in a grid without axes.

    Args:
        axis: of matplotlib.
        images: `(images, height, width, channels)`, pixels in [-1, 1].
        title: str.
        num_columns: int >= 1.
    """
    grid = image_grid(np.asarray(images), num_columns)
    axis.imshow(grid.squeeze(), cmap="gray", vmin=0, vmax=255)
    axis.set_title(title, fontsize=8)
    axis.axis("off")
