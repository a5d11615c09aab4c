"""What the page of a network shows, as one JSON value."""

import dataclasses
import math

import keras
import numpy as np
from keras import ops

from keras_unet_diffusion.diffusion import ImagePrediction
from keras_unet_diffusion.studies.anatomy import describe
from keras_unet_diffusion.studies.denoising import denoise_step_by_step
from keras_unet_diffusion.studies.explanations import explain
from keras_unet_diffusion.studies.features import (
    inputs_at,
    low_resolution,
    noise_levels,
    noise_range,
    shown_channels,
    shrunk,
    watch,
)
from keras_unet_diffusion.studies.pictures import (
    encode_all,
    feature_sheet,
    picture_bytes,
)
from keras_unet_diffusion.studies.process_explanations import (
    explain_prediction,
    explain_told,
)
from keras_unet_diffusion.studies.receptive_field import (
    effective_receptive_field,
    measured_receptive_field,
)

# Of all pictures, so that the page stays under 5 MB with its library.
_MOST_BYTES = 4_300_000
_MOST_PICTURE_PIXELS = 256
_MOST_HEAT_PIXELS = 64
# Operations up to which heat maps are cheap: about a minute of two cores.
_CHEAP_FLOPS = 2.5e12
# Channels of which a block's heat map is the mean.
_HEAT_CHANNELS = 3
HEAT_MAPS = ("auto", "all", "none")
# Blocks up to which measuring all is cheap: half a second each if small.
_CHEAP_BLOCKS = 40
MEASURED = ("auto", "all", "output", "none")


@dataclasses.dataclass(frozen=True)
class Options:
    """What is computed for a page.

    Args:
        num_levels: int >= 1. Positions of the slider over the noise level.
        num_steps: int >= 1. Steps of the denoising strip.
        noise_level: float > 0. Noise per image, sigma / alpha, at which the
            page opens, or the nearest of the levels. At 0.5 one can still
            make out the image.
        heat_maps: "auto" draws effective receptive fields of all blocks if
            that is cheap; "all" or "none".
        measured: which receptive fields are measured from gradients beside
            the arithmetic: "all", of every block; "output", that of the
            network; "auto", all of a network of few blocks; or "none".
        say: function of a str, called as work goes on; None for silence.
    """

    num_levels: int = 8
    num_steps: int = 12
    noise_level: float = 0.5
    heat_maps: str = "auto"
    measured: str = "auto"
    say: object = None

    def tell(self, message):
        if self.say is not None:
            self.say(message)


def page_data(network, process, subject, about, options=None):
    """Computes all that a page shows.

    Args:
        network: any network of this library.
        process: the `DiffusionProcess` that it was trained with.
        subject: the `features.Subject` that is followed through the network.
        about: dict of words for the page: `title`, `weights` (what is known
            of where they come from), `is_trained`, `image` (what the image
            is), and, if it is known, `label_name` (of the class that the
            network is told).
        options: `Options`; None for the defaults.

    Returns:
        dict of what JSON knows.

    Raises:
        ValueError: the page is to open at a noise level that it does not
            show; and see `anatomy.describe`, `noise_levels` and
            `denoise_step_by_step`.
    """
    options = options or Options()
    _check_noise_level(process.schedule, options)
    size = subject.image.shape[0]
    any_size = None in network.input["noisy_images"].shape[1:3]
    blocks = describe(network, size if any_size else None)
    points = noise_levels(process.schedule, options.num_levels)
    names = [block.name for block in blocks]
    options.tell(f"Following an image through {len(blocks)} blocks.")
    features = watch(network, process, subject, points, names)
    sheets = {name: feature_sheet(features[name]) for name in names}
    pictures = {f"block {name}": sheets[name][0] for name in names}
    pictures["levels"] = np.concatenate(
        [_shown(subject.noisy(p)[0] / _spread(p)) for p in points], axis=1
    )
    pictures["image"] = _shown(subject.image)
    options.tell("Denoising step by step.")
    strip = _strip(network, process, subject, options.num_steps, pictures)
    opens_at = _nearest(points, options.noise_level)
    inputs = inputs_at(network, process, subject, points[opens_at])
    no_heat = _why_no_heat_maps(blocks, options)
    heat = {} if no_heat else _heat_maps(network, blocks, inputs, options)
    pictures |= {f"heat {name}": pixels for name, pixels in heat.items()}
    measured = _measured(network, blocks, options)
    return {
        "about": _about(network, process, subject, blocks, about),
        "levels": [_level(process, point) for point in points],
        "level": opens_at,
        "blocks": [
            _block(network, block, features, sheets, measured)
            for block in blocks
        ],
        "strip": strip,
        "no_heat": no_heat,
        "pictures": encode_all(pictures, _MOST_BYTES),
    }


def _check_noise_level(schedule, options):
    least, most = noise_range(schedule)
    if not least <= options.noise_level <= most:
        raise ValueError(
            f"The page shows noise levels from {least:.4g} to {most:.4g}. "
            f"Received: noise_level={options.noise_level}. Pass a number in "
            "between."
        )


