"""What is asked of an `ImageGenerator`, checked before anything runs."""

import dataclasses
import secrets
from typing import Any

import numpy as np

from keras_unet_diffusion.guidance import (
    AutoGuidance,
    ClassifierFreeGuidance,
    ClassifierGuidance,
    Guidance,
)
from keras_unet_diffusion.network_calls import (
    has_null_label,
    input_names,
    network_image_shape,
    num_labels,
    takes_labels,
)
from keras_unet_diffusion.paths import path_ratios
from keras_unet_diffusion.samplers import make_sampler


@dataclasses.dataclass(frozen=True)
class Task:
    """What a compiled loop does, whatever its numbers.

    Args:
        sampler: a `Sampler`.
        guidance: a `Guidance`, or None.
        inverts: bool. Whether the path is run from image to noise.
        num_resamples: int of `RePaint`; None without inpainting.
    """

    sampler: Any
    guidance: Any = None
    inverts: bool = False
    num_resamples: int | None = None

    @property
    def networks(self):
        """The networks that it calls beside the generator's, a tuple."""
        return () if self.guidance is None else self.guidance.networks


@dataclasses.dataclass(frozen=True)
class Request:
    """Images that were asked for, checked.

    Args:
        task: a `Task`.
        num_images: int.
        num_steps: int.
        seed: int.
        guidance_scale: float.
        batch_size: int.
        arrays: dict of arrays with an entry for each image.
        verbose: 0, 1 or "auto".
        skipped_steps: int. First steps that are left out.
    """

    task: Task
    num_images: int
    num_steps: int
    seed: int
    guidance_scale: float
    batch_size: int
    arrays: dict
    verbose: Any
    skipped_steps: int = 0

    @property
    def steps_taken(self):
        """How many steps each image takes, int."""
        return self.num_steps - self.skipped_steps

    def stops(self, num_frames):
        """Steps after which an image on the way is taken, the last at last."""
        if num_frames is None:
            return [self.steps_taken]
        if not 2 <= num_frames <= self.steps_taken + 1:
            raise ValueError(
                "Frames are the noise, the image, and what lies between. "
                f"Received: num_frames={num_frames} of {self.steps_taken} "
                f"steps. Pass a number from 2 to {self.steps_taken + 1}."
            )
        stops = np.linspace(0, self.steps_taken, num_frames)
        return [int(stop) for stop in np.round(stops)[1:]]


def make_request(
    network,
    process,
    num_images,
    labels=None,
    num_steps=50,
    seed=None,
    sampler="ddim",
    guidance_scale=1.0,
    guidance=None,
    batch_size=None,
    low_resolution_images=None,
    verbose="auto",
):
    """Checks what was asked for.

    Args:
        network: see `DiffusionModel`.
        process: its `DiffusionProcess`.
        num_images: and the others, see `DiffusionModel.generate`.

    Returns:
        A `Request`.

    Raises:
        ValueError: an argument is out of range.
    """
    batch_size = num_images if batch_size is None else batch_size
    _check_counts(
        num_images=num_images, num_steps=num_steps, batch_size=batch_size
    )
    sampler = make_sampler(sampler)
    sampler.check_schedule(process.schedule)
    _check_steps(process.schedule, sampler, num_steps)
    seed = secrets.randbits(63) if seed is None else seed
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**63:
        raise ValueError(
            "A seed is a whole number from 0 to 2**63 - 1. Received: "
            f"seed={seed}. Pass such a number, or None for a random one."
        )
    if verbose not in (0, 1, "auto"):
        raise ValueError(
            "verbose says whether there is a progress bar. Received: verbose="
            f"{verbose!r}. Pass 1, 0 or 'auto'."
        )
    _check_guidance(network, guidance_scale, guidance)
    arrays = {}
    labels = _labels(network, num_images, labels, guidance)
    if labels is not None:
        arrays["labels"] = labels
    arrays |= _low_resolution(network, num_images, low_resolution_images)
    if guidance_scale == 1:
        guidance = None
    elif guidance is None:
        guidance = ClassifierFreeGuidance()
    task = Task(sampler, guidance)
    return Request(
        task,
        num_images,
        num_steps,
        seed,
        guidance_scale,
        batch_size,
        arrays,
        verbose,
    )


def _check_counts(**counts):
    for name, value in counts.items():
        if not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(
                f"{name} must be at least 1. Received: {name}={value}. "
                "Pass a positive whole number."
            )


