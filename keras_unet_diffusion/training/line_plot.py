"""A diagram of curves as a picture, without a library for plots."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Drawn larger by this factor and then reduced: smooth lines.
_SCALE = 3
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 32, 28, 40
_INK, _GRID = (40, 40, 40), (222, 222, 222)
# Okabe and Ito's colours, which the colour-blind can tell apart.
_COLORS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167))


def line_plot(curves, x_label, y_label, size=(640, 400), log_y=False):
    """Draws curves with axes, numbers and names.

    Args:
        curves: dict of `(x, y)` by name, two sequences of equal length; 1 to 4
            curves. Points that are not finite are left out.
        x_label: str.
        y_label: str.
        size: width and height in pixels.
        log_y: bool. Whether y is logarithmic; points that are not positive
            are then left out.

    Returns:
        uint8 numpy array `(height, width, 3)`.

    Raises:
        ValueError: there is no curve, more than four, or no point to draw.

    Example:

    ```python
    picture = line_plot({"training": (steps, losses)}, "steps", "loss")
    ```
    """
    if not 1 <= len(curves) <= len(_COLORS):
        raise ValueError(
            f"A plot shows 1 to {len(_COLORS)} curves. Received: "
            f"{len(curves)}. Pass those that are to be compared."
        )
    points = {n: _finite(x, y, log_y) for n, (x, y) in curves.items()}
    if not any(len(x) for x, _ in points.values()):
        raise ValueError(
            "There is no point to draw. Received: curves with the names "
            f"{', '.join(curves)}, log_y={log_y}. Pass finite numbers, "
            "positive ones for log_y=True."
        )
    width, height = size
    picture = Image.new("RGB", (width * _SCALE, height * _SCALE), "white")
    draw = ImageDraw.Draw(picture)
    frame = _Frame(size, points, log_y)
    frame.draw(draw, x_label, y_label)
    right = frame.right
    for (name, (x, y)), color in zip(points.items(), _COLORS, strict=False):
        line = list(zip(frame.to_x(x), frame.to_y(y), strict=True))
        draw.line(line, color, 2 * _SCALE, joint="curve")
        radius = 1.5 * _SCALE if len(line) > 30 else 3 * _SCALE
        for point in line:
            draw.circle(point, radius, fill=color)
        if len(points) > 1:
            right = _write(draw, right, 6 * _SCALE, name, "rt", color)
            right -= 12 * _SCALE
    return np.asarray(picture.resize(size, Image.Resampling.LANCZOS))


class _Frame:
    """The axes: where on the picture numbers lie."""

    def __init__(self, size, points, log_y):
        x = np.concatenate([x for x, _ in points.values()])
        y = np.concatenate([y for _, y in points.values()])
        self.left, self.right = _LEFT * _SCALE, (size[0] - _RIGHT) * _SCALE
        self.top, self.bottom = _TOP * _SCALE, (size[1] - _BOTTOM) * _SCALE
        self.x_ticks = _ticks(x)
        self.y_ticks = _decades(y) if log_y else _ticks(y)
        self.to_x = _axis(self.x_ticks, self.left, self.right, False)
        self.to_y = _axis(self.y_ticks, self.bottom, self.top, log_y)

    def draw(self, draw, x_label, y_label):
        left, right, top, bottom = self.left, self.right, self.top, self.bottom
        for tick in self.x_ticks:
            x = self.to_x(tick)
            draw.line([(x, top), (x, bottom)], _GRID, _SCALE)
            _write(draw, x, bottom + 6 * _SCALE, _number(tick), "mt")
        for tick in self.y_ticks:
            y = self.to_y(tick)
            draw.line([(left, y), (right, y)], _GRID, _SCALE)
            _write(draw, left - 6 * _SCALE, y, _number(tick), "rm")
        draw.rectangle([left, top, right, bottom], outline=_INK, width=_SCALE)
        below = bottom + (_BOTTOM - 2) * _SCALE
        _write(draw, (left + right) / 2, below, x_label, "mb")
        _write(draw, 4 * _SCALE, 6 * _SCALE, y_label, "lt")


def _finite(x, y, log_y):
    x, y = np.asarray(x, "float64"), np.asarray(y, "float64")
    kept = np.isfinite(x) & np.isfinite(y)
    if log_y:
        kept &= y > 0
    return x[kept], y[kept]


def _ticks(values):
    """3 to 8 round numbers in equal distances around all values."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    exponent = math.floor(math.log10(high - low)) - 1
    for factor in (1, 2, 5, 10, 20, 50, 100):
        step = factor * 10.0**exponent
        first, last = math.floor(low / step), math.ceil(high / step)
        if last - first <= 7:
            break
    return np.arange(first, last + 1) * step


def _decades(values):
    """Powers of ten around all values, with 2 and 5 between if few."""
    low, high = math.log10(values.min()), math.log10(values.max())
    first, last = math.floor(low), math.ceil(high)
    last = max(last, first + 1)
    factors = (1, 2, 5) if last - first <= 2 else (1,)
    ticks = [f * 10.0**e for e in range(first, last) for f in factors]
    ticks = np.array([*ticks, 10.0**last])
    # No more room than is needed.
    start = np.searchsorted(ticks, values.min(), "right") - 1
    end = np.searchsorted(ticks, values.max(), "left") + 1
    start = max(start, 0)
    return ticks[start : max(end, start + 2)]


def _axis(ticks, begin, end, is_log):
    """The function from numbers to places on the picture."""
    scale = np.log10 if is_log else np.asarray
    low, high = scale(ticks[0]), scale(ticks[-1])
    return lambda v: begin + (scale(v) - low) / (high - low) * (end - begin)


def _number(value):
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _write(draw, x, y, text, anchor, color=_INK):
    """Writes a text; returns the place of its left edge."""
    font = ImageFont.load_default(12 * _SCALE)
    draw.text((x, y), text, color, font, anchor)
    return draw.textbbox((x, y), text, font, anchor)[0]