def _about(network, process, subject, blocks, about):
    height, width, channels = subject.image.shape
    total = {
        name: sum(getattr(block, name) for block in blocks)
        for name in ("parameters", "flops", "activation_bytes")
    }
    told = subject.label
    if told is not None:
        told = f"class {about.get('label_name', told)}"
    predicts = explain_prediction(process.prediction)
    return (
        about
        | total
        | {
            "network": type(network).__name__,
            "height": height,
            "width": width,
            "channels": channels,
            "label": subject.label,
            "told": told,
            "inputs": sorted(network.input),
            "schedule": type(process.schedule).__name__,
            "prediction": type(process.prediction).__name__,
            "predicts": predicts._asdict(),
            "shows_image": _shows_image(process),
            "noise_level_is": explain_told(process),
        }
    )


def _shows_image(process):
    """Whether a prediction is shown as it is, as an image, not scaled."""
    return isinstance(process.prediction, ImagePrediction)


def _level(process, point):
    told = process.noise_level_at(
        type(point)(*(ops.convert_to_tensor(x, "float32") for x in point))
    )
    return {
        "t": _rounded(point.t),
        "alpha": _rounded(point.alpha),
        "sigma": _rounded(point.sigma),
        "ratio": _rounded(_ratio(point)),
        "told": _rounded(float(told)),
    }


def _block(network, block, features, sheets, measured):
    """One block with its words, as JSON."""
    words = explain(block.kind, network.get_layer(block.name))
    seen = features[block.name]
    facts = dataclasses.asdict(block)
    facts["source"] = _place(block.source)
    return (
        facts
        | words._asdict()
        | {
            "tile": sheets[block.name][1],
            "shown": len(seen.channels),
            "rms": [_rounded(value) for value in seen.rms],
            "measured": measured.get(block.name),
        }
    )


def _place(source):
    """Where a class stands: a line of this library, or a layer of Keras."""
    where, what = source
    return f"keras.layers.{what}" if where == "keras" else f"{where}:{what}"


def _strip(network, process, subject, num_steps, pictures):
    """What the sampler sees step by step; its sheet goes to `pictures`."""
    size = subject.image.shape[0]
    any_size = None in network.input["noisy_images"].shape[1:3]
    steps, image = denoise_step_by_step(
        network,
        process,
        num_steps,
        subject.seed,
        subject.label,
        size if any_size else None,
        low_resolution(network, subject.image),
    )
    columns = []
    for step in steps:
        unit = 1.0 if _shows_image(process) else 3 * _rms(step.prediction)
        columns.append(
            (
                _shown(step.x_t / _spread(step.point)),
                _shown(step.prediction / max(unit, 1e-12)),
                _shown(step.x_0),
            )
        )
    rows = [np.concatenate(row, axis=1) for row in zip(*columns, strict=True)]
    pictures["strip"] = np.concatenate(rows, axis=0)
    pictures["result"] = _shown(image)
    return [
        _level(process, step.point) | {"rms": _rounded(_rms(step.prediction))}
        for step in steps
    ]


def _why_no_heat_maps(blocks, options):
    """Why there are to be none, in words; None if there are."""
    if options.heat_maps == "none":
        return "left out by heat_maps=none"
    flops, until = 0, 0
    for block in _seeing(blocks):
        until += block.flops
        # A gradient costs about twice what it is the gradient of.
        flops += until * (1 + 2 * _HEAT_CHANNELS)
    if options.heat_maps == "auto" and flops > _CHEAP_FLOPS:
        return "would have taken long; heat_maps=all draws it"
    return None


def _heat_maps(network, blocks, inputs, options):
    """Effective receptive fields of the blocks' middle pixels, as bytes."""
    options.tell("Drawing effective receptive fields.")
    found = {}
    for block in _seeing(blocks):
        output = network.get_layer(block.name).output
        channels = shown_channels(output.shape[-1], _HEAT_CHANNELS)
        few = ops.take(output, list(channels), axis=-1)
        part = keras.Model(network.input, ops.cast(few, "float32"))
        middle = (block.height // 2, block.width // 2)
        field = effective_receptive_field(part, inputs, middle)
        field = shrunk(field[..., None], _MOST_HEAT_PIXELS)[..., 0]
        # The root: what is small counts too, and would not be seen.
        share = np.sqrt(field / max(field.max(), np.finfo("float64").tiny))
        found[block.name] = np.round(255 * share).astype("uint8")
    return found


def _measured(network, blocks, options):
    """Receptive fields from gradients by name of the block."""
    if options.measured == "none":
        return {}
    names = [block.name for block in _seeing(blocks)]
    is_cheap = len(names) <= _CHEAP_BLOCKS
    if options.measured == "output" or (
        options.measured == "auto" and not is_cheap
    ):
        names = names[-1:]
    options.tell("Measuring receptive fields.")
    return {name: measured_receptive_field(network, name) for name in names}


def _seeing(blocks):
    """Those that see the noisy image."""
    return [block for block in blocks if block.receptive_field is not None]


def _shown(image):
    return picture_bytes(shrunk(image, _MOST_PICTURE_PIXELS))


def _spread(point):
    """What x_t is divided by to be looked at: schedules that add noise to an
    unchanged image make large numbers."""
    return math.hypot(point.alpha, point.sigma)


def _ratio(point):
    return point.sigma / point.alpha if point.alpha else math.inf


def _nearest(points, ratio):
    distances = [abs(math.log(_ratio(point) / ratio)) for point in points]
    return int(np.argmin(distances))


def _rms(image):
    return float(np.sqrt(np.mean(np.square(image, dtype="float64"))))


def _rounded(number):
    """Four digits; JSON knows no infinity."""
    return float(f"{number:.4g}") if math.isfinite(number) else None
