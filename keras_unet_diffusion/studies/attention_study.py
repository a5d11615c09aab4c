"""Attention: none, in the middle, at one level, everywhere."""

from keras_unet_diffusion.studies.budget import BASELINE, variant
from keras_unet_diffusion.studies.comparison import compare, draw_comparison


def run(laboratory):
    """Measures cost and gain of attention at the levels of a U-Net.

    Args:
        laboratory: a `Laboratory`.

    Returns:
        A `Result`.
    """
    budget = laboratory.budget
    coarsest = budget.num_levels - 1
    sizes = [budget.image_size >> level for level in range(coarsest + 1)]
    variants = [
        variant("none", middle_attention=False),
        variant("middle", BASELINE.make),
        variant(
            f"{sizes[coarsest]}x{sizes[coarsest]}",
            attention_levels=(coarsest,),
        ),
        variant(
            f"{sizes[coarsest - 1]}x{sizes[coarsest - 1]}",
            attention_levels=(coarsest - 1,),
        ),
        variant("everywhere", attention_levels=tuple(range(coarsest + 1))),
    ]
    return compare("attention", laboratory, variants)


draw = draw_comparison
