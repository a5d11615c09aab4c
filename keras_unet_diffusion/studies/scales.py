"""Which level of a U-Net carries what: at which noise, at which frequency."""

import keras
import numpy as np

from keras_unet_diffusion.network_calls import network_function
from keras_unet_diffusion.studies.budget import BASELINE
from keras_unet_diffusion.studies.comparison import TIME_LABEL
from keras_unet_diffusion.studies.figures import (
    draw_bars,
    draw_lines,
    label_axes,
    new_figure,
    use_log_scale,
)
from keras_unet_diffusion.studies.frequency import band_names, band_power
from keras_unet_diffusion.studies.laboratory import loss_by_time
from keras_unet_diffusion.studies.report import Result
from keras_unet_diffusion.studies.surgery import Roll, with_changed_level

# What is done to what a level brings to the decoder.
CHANGES = {
    "removed": keras.layers.Rescaling(0.0, name="removed"),
    "of another image": Roll(1, axis=0, name="of_another_image"),
}


def variants(budget):
    """The network that is changed, trained as it is, a list."""
    return [BASELINE]


def run(laboratory):
    """Measures the trained U-Net with one level changed, for each level.

    Args:
        laboratory: a `Laboratory`.

    Returns:
        A `Result`: errors over those of the network as it is.
    """
    trained = laboratory.train(BASELINE)
    network, num_levels = trained.network, laboratory.budget.num_levels
    names, times = band_names(num_levels), laboratory.validation.times
    rows, losses, bands = [], {}, {}
    for change, layer in CHANGES.items():
        for level, size in enumerate(network.level_names):
            cut = with_changed_level(network, level, layer)
            predict = network_function(cut)
            found, found_bands = [], []
            for _ in trained.of_each_seed():
                errors = laboratory.validation.errors(predict)
                found.append(loss_by_time(errors))
                found_bands.append(band_power(errors, num_levels))
            ratio = np.array(found) / trained.losses
            power = np.array(found_bands).mean(axis=(1, 2))
            band_ratio = power / trained.bands.mean(axis=1)
            name = f"{size} {change}"
            losses[name], bands[name] = ratio, band_ratio
            rows.append([name, *ratio.T, *band_ratio.T])
            laboratory.report(f"{name}: {ratio.mean():.1f} times the loss")
    return Result(
        "scales",
        (
            "what the level brings",
            *(f"t = {t:.2g}" for t in times),
            *(f"{name} cycles/pixel" for name in names),
        ),
        rows,
        {
            "times": times,
            "losses": losses,
            "bands": bands,
            "band_names": names,
        },
    )


def draw(result):
    """Draws the `Result`: what another image's level costs."""
    series = result.series
    figure, (by_band, by_time) = new_figure(2, widths=(1, 1.5), height=2.8)
    chosen = [x for x in series["losses"] if x.endswith("of another image")]
    short = {x: x.partition(" ")[0] for x in chosen}
    use_log_scale(by_time)
    draw_lines(
        by_time,
        series["times"],
        {short[x]: series["losses"][x] for x in chosen},
    )
    label_axes(
        by_time,
        TIME_LABEL,
        "loss / that of the whole network",
        "one level from another image",
    )
    use_log_scale(by_band)
    draw_bars(
        by_band,
        series["band_names"],
        {short[x]: series["bands"][x] for x in chosen},
    )
    label_axes(by_band, "cycles per pixel", "error / that of the whole network")
    return figure
