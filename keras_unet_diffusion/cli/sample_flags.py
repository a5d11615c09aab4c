"""The flags of `kud-sample`, and which of them go together."""

from absl import flags

from keras_unet_diffusion.samplers import (
    COMPATIBLE,
    GRID_NAMES,
    SAMPLER_NAMES,
)

# Flags that mean nothing without another.
NEEDS = {
    "strength": "images",
    "noise_level": "images",
    "mask": "images",
    "num_resamples": "mask",
}
# Flags of which one alone can be meant, and why.
EXCLUSIVE = {
    ("mask", "strength"): "Behind a mask everything is made anew.",
    ("mask", "noise_level"): "Behind a mask everything is made anew.",
    ("strength", "noise_level"): "Both say how much is made anew.",
    ("guide", "guidance_rescale"): "Only guidance by labels is rescaled.",
}


def define_flags(values):
    """Defines the flags of the command on a `FlagValues`."""
    to = {"flag_values": values}
    flags.DEFINE_string(
        "checkpoint", None, "A work directory or a .keras file.", **to
    )
    flags.DEFINE_string("out", None, "Folder to write, new or empty.", **to)
    flags.DEFINE_integer(
        "num_images",
        None,
        "Images to generate; by default 16, or as many as are given.",
        **to,
    )
    flags.DEFINE_list(
        "labels",
        None,
        "Class numbers by commas, one for all images or one for each; by "
        "default the classes in turn.",
        **to,
    )
    flags.DEFINE_integer("num_steps", 50, "Sampling steps.", **to)
    flags.DEFINE_integer("seed", 0, "Image k is always the same.", **to)
    flags.DEFINE_enum("sampler", "ddim", list(SAMPLER_NAMES), "Sampler.", **to)
    flags.DEFINE_enum(
        "grid",
        None,
        list(GRID_NAMES),
        "Where the steps are; by default as the sampler is used.",
        **to,
    )
    flags.DEFINE_float("eta", None, "Randomness of ddim, 0 to 1.", **to)
    flags.DEFINE_enum(
        "compat",
        "paper",
        list(COMPATIBLE),
        "Whose details, where code differs from its paper.",
        **to,
    )
    flags.DEFINE_bool(
        "dynamic_thresholding",
        False,
        "Bound estimated images at a quantile of their pixels.",
        **to,
    )
    flags.DEFINE_integer(
        "num_frames",
        None,
        "Also writes denoising.png: each image in so many frames, from noise.",
        **to,
    )
    flags.DEFINE_integer("batch_size", 64, "Images made at once.", **to)
    flags.DEFINE_integer(
        "image_size", None, "Pixels, for a network of any size.", **to
    )
    _define_guidance_flags(to)
    _define_image_flags(to)


def _define_guidance_flags(to):
    flags.DEFINE_float(
        "guidance_scale",
        1.0,
        "Strength of the labels; 1 for no guidance.",
        **to,
    )
    flags.DEFINE_float(
        "guidance_rescale",
        0.0,
        "Share of the images' spread to bring back after guidance.",
        **to,
    )
    flags.DEFINE_list(
        "guidance_interval",
        None,
        "Least and most noise per image with guidance, as LOW,HIGH.",
        **to,
    )
    flags.DEFINE_string(
        "guide",
        None,
        "Work directory or .keras file of a worse model to be guided away "
        "from; by default from the model without labels.",
        **to,
    )


def _define_image_flags(to):
    flags.DEFINE_string(
        "images",
        None,
        "File, or folder, of images to begin with, taken in turn; their "
        "centre squares are resized.",
        **to,
    )
    flags.DEFINE_float(
        "strength",
        None,
        "How much of --images is made anew: above 0 up to 1, by default 0.5.",
        **to,
    )
    flags.DEFINE_float(
        "noise_level",
        None,
        "Instead of --strength, the noise per image, sigma / alpha, that "
        "--images begin with.",
        **to,
    )
    flags.DEFINE_string(
        "mask",
        None,
        "Image that is white where --images are kept and black where they "
        "are made anew.",
        **to,
    )
    flags.DEFINE_integer(
        "num_resamples",
        None,
        "With --mask, how often each step is taken; by default 10.",
        **to,
    )
    flags.DEFINE_string(
        "low_resolution_images",
        None,
        "File, or folder, of what a super-resolution network enlarges, taken "
        "in turn.",
        **to,
    )


def check_flags(values):
    """Raises a `ValueError` for flags that cannot be meant so."""
    if values.num_images is not None and values.num_images < 1:
        raise ValueError(
            "At least one image is made. Received: --num_images="
            f"{values.num_images}. Pass 1 or more, or leave it out."
        )
    for name, needed in NEEDS.items():
        if _is_given(values, name) and not _is_given(values, needed):
            raise ValueError(
                f"--{name} means nothing without --{needed}. Received: "
                f"{_as_given(values, name)}. Pass --{needed} too, or leave "
                "it out."
            )
    for (name, other), reason in EXCLUSIVE.items():
        if _is_given(values, name) and _is_given(values, other):
            raise ValueError(
                f"{reason} Received: {_as_given(values, name)} and "
                f"{_as_given(values, other)}. Leave one out."
            )
    for name in ("guide", "guidance_rescale", "guidance_interval"):
        if _is_given(values, name) and values.guidance_scale == 1:
            raise ValueError(
                "A guidance scale of 1 is no guidance. Received: "
                f"{_as_given(values, name)} with --guidance_scale=1. Pass for "
                f"example --guidance_scale=2, or leave --{name} out."
            )


def _is_given(values, name):
    return values[name].value != values[name].default


def _as_given(values, name):
    value = values[name].value
    value = ",".join(value) if isinstance(value, list) else value
    return f"--{name}={value}"
