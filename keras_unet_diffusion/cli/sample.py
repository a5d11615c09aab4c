"""The command that generates images: `kud-sample`."""

import dataclasses
from pathlib import Path

import numpy as np
from absl import flags

from keras_unet_diffusion.cli.command import (
    check_given,
    check_place,
    load_diffusion_model,
    run_command,
)
from keras_unet_diffusion.data import (
    decode_image,
    image_dataset,
    save_grid,
    save_images,
    to_model_range,
)
from keras_unet_diffusion.files import check_new_folder, written_whole
from keras_unet_diffusion.guidance import AutoGuidance, ClassifierFreeGuidance
from keras_unet_diffusion.samplers import (
    COMPATIBLE,
    GRID_NAMES,
    SAMPLER_NAMES,
    DynamicThresholding,
)

DESCRIPTION = """Generates images from a trained model.

Writes grid.png and one PNG file for each image. With --images: variations of
those, or, with --mask too, a part of them made anew.
"""
# Flags that mean nothing without another.
NEEDS = {
    "strength": "images",
    "mask": "images",
    "num_resamples": "mask",
}
MASK_THRESHOLD = 127  # of 255


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
    _define_image_flags(to)


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


def sample(values):
    """Samples as the flags say; the command without its error handling."""
    check_given(values, "checkpoint", "out")
    check_place("out", values.out)
    check_new_folder(values.out)
    _check_together(values)
    labels = _labels(values.labels)
    model = load_diffusion_model(values.checkpoint)
    images = _make_images(
        values,
        model,
        labels=labels,
        num_steps=values.num_steps,
        seed=values.seed,
        sampler=_sampler(values),
        guidance_scale=values.guidance_scale,
        guidance=_guidance(values),
        num_frames=values.num_frames,
        batch_size=values.batch_size,
    )
    frames = None
    if values.num_frames is not None:
        images, frames = images
    with written_whole(values.out) as folder:
        folder.mkdir()
        save_images(folder, images)
        scale = max(1, 64 // images.shape[1])
        save_grid(folder / "grid.png", images, scale=scale)
        if frames is not None:
            strips = np.swapaxes(frames, 0, 1).reshape(-1, *images.shape[1:])
            save_grid(
                folder / "denoising.png",
                np.clip(strips, -1, 1),
                values.num_frames,
                scale,
            )
    print(f"{len(images)} images and grid.png are in {values.out}.")


def _check_together(values):
    """Raises a `ValueError` for flags that would have no effect."""
    for name, needed in NEEDS.items():
        if values[name].value is not None and values[needed].value is None:
            raise ValueError(
                f"--{name} means nothing without --{needed}. Received: "
                f"--{name}={values[name].value}. Pass --{needed} too, or leave "
                "it out."
            )
    if values.mask is not None and values.strength is not None:
        raise ValueError(
            "Behind a mask everything is made anew. Received: --mask="
            f"{values.mask} and --strength={values.strength}. Leave one out."
        )
    if values.guide is not None and values.guidance_rescale:
        raise ValueError(
            "Only guidance by labels is rescaled. Received: --guide="
            f"{values.guide} and --guidance_rescale={values.guidance_rescale}. "
            "Leave one out."
        )
    if values.guide is not None and values.guidance_scale == 1:
        raise ValueError(
            "A guidance scale of 1 is no guidance. Received: --guide="
            f"{values.guide} without --guidance_scale. Pass for example "
            "--guidance_scale=2."
        )


def _make_images(values, model, **options):
    """Images from noise, or of images; see `DiffusionModel.generate`."""
    image_shape = model.generator.image_shape(values.image_size)
    num_images = values.num_images
    if values.low_resolution_images is not None:
        network = model.ema_network
        # A network that enlarges nothing refuses them below.
        factor = getattr(network, "super_resolution_factor", None) or 1
        low_resolution = _read_images(
            values.low_resolution_images,
            image_shape[0] // factor,
            image_shape[-1],
            num_images,
        )
        options["low_resolution_images"] = low_resolution
        num_images = len(low_resolution)
    if values.images is None:
        return model.generate(
            16 if num_images is None else num_images,
            image_size=values.image_size,
            **options,
        )
    images = _read_images(
        values.images, image_shape[0], image_shape[-1], num_images
    )
    if values.mask is None:
        strength = 0.5 if values.strength is None else values.strength
        return model.image_to_image(images, strength=strength, **options)
    mask = decode_image(values.mask, image_shape[0], 1)[..., 0]
    num_resamples = values.num_resamples
    return model.inpaint(
        images,
        mask > MASK_THRESHOLD,
        num_resamples=10 if num_resamples is None else num_resamples,
        **options,
    )


def _read_images(path, image_size, image_channels, num_images):
    """Images of a file or a folder, `num_images` in turn if that is given."""
    if Path(path).is_dir():
        dataset = image_dataset(
            f"folder:{path}", image_size, image_channels, shuffle=False
        )
        batches = [x[0] if isinstance(x, tuple) else x for x in dataset]
        images = np.concatenate(batches)
    else:
        images = to_model_range(
            decode_image(path, image_size, image_channels)[np.newaxis]
        ).numpy()
    if num_images is None:
        return images
    return images[np.arange(num_images) % len(images)]


def _sampler(values):
    """The sampler that the flags describe."""
    sampler = SAMPLER_NAMES[values.sampler]
    options = {"compat": values.compat}
    if values.grid is not None:
        options["grid"] = GRID_NAMES[values.grid]
    if values.dynamic_thresholding:
        options["thresholding"] = DynamicThresholding()
    if values.eta is not None:
        if not hasattr(sampler, "eta"):
            raise ValueError(
                f"{values.sampler} has no eta. Received: --eta={values.eta}. "
                "Leave it out, or pass --sampler=ddim."
            )
        options["eta"] = values.eta
    return dataclasses.replace(sampler, **options)


def _guidance(values):
    """The guidance that the flags describe."""
    interval = values.guidance_interval
    if interval is not None:
        try:
            interval = tuple(float(x) for x in interval)
        except ValueError:
            raise ValueError(
                "--guidance_interval is a pair of numbers. Received: "
                f"--guidance_interval={','.join(interval)}. Pass for example "
                "--guidance_interval=0.2,5."
            ) from None
    if values.guide is not None:
        guide = load_diffusion_model(values.guide)
        return AutoGuidance(network=guide.ema_network, interval=interval)
    return ClassifierFreeGuidance(
        rescale=values.guidance_rescale, interval=interval
    )


def _labels(labels):
    if labels is None:
        return None
    try:
        numbers = [int(label) for label in labels]
    except ValueError:
        raise ValueError(
            "--labels are class numbers by commas. Received: "
            f"--labels={','.join(labels)}. Pass for example --labels=3, or "
            "--labels=0,1 for two images."
        ) from None
    return numbers[0] if len(numbers) == 1 else numbers


def main(argv=None):
    """Runs the command; returns its exit status."""
    return run_command(sample, define_flags, DESCRIPTION, argv)
