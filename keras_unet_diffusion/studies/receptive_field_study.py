"""How far a network sees, and what becomes of large structures if not far."""

import numpy as np

from keras_unet_diffusion.studies.budget import (
    BASELINE,
    make_plain_cnn,
    variant,
)
from keras_unet_diffusion.studies.figures import (
    draw_lines,
    label_axes,
    new_figure,
    use_log_scale_if_wide,
)
from keras_unet_diffusion.studies.frequency import band_names
from keras_unet_diffusion.studies.receptive_field import (
    effective_receptive_field,
    theoretical_receptive_field,
)
from keras_unet_diffusion.studies.report import Result

# Convolutions of the plain networks that see less than the image.
_DEPTHS = (2, 3, 5)
_NUM_IMAGES = 32


def variants(budget):
    """Plain CNNs of growing depth, and the U-Net, a list of `Variant`."""
    plain = [
        variant(f"plain CNN, {n} layers", make_plain_cnn, num_layers=n)
        for n in (*_DEPTHS, budget.plain_layers)
    ]
    return [*plain, BASELINE]


def run(laboratory):
    """Measures both receptive fields and the errors by frequency.

    Args:
        laboratory: a `Laboratory`.

    Returns:
        A `Result`; errors are those at the noisier half of the times, where
        large structures are all that is left to see.
    """
    trained = laboratory.train_all(variants(laboratory.budget))
    rows, fields, distances = [], {}, {}
    for each in trained:
        seen = _effective_fields(laboratory, each)
        fields[each.name] = seen.mean(axis=0)
        distances[each.name] = [mean_distance(field) for field in seen]
        rows.append(
            [
                each.name,
                theoretical_receptive_field(each.network),
                distances[each.name],
                each.loss,
                *_noisier_half(each.bands).T,
            ]
        )
    names = band_names(laboratory.budget.num_levels)
    return Result(
        "receptive_field",
        (
            "network",
            "receptive field, pixels",
            "mean distance of what matters, pixels",
            "loss",
            *(f"error at {name} cycles/pixel, noisy half" for name in names),
        ),
        rows,
        {
            "fields": fields,
            "receptive_fields": {row[0]: row[1] for row in rows},
            "bands": {x.name: _noisier_half(x.bands) for x in trained},
            "band_names": names,
        },
    )


def mean_distance(field):
    """Mean distance in pixels from the centre, weighed by a field.

    Args:
        field: `(height, width)`, not negative; the centre is the pixel
            `(height // 2, width // 2)`.

    Returns:
        float.
    """
    height, width = np.shape(field)
    rows, columns = np.indices((height, width))
    distance = np.hypot(rows - height // 2, columns - width // 2)
    return float((field * distance).sum() / np.sum(field))


def _noisier_half(bands):
    """Mean `(seeds, bands)` over the later half of the times."""
    return bands[:, bands.shape[1] // 2 :].mean(axis=1)


def _effective_fields(laboratory, trained):
    """Influence `(seeds, height, width)` on the pixel in the middle."""
    validation = laboratory.validation
    middle = validation.times[len(validation.times) // 2]
    inputs = {
        name: x[:_NUM_IMAGES] for name, x in validation.noisy(middle).items()
    }
    size = laboratory.budget.image_size
    return np.array(
        [
            effective_receptive_field(network, inputs, (size // 2, size // 2))
            for network in trained.of_each_seed()
        ]
    )


def draw(result):
    """Draws the `Result`: effective fields, and errors over the size."""
    series = result.series
    fields = series["fields"]
    figure, axes = new_figure(
        len(fields) + 1, height=2.3, widths=(*(1,) * len(fields), 2.2)
    )
    for axis, (name, field) in zip(axes, fields.items(), strict=False):
        field = np.array(field)
        # Logarithmic, over four powers of ten.
        shown = np.log10(np.maximum(field / field.max(), 1e-4))
        axis.imshow(shown, cmap="cividis", vmin=-4, vmax=0)
        size = series["receptive_fields"][name]
        short = name.replace("plain CNN, ", "")
        axis.set_title(f"{short}\nsees {size} px", fontsize=7)
        axis.axis("off")
    plain = [name for name in fields if name != "U-Net"]
    sizes = [series["receptive_fields"][name] for name in plain]
    unet = np.array(series["bands"]["U-Net"])
    lines = {
        band: np.array([series["bands"][name] for name in plain])[..., k].T
        / unet[:, k : k + 1]
        for k, band in enumerate(series["band_names"])
    }
    use_log_scale_if_wide(axes[-1], list(lines.values()))
    draw_lines(axes[-1], sizes, lines, marker=".")
    axes[-1].axhline(1, color="#666666", linewidth=0.8, linestyle="--")
    label_axes(
        axes[-1],
        "receptive field of the plain CNN, px",
        "error / U-Net's",
        "by cycles per pixel, noisy half",
    )
    return figure
