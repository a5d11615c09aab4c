"""The command that explains a network by a page: `kud-explain`."""

import sys
from pathlib import Path

import keras

from keras_unet_diffusion.cli.command import (
    check_given,
    check_place,
    load_diffusion_model,
    run_command,
)
from keras_unet_diffusion.cli.explain_flags import check_flags, define_flags
from keras_unet_diffusion.cli.explain_image import find_subject, flags_of_run
from keras_unet_diffusion.cli.process_choices import SCHEDULES
from keras_unet_diffusion.diffusion import (
    CosineSchedule,
    DiffusionProcess,
    EDMPrediction,
    EDMSchedule,
    VelocityPrediction,
)
from keras_unet_diffusion.functional_network import FunctionalNetwork
from keras_unet_diffusion.generation import ImageGenerator
from keras_unet_diffusion.magnitude_preserving_unet import (
    MagnitudePreservingUNet,
)
from keras_unet_diffusion.published import PUBLISHED
from keras_unet_diffusion.studies.page import write_page
from keras_unet_diffusion.studies.page_data import Options
from keras_unet_diffusion.unet import UNet

DESCRIPTION = """Explains a network by one page that needs no network access.

The page draws the network to scale, and shows of each block what it does, what
it costs, what it can see, and what it makes of an image at many noise levels.
"""


def explain(values):
    """Writes the page that the flags ask for."""
    check_given(values, "out")
    check_flags(values)
    check_place("out", Path(values.out).parent)
    run = flags_of_run(values.checkpoint)
    network, process, about = _network(values, run)
    generator = ImageGenerator(network, process)
    image_shape = generator.image_shape(values.image_size)
    subject, words = find_subject(values, network, image_shape, run)
    options = Options(
        num_levels=values.num_levels,
        num_steps=values.num_steps,
        noise_level=values.noise_level,
        heat_maps=values.heat_maps,
        measured=values.measured,
        say=lambda message: print(message, flush=True),
    )
    write_page(values.out, network, process, subject, about | words, options)
    size = Path(values.out).stat().st_size / 1e6
    print(f"The page is {values.out}, {size:.1f} MB. Open it in a browser.")


def _network(values, run):
    """The network, its process, and words about both."""
    if values.checkpoint is not None:
        model = load_diffusion_model(values.checkpoint)
        _check_is_ours(values, model.ema_network)
        name = Path(values.checkpoint).resolve().name
        words = {
            "title": f"{name}, explained",
            "weights": _weights(values.checkpoint, model, run),
            "is_trained": True,
        }
        return model.ema_network, model.process, words
    keras.utils.set_random_seed(values.seed)
    kind = UNet
    if values.preset in MagnitudePreservingUNet.presets():
        kind = MagnitudePreservingUNet
    network = kind.from_preset(values.preset)
    words = {
        "title": f"{values.preset}, explained",
        "weights": f"Preset {values.preset}, random weights.",
        "is_trained": False,
    }
    return network, _process(values.preset), words


def _weights(checkpoint, model, run):
    """Where the weights come from, as far as that is known."""
    words = f"Averaged weights of {checkpoint}"
    steps = int(model.updates.steps_taken.numpy())
    # Converted weights were trained elsewhere.
    if steps:
        words += f": {steps:,} steps"
        words += f" on {run.source}" if run is not None else ""
    return f"{words}."


def _check_is_ours(values, network):
    """Raises a `ValueError` for a network of which not all is known."""
    if not isinstance(network, FunctionalNetwork):
        raise ValueError(
            "Only networks of this library are explained. Received: "
            f"--checkpoint={values.checkpoint} with a "
            f"{type(network).__name__}. Pass a model around a UNet, a "
            "MagnitudePreservingUNet or a PlainCNN."
        )


def _process(preset):
    """The process that networks like a preset are trained with."""
    published = PUBLISHED.get(preset)
    if published is not None and published.schedule is not None:
        return DiffusionProcess(SCHEDULES[published.schedule]())
    if preset.startswith(("edm", "consistency")):
        return DiffusionProcess(EDMSchedule(), EDMPrediction())
    return DiffusionProcess(CosineSchedule(), VelocityPrediction())


def main(argv=None):
    """Runs the command; returns its exit status."""
    return run_command(explain, define_flags, DESCRIPTION, argv)


if __name__ == "__main__":
    sys.exit(main())
