"""The command that generates images: `kud-sample`."""

import dataclasses
import re
import sys
from pathlib import Path

import numpy as np

from keras_unet_diffusion.cli.command import (
    check_given,
    check_place,
    load_diffusion_model,
    run_command,
)
from keras_unet_diffusion.cli.sample_flags import check_flags, define_flags
from keras_unet_diffusion.data import (
    decode_image,
    open_source,
    save_grid,
    save_images,
    to_model_range,
)
from keras_unet_diffusion.files import check_new_folder, written_whole
from keras_unet_diffusion.guidance import AutoGuidance, ClassifierFreeGuidance
from keras_unet_diffusion.network_calls import takes_labels
from keras_unet_diffusion.samplers import (
    GRID_NAMES,
    SAMPLER_NAMES,
    DynamicThresholding,
)

DESCRIPTION = """Generates images from a trained model.

Writes grid.png and one PNG file for each image. With --images: variations of
those, or, with --mask too, a part of them made anew.
"""
MASK_THRESHOLD = 127  # of 255
# What is written beside each image by itself, see `save_images`.
PICTURES_OF_ALL = ("grid.png", "denoising.png")
IMAGE_NAME = re.compile(r"image_\d{5,}\.png")


def sample(values):
    """Samples as the flags say; the command without its error handling."""
    check_given(values, "checkpoint", "out")
    check_place("out", values.out)
    check_new_folder(values.out)
    check_flags(values)
    labels = _labels(values.labels)
    model = load_diffusion_model(values.checkpoint)
    if values.images is not None and labels is None:
        _check_unlabelled(values, model)
    images = _make_images(
        values,
        model,
        labels=labels,
        num_steps=values.num_steps,
        seed=values.seed,
        sampler=_sampler(values),
        guidance_scale=values.guidance_scale,
        guidance=_guidance(values, model),
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


def _check_unlabelled(values, model):
    if takes_labels(model.ema_network):
        raise ValueError(
            "The network must be told what given images show. Received: "
            f"--images={values.images} without --labels. Pass --labels=3, or "
            "one for each."
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
        return model.image_to_image(
            images,
            strength=values.strength,
            noise_level=values.noise_level,
            **options,
        )
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
    paths = _image_paths(Path(path))
    num_images = len(paths) if num_images is None else num_images
    # Each file once, and of a large folder no more than are taken.
    pixels = [
        decode_image(path, image_size, image_channels)
        for path in paths[:num_images]
    ]
    images = to_model_range(np.stack(pixels)).numpy()
    return images[np.arange(num_images) % len(images)]


def _image_paths(path):
    """Files of images; of what `sample` wrote, without its pictures of all."""
    if not path.is_dir():
        return [path]
    if not any((path / name).exists() for name in PICTURES_OF_ALL):
        return open_source(f"folder:{path}").items
    written = [x for x in path.iterdir() if IMAGE_NAME.fullmatch(x.name)]
    # By number: after image_99999.png comes image_100000.png.
    written.sort(key=lambda x: (len(x.name), x.name))
    return written or open_source(f"folder:{path}").items


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


def _guidance(values, model):
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
        _check_guide(values, guide.process, model.process)
        return AutoGuidance(network=guide.ema_network, interval=interval)
    return ClassifierFreeGuidance(
        rescale=values.guidance_rescale, interval=interval
    )


def _check_guide(values, guide, process):
    """Raises a `ValueError` for the process of another kind of model."""
    for name in ("schedule", "prediction"):
        theirs, ours = getattr(guide, name), getattr(process, name)
        if theirs != ours:
            raise ValueError(
                f"A guide has the {name} of the model. Received: --guide="
                f"{values.guide} with {theirs!r}, and --checkpoint="
                f"{values.checkpoint} with {ours!r}. Pass an earlier or "
                "smaller version of the model."
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


if __name__ == "__main__":
    sys.exit(main())
