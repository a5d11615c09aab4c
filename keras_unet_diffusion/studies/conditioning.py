"""Where a network is told the noise level: nowhere, once, in every block."""

from keras_unet_diffusion.studies.budget import BASELINE, variant
from keras_unet_diffusion.studies.comparison import compare, draw_comparison
from keras_unet_diffusion.studies.surgery import (
    with_noise_level_at_stem,
    without_noise_level,
)


def variants(budget):
    """The networks that are compared, a list of `Variant`."""
    return [
        variant("in every block", BASELINE.make),
        variant("at the stem", change=with_noise_level_at_stem),
        variant("nowhere", change=without_noise_level),
    ]


def run(laboratory):
    """Measures loss by time of three networks.

    All have the same blocks; those that are told nothing are told the noise
    level 0, so that what an embedding adds is a constant that they learn.

    Args:
        laboratory: a `Laboratory`.

    Returns:
        A `Result`.
    """
    return compare("conditioning", laboratory, variants(laboratory.budget))


draw = draw_comparison
