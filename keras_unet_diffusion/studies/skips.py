"""Skips: concatenated, added, scaled, or none."""

import math

from keras_unet_diffusion.studies.budget import BASELINE, variant
from keras_unet_diffusion.studies.comparison import compare, draw_comparison


def variants(budget):
    """The networks that are compared, a list of `Variant`."""
    return [
        variant("concatenated", BASELINE.make),
        variant("added", skip_connections="add"),
        variant("scaled by 0.71", skip_scale=math.sqrt(0.5)),
        variant("none", skip_connections="none"),
    ]


def run(laboratory):
    """Measures loss, error by frequency and convergence of four kinds.

    Args:
        laboratory: a `Laboratory`.

    Returns:
        A `Result`.
    """
    return compare("skips", laboratory, variants(laboratory.budget))


draw = draw_comparison
