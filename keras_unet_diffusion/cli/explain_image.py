"""The image that `kud-explain` follows through a network."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from keras_unet_diffusion.cli.train_flag_file import read_flags
from keras_unet_diffusion.data import (
    decode_image,
    image_dataset,
    open_source,
    to_model_range,
)
from keras_unet_diffusion.data.decoding import fit_image
from keras_unet_diffusion.network_calls import num_labels, takes_labels
from keras_unet_diffusion.studies.features import Subject


def flags_of_run(checkpoint):
    """The flags of `train` of a work directory; None for anything else."""
    if checkpoint is None or not Path(checkpoint).is_dir():
        return None
    return read_flags(Path(checkpoint))


def find_subject(values, network, image_shape, run=None):
    """The image that the flags name, with its label.

    Prints which it is, if neither the flags nor the run say it.

    Args:
        values: the parsed flags.
        network: see `DiffusionModel`.
        image_shape: height, width and channels of its images.
        run: what `flags_of_run` returns.

    Returns:
        `(subject, words)`: a `Subject`, and a dict: `image`, what it is, and,
        if it is known, `label_name`, what the class is called that the
        network is told.

    Raises:
        ValueError: the image or its source cannot be read, or the label is
            missing or none that the network knows.
    """
    size, _, channels = image_shape
    read_channels = 1 if channels == 1 else 3
    trained_on = None if run is None else _source_of_run(values, run)
    found = _find(values, run, trained_on, size, read_channels)
    label = _label(values, network, found.label)
    words = {"image": found.words}
    if found.is_guess:
        ours = "" if label is None else f" --label={label}"
        print(
            f"No --image was given: following {found.words}. Pass one of your "
            f"own, such as --image=photos/cat/1.jpg{ours}.",
            flush=True,
        )
        words["image"] += ", as no --image was given"
    if channels not in (1, 3):
        words["image"] += ", with the mean of its colours in further channels"
    names = trained_on.class_names if trained_on else found.class_names
    if label is not None and label < len(names):
        words["label_name"] = names[label]
    image = _with_channels(found.image, channels)
    return Subject(image, label, values.seed), words


class _Found(NamedTuple):
    """An image `(size, size, channels)` and what is known of it."""

    image: np.ndarray
    words: str
    label: int | None = None
    class_names: tuple = ()
    is_guess: bool = False


def _find(values, run, trained_on, size, channels):
    if values.image is not None:
        pixels = decode_image(values.image, size, channels)
        return _Found(_in_range(pixels), Path(values.image).name)
    if values.source is not None:
        source = open_source(values.source, values.split, values.data_dir)
        return _of_source(values, source, values.source, size, channels)
    if run is not None:
        return _of_source(values, trained_on, run.source, size, channels)
    return _guess(values, size, channels)


def _guess(values, size, channels):
    """A digit, or a photograph that scikit-learn brings along."""
    if channels == 1:
        source = open_source("digits")
        found = _of_source(values, source, "digits", size, channels)
        return found._replace(is_guess=True)
    from sklearn.datasets import load_sample_image

    picture = Image.fromarray(load_sample_image("flower.jpg"))
    pixels = _in_range(fit_image(picture, size))
    return _Found(pixels, "a photograph of a flower", label=0, is_guess=True)


def _source_of_run(values, run):
    """What the run was trained on; None if that is gone and not needed."""
    try:
        return open_source(run.source, run.split, run.data_dir)
    except ValueError as error:
        if values.image is not None or values.source is not None:
            return None
        raise ValueError(
            "The images that the network was trained on cannot be opened. "
            f"Received: --checkpoint={values.checkpoint} ({error}). Pass "
            "--image or --source."
        ) from None


def _of_source(values, source, name, size, channels):
    count = len(source.items)
    number = values.image_number
    if not 0 <= number < count:
        raise ValueError(
            f"The source has images 0 to {count - 1}. Received: "
            f"--image_number={number} of {name}. Pass a number in between."
        )
    one = dataclasses.replace(
        source,
        items=[source.items[number]],
        labels=None,
        names=source.names and [source.names[number]],
    )
    dataset = image_dataset(
        one, image_size=size, image_channels=channels, shuffle=False
    )
    image = np.asarray(next(dataset.as_numpy_iterator())[0])
    words = f"image {number} of {name}"
    if source.labels is None:
        return _Found(image, words)
    label = int(source.labels[number])
    words = f"{words}, class {source.class_names[label]}"
    return _Found(image, words, label, source.class_names)


def _in_range(pixels):
    return to_model_range(pixels).numpy()


def _with_channels(image, channels):
    """Further channels, for networks of latent images, are the mean."""
    if image.shape[-1] >= channels:
        return image[..., :channels]
    missing = channels - image.shape[-1]
    mean = np.repeat(image.mean(axis=-1, keepdims=True), missing, axis=-1)
    return np.concatenate([image, mean], axis=-1)


def _label(values, network, label):
    """What the network is told that the image shows, None for nothing."""
    if not takes_labels(network):
        if values.label is not None:
            raise ValueError(
                "The network takes no labels. Received: --label="
                f"{values.label}. Leave it out."
            )
        return None
    label = label if values.label is None else values.label
    if label is None:
        raise ValueError(
            "The network must be told what the image shows. Received: "
            "an image without a label. Pass --label=3, for example."
        )
    known = num_labels(network)
    if label < 0 or (known is not None and label >= known):
        raise ValueError(
            f"The network knows labels 0 to {known - 1}. Received: label="
            f"{label}. Pass --label with one of them."
        )
    return label
