"""Reading an architecture off the names and shapes in a checkpoint."""

import math
import re


class NamedShapes:
    """Shapes of a checkpoint by their names without the common prefix.

    Args:
        shapes: dict of shapes by name.
        prefix: str that stands before every name.
        rename: function of a name without prefix, to today's name.
    """

    def __init__(self, shapes, prefix="", rename=lambda name: name):
        self._shapes = {
            rename(name.removeprefix(prefix)): shape
            for name, shape in shapes.items()
            if name.startswith(prefix)
        }

    def __contains__(self, name):
        return name in self._shapes

    def of(self, name, num_dimensions):
        """The shape of a tensor, which must be there and of that length."""
        if name not in self._shapes:
            raise ValueError(
                "The checkpoint lacks a tensor from which the architecture "
                f"is read. Received: a file without {name}. Check that the "
                "file is whole and of the layout that was asked for."
            )
        shape = tuple(self._shapes[name])
        if len(shape) != num_dimensions:
            raise ValueError(
                "A tensor from which the architecture is read is of another "
                f"kind. Received: {name} of the shape {shape}, where "
                f"{num_dimensions} dimensions are expected. Check that the "
                "file is whole and of the layout that was asked for."
            )
        return shape

    def matching(self, pattern):
        """Matches of a regular expression with whole names, a list."""
        matches = (re.fullmatch(pattern, name) for name in self._shapes)
        return [match for match in matches if match]

    def numbers(self, pattern):
        """Different numbers that group 1 of matching names holds, sorted."""
        return sorted({int(match[1]) for match in self.matching(pattern)})


def multiplier(channels, base_channels):
    """Channels as a multiple of others: an int where it is whole."""
    if channels % base_channels == 0:
        return channels // base_channels
    return channels / base_channels


def exact_widths(channels):
    """Base channels and multipliers of which these are the exact products.

    The base is the first of the channels, unless a float is too short for a
    multiplier: 28 * (116 / 28) is a little less than 116.
    """
    base = channels[0]
    if any(base * multiplier(x, base) != x for x in channels):
        base = math.gcd(*channels)
    return base, tuple(multiplier(x, base) for x in channels)


def check_heads(head_channels, attention_channels):
    """Raises a `ValueError` for heads that do not make up the channels.

    Args:
        head_channels: int, channels of one head, or None for one head.
        attention_channels: the different channels that heads share.
    """
    channels = sorted(attention_channels)
    if head_channels and any(x % head_channels for x in channels):
        raise ValueError(
            "The channels of an attention head must divide the channels with "
            f"attention. Received: heads of {head_channels} for {channels}. "
            "Pass num_head_channels, which the file does not tell, as the "
            "network was made with it."
        )


def unless(value, default):
    """None where a value is what `UNet` takes by itself, else the value."""
    return None if value == default else value
