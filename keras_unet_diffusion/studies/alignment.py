"""A prediction that lies one pixel beside its place, and what it costs."""

import numpy as np

from keras_unet_diffusion.network_calls import network_function
from keras_unet_diffusion.studies.budget import BASELINE, variant
from keras_unet_diffusion.studies.comparison import TIME_LABEL
from keras_unet_diffusion.studies.figures import (
    draw_images,
    draw_lines,
    label_axes,
    new_figure,
    use_log_scale,
)
from keras_unet_diffusion.studies.frequency import band_names, band_power
from keras_unet_diffusion.studies.laboratory import loss_by_time
from keras_unet_diffusion.studies.report import Result
from keras_unet_diffusion.studies.surgery import (
    Roll,
    with_changed_level,
    with_shifted_prediction,
)

_NUM_SAMPLES = 8


def variants(budget):
    """The U-Net, and one that learns with a shift, a list of `Variant`."""
    return [BASELINE, variant("trained so", change=with_shifted_prediction)]


def run(laboratory):
    """Measures the trained U-Net with parts of it shifted by one pixel.

    And, for comparison, one that was trained with its prediction shifted.

    Args:
        laboratory: a `Laboratory`.

    Returns:
        A `Result`.
    """
    baseline, retrained = laboratory.train_all(variants(laboratory.budget))
    network = baseline.network
    to_the_right = Roll(1, axis=2, name="shifted_skip")
    cases = {
        "aligned": (baseline, network),
        "finest skips shifted": (
            baseline,
            with_changed_level(network, 0, to_the_right),
        ),
        "prediction shifted": (baseline, with_shifted_prediction(network)),
        "shifted in training too": (retrained, retrained.network),
    }
    num_bands = laboratory.budget.num_levels
    rows, losses, samples = [], {}, {}
    for name, (trained, changed) in cases.items():
        predict = network_function(changed)
        found, bands = [], []
        for seed, _ in enumerate(trained.of_each_seed()):
            errors = laboratory.validation.errors(predict)
            found.append(loss_by_time(errors))
            bands.append(band_power(errors, num_bands).mean(axis=(0, 1)))
            if seed == 0:
                images = laboratory.sample(changed, _NUM_SAMPLES, num_steps=50)
                samples[name] = np.round(images.clip(-1, 1), 3)
        losses[name] = np.array(found)
        loss = losses[name].mean(axis=1)
        ratio = loss / losses["aligned"].mean(axis=1)
        half = losses[name].shape[1] // 2
        rows.append(
            [
                name,
                loss,
                ratio,
                losses[name][:, :half].mean(axis=1),
                losses[name][:, half:].mean(axis=1),
                *np.array(bands).T,
            ]
        )
        laboratory.report(f"{name}: loss {loss.mean():.4f}")
    return Result(
        "alignment",
        (
            "network",
            "loss",
            "loss / aligned",
            "loss, t < 1/2",
            "loss, t > 1/2",
            *(f"error at {x} cycles/pixel" for x in band_names(num_bands)),
        ),
        rows,
        {
            "times": laboratory.validation.times,
            "losses": losses,
            "samples": samples,
        },
    )


def draw(result):
    """Draws the `Result`: losses over time, and samples."""
    series = result.series
    samples = series["samples"]
    figure, (by_time, *grids) = new_figure(
        1 + len(samples), widths=(3, *(1,) * len(samples)), height=2.8
    )
    use_log_scale(by_time)
    draw_lines(by_time, series["times"], series["losses"])
    label_axes(by_time, TIME_LABEL, "held-out loss")
    for grid, (name, images) in zip(grids, samples.items(), strict=True):
        draw_images(grid, images, name.replace(" ", "\n", 1), num_columns=2)
    return figure
