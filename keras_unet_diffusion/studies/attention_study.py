"""Attention: none, in the middle, at one level, everywhere."""

from keras_unet_diffusion.studies.budget import BASELINE, variant
from keras_unet_diffusion.studies.comparison import compare, draw_comparison


def variants(budget):
    """The networks that are compared, a list of `Variant`."""
    sizes = [budget.image_size >> level for level in range(budget.num_levels)]
    coarsest = budget.num_levels - 1
    return [
        variant("none", middle_attention=False),
        variant("middle", BASELINE.make),
        *(
            variant(f"{sizes[level]}x{sizes[level]}", attention_levels=(level,))
            # Of images of 32 pixels, the second level has 16x16.
            for level in sorted({1, coarsest}, reverse=True)
        ),
        variant("everywhere", attention_levels=tuple(range(coarsest + 1))),
    ]


def run(laboratory):
    """Measures cost and gain of attention at the levels of a U-Net.

    Args:
        laboratory: a `Laboratory`.

    Returns:
        A `Result`.
    """
    return compare("attention", laboratory, variants(laboratory.budget))


draw = draw_comparison
