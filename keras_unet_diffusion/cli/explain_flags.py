"""The flags of `kud-explain`, and which of them go together."""

from pathlib import Path

from absl import flags

from keras_unet_diffusion.magnitude_preserving_unet import (
    MagnitudePreservingUNet,
)
from keras_unet_diffusion.studies.page_data import HEAT_MAPS, MEASURED
from keras_unet_diffusion.unet import UNet


def define_flags(values):
    """Defines the flags of the command on a `FlagValues`."""
    to = {"flag_values": values}
    flags.DEFINE_string(
        "checkpoint", None, "A work directory or a .keras file.", **to
    )
    flags.DEFINE_string(
        "preset",
        None,
        "Instead of --checkpoint, a network with random weights: "
        f"{', '.join((*UNet.presets(), *MagnitudePreservingUNet.presets()))}.",
        **to,
    )
    flags.DEFINE_string("out", None, "Page to write, NAME.html.", **to)
    flags.DEFINE_integer(
        "image_size", None, "Pixels, for a network of any size.", **to
    )
    _define_image_flags(to)
    flags.DEFINE_float(
        "noise_level",
        0.5,
        "Noise per image, sigma / alpha, at which the page opens, or the "
        "nearest of its levels.",
        **to,
    )
    flags.DEFINE_integer(
        "num_levels", 8, "Noise levels that the page can show.", **to
    )
    flags.DEFINE_integer(
        "num_steps", 12, "Steps of the way from noise to an image.", **to
    )
    flags.DEFINE_integer("seed", 0, "Of the noise, and of a preset.", **to)
    flags.DEFINE_enum(
        "heat_maps",
        "auto",
        list(HEAT_MAPS),
        "Whose effective receptive fields are drawn; auto: all if that is "
        "cheap.",
        **to,
    )
    flags.DEFINE_enum(
        "measured",
        "auto",
        list(MEASURED),
        "Whose receptive fields are measured from gradients beside the "
        "arithmetic; auto: all of a network of few blocks, else the output's.",
        **to,
    )


def _define_image_flags(to):
    flags.DEFINE_string(
        "image",
        None,
        "Image to follow through the network; its centre square is resized.",
        **to,
    )
    flags.DEFINE_string(
        "source",
        None,
        "Instead of --image, where to take one from: digits, tfds:NAME, "
        "folder:PATH or npz:PATH; by default what the checkpoint was trained "
        "on, else a digit or a photograph.",
        **to,
    )
    flags.DEFINE_string("split", "train", "Split of --source.", **to)
    flags.DEFINE_string(
        "data_dir", None, "Where tensorflow-datasets looks.", **to
    )
    flags.DEFINE_integer(
        "image_number", 0, "Which image of the source, from 0.", **to
    )
    flags.DEFINE_integer(
        "label",
        None,
        "Class number that the network is told; by default the image's.",
        **to,
    )


def _check_image(values):
    if values.image is None:
        return
    path = Path(values.image)
    if path.is_dir() or not path.exists():
        found = "which is a folder" if path.is_dir() else "which does not exist"
        raise ValueError(
            "The image that is followed is a file. Received: --image="
            f"{values.image}, {found}. Pass the path of an image, such as "
            "--image=photos/cat/1.jpg."
        )


def check_flags(values):
    """Raises a `ValueError` for flags that cannot be meant so."""
    if (values.checkpoint is None) == (values.preset is None):
        raise ValueError(
            "One network is explained. Received: --checkpoint="
            f"{values.checkpoint} and --preset={values.preset}. Pass one of "
            "them."
        )
    if values.image is not None and values.source is not None:
        raise ValueError(
            f"One image is followed. Received: --image={values.image} and "
            f"--source={values.source}. Leave one out."
        )
    _check_image(values)
    out = Path(values.out)
    if out.suffix != ".html" or out.is_dir():
        raise ValueError(
            f"The page is an HTML file. Received: --out={values.out}. Choose "
            "a name that ends in .html."
        )
    for name in ("num_levels", "num_steps", "noise_level"):
        if not values[name].value > 0:
            raise ValueError(
                f"--{name} must be positive. Received: --{name}="
                f"{values[name].value}. Leave it out for "
                f"{values[name].default}."
            )
