"""Networks beside each other: loss, error by frequency, and convergence."""

import numpy as np

from keras_unet_diffusion.studies.figures import (
    draw_lines,
    draw_points,
    label_axes,
    new_figure,
    use_log_scale,
    use_log_scale_if_wide,
)
from keras_unet_diffusion.studies.frequency import band_names
from keras_unet_diffusion.studies.report import Result

TIME_LABEL = "time t (0 clean, 1 noise)"


def compare(study, laboratory, variants, **columns):
    """Trains variants and puts what was measured of them beside each other.

    Args:
        study: str, its name.
        laboratory: a `Laboratory`.
        variants: list of `Variant`; ratios are to the first.
        **columns: further columns of the table by name, `_` for a space:
            functions of a `Trained` that return a cell.

    Returns:
        A `Result`.

    Raises:
        ValueError: the variants are not of equal size.
    """
    trained = laboratory.train_all(variants)
    first = trained[0]
    names = band_names(laboratory.budget.num_levels)
    rows = [
        [
            each.name,
            each.parameters,
            each.flops / 1e6,
            each.loss,
            each.loss / first.loss,
            *np.mean(each.bands, axis=1).T,
            *(column(each) for column in columns.values()),
        ]
        for each in trained
    ]
    return Result(
        study,
        (
            "network",
            "parameters",
            "MFLOP",
            "loss",
            f"loss / {first.name}",
            *(f"error at {name} cycles/pixel" for name in names),
            *(name.replace("_", " ") for name in columns),
        ),
        rows,
        comparison_series(laboratory, trained),
    )


def comparison_series(laboratory, trained):
    """The curves of some `Trained`, a dict for `Result.series`."""
    budget = laboratory.budget
    checks = np.arange(1, budget.num_checks + 1)
    return {
        "times": laboratory.validation.times,
        "steps": checks * (budget.train_steps // budget.num_checks),
        "band_names": band_names(budget.num_levels),
        "losses": {x.name: x.losses for x in trained},
        "bands": {x.name: x.bands for x in trained},
        "checks": {x.name: x.checks for x in trained},
    }


def draw_comparison(result):
    """Draws a `Result` of `compare`: three pictures beside each other.

    Args:
        result: a `Result`.

    Returns:
        A figure of matplotlib.
    """
    series = result.series
    first = next(iter(series["losses"]))
    figure, (by_time, by_band, by_step) = new_figure(3, height=2.7)
    baseline = np.array(series["losses"][first])
    ratios = {n: np.array(x) / baseline for n, x in series["losses"].items()}
    use_log_scale_if_wide(by_time, list(ratios.values()))
    draw_lines(by_time, series["times"], ratios, label_ends=False)
    label_axes(by_time, TIME_LABEL, f"loss / that of {first}")
    baseline = np.array(series["bands"][first]).mean(axis=1)
    ratios = {
        n: np.array(x).mean(axis=1) / baseline
        for n, x in series["bands"].items()
    }
    use_log_scale_if_wide(by_band, list(ratios.values()))
    draw_points(by_band, series["band_names"], ratios)
    label_axes(by_band, "cycles per pixel", f"error / that of {first}")
    use_log_scale(by_step)
    draw_lines(by_step, series["steps"], series["checks"])
    label_axes(by_step, "training step", "held-out loss")
    return figure
