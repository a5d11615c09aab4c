"""A plain CNN against the U-Net, of as many parameters."""

import numpy as np

from keras_unet_diffusion.studies.budget import (
    BASELINE,
    make_plain_cnn,
    variant,
)
from keras_unet_diffusion.studies.comparison import (
    TIME_LABEL,
    compare,
)
from keras_unet_diffusion.studies.figures import (
    draw_images,
    draw_lines,
    label_axes,
    new_figure,
    use_log_scale,
)

_NUM_SAMPLES = 12


def variants(budget):
    """The U-Net, and a plain CNN that sees the whole image too."""
    return [
        BASELINE,
        variant("plain CNN", make_plain_cnn, num_layers=budget.plain_layers),
    ]


def run(laboratory):
    """Measures losses and samples of both; see `kud-study`.

    Args:
        laboratory: a `Laboratory`.

    Returns:
        A `Result`.
    """
    compared = variants(laboratory.budget)
    result = compare("plain_cnn", laboratory, compared)
    for each in compared:
        trained = laboratory.train(each)
        # The weights of the first seed.
        network = next(trained.of_each_seed())
        images = laboratory.sample(network, _NUM_SAMPLES, num_steps=50)
        samples = result.series.setdefault("samples", {})
        samples[each.name] = np.round(images.clip(-1, 1), 3)
    return result


def draw(result):
    """Draws the `Result`: loss over time, and samples of both."""
    series = result.series
    figure, (by_time, *grids) = new_figure(3, widths=(1.6, 1, 1), height=2.8)
    use_log_scale(by_time)
    draw_lines(by_time, series["times"], series["losses"])
    label_axes(by_time, TIME_LABEL, "held-out loss")
    for grid, (name, images) in zip(
        grids, series["samples"].items(), strict=True
    ):
        draw_images(grid, images, f"samples, {name}", num_columns=3)
    return figure