def _check_steps(schedule, sampler, num_steps):
    if schedule.num_timesteps is not None:
        # The network is asked at each step's beginning, and the last must end
        # at another of the schedule's times or at the clean image.
        most = schedule.num_timesteps - (not sampler.final_denoising)
        if num_steps > most:
            raise ValueError(
                f"The schedule has {schedule.num_timesteps} steps. Received: "
                f"num_steps={num_steps}. Pass a number from 1 to {most}."
            )
    if (np.diff(path_ratios(schedule, sampler, num_steps)) >= 0).any():
        raise ValueError(
            "Two steps of the grid coincide, and solvers divide by what lies "
            f"between. Received: num_steps={num_steps}, sampler={sampler!r}. "
            "Pass fewer steps, or another grid."
        )


def _check_guidance(network, scale, guidance):
    is_number = isinstance(scale, int | float | np.number)
    if not is_number or not np.isfinite(scale) or scale < 0:
        raise ValueError(
            "guidance_scale is a number, 1 for no guidance and more for "
            f"more. Received: guidance_scale={scale!r}. Pass for example "
            "2.0."
        )
    if guidance is not None and not isinstance(guidance, Guidance):
        raise ValueError(
            f"guidance must be a Guidance. Received: guidance={guidance!r}. "
            "Pass for example ClassifierFreeGuidance()."
        )
    is_free = isinstance(guidance, ClassifierFreeGuidance | None)
    if scale != 1 and is_free and not has_null_label(network):
        raise ValueError(
            "Classifier-free guidance needs a network that also knows a "
            f"null label. Received: guidance_scale={scale} and a network "
            "without one. Train it with UNet(null_label='learned') and "
            "label_dropout=0.1, or pass another guidance."
        )
    if isinstance(guidance, AutoGuidance):
        _check_guide(network, guidance.network)


def _check_guide(network, guide):
    told, known = input_names(guide), input_names(network)
    shapes = [network_image_shape(x) for x in (network, guide)]
    pairs = zip(*shapes, strict=True)
    fits = all(None in pair or pair[0] == pair[1] for pair in pairs)
    if told <= known and fits:
        return
    raise ValueError(
        "A guide makes images of the same size and is told no more than the "
        f"network. Received: a guide of images {shapes[1]} that takes "
        f"{', '.join(sorted(told))} for a network of images {shapes[0]} that "
        f"takes {', '.join(sorted(known))}. Pass an earlier or smaller version "
        "of the network."
    )


def _labels(network, num_images, labels, guidance):
    num_classes = upper = None
    if takes_labels(network):
        num_classes = getattr(network, "num_classes", None)
        upper = num_labels(network)
    if isinstance(guidance, ClassifierGuidance):
        # It needs labels even where the network takes none.
        known = guidance.classifier.output.shape[-1]
        num_classes = min(num_classes or known, known)
        upper = min(upper or known, known)
    elif not takes_labels(network) and labels is None:
        return None
    elif not takes_labels(network):
        raise ValueError(
            f"The network takes no labels. Received: labels={labels}. Leave "
            "labels out."
        )
    if labels is None:
        labels = np.arange(num_images) % (num_classes or 1)
    labels = np.asarray(labels)
    if labels.ndim == 0:
        labels = np.full(num_images, labels)
    is_whole = np.issubdtype(labels.dtype, np.integer)
    if not is_whole or labels.shape != (num_images,):
        raise ValueError(
            f"{num_images} images need one label, or {num_images} labels, "
            f"whole numbers. Received: labels of shape {labels.shape} and "
            f"dtype {labels.dtype}. Pass whole numbers."
        )
    upper = upper or np.iinfo("int32").max
    if labels.min() < 0 or labels.max() >= upper:
        raise ValueError(
            f"Labels are numbers from 0 to {upper - 1}. Received: labels "
            f"from {labels.min()} to {labels.max()}. Leave the others out."
        )
    return labels.astype("int32")


def _low_resolution(network, num_images, images):
    name = "low_resolution_images"
    if (name in network.input) == (images is None):
        needs = "needs" if images is None else "takes no"
        raise ValueError(
            f"The network {needs} low-resolution images. Received: "
            f"{name}={'None' if images is None else np.shape(images)}. "
            "Pass them to super-resolution networks, and to no other."
        )
    if images is None:
        return {}
    images = np.asarray(images, "float32")
    shape = network.input[name].shape[1:]
    fits = images.ndim == 4 and len(images) == num_images
    if not fits or any(
        size not in (None, given)
        for size, given in zip(shape, images.shape[1:], strict=True)
    ):
        raise ValueError(
            f"{num_images} images need as many low-resolution images of "
            f"shape {tuple(shape)}. Received: {name} of shape "
            f"{images.shape}. Resize them, pixels in [-1, 1]."
        )
    return {name: images}
