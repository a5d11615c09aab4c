"""The image that `kud-explain` follows through a network."""

import dataclasses
from pathlib import Path

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


def find_subject(values, network, image_shape):
    """The image that the flags name, with its label.

    Args:
        values: the parsed flags.
        network: see `DiffusionModel`.
        image_shape: height, width and channels of its images.

    Returns:
        `(subject, words)`: a `Subject`, and what the image is, a str.

    Raises:
        ValueError: the image or its source cannot be read, or the label is
            missing or none that the network knows.
    """
    size, _, channels = image_shape
    read_channels = 1 if channels == 1 else 3
    image, label, words = _image(values, size, read_channels)
    label = _label(values, network, label)
    if channels not in (1, 3):
        words = f"{words}, with the mean of its colours in further channels"
    image = _with_channels(image, channels)
    return Subject(image, label, values.seed), words


def _image(values, size, channels):
    """Image `(size, size, channels)`, its label or None, and words."""
    if values.image is not None:
        pixels = decode_image(values.image, size, channels)
        return _in_range(pixels), None, Path(values.image).name
    if values.source is not None:
        source = open_source(values.source, values.split, values.data_dir)
        return _of_source(values, source, values.source, size, channels)
    run = _flags_of_run(values.checkpoint)
    if run is not None:
        source = _source_of_run(values, run)
        return _of_source(values, source, run.source, size, channels)
    if channels == 1:
        source = open_source("digits")
        return _of_source(values, source, "digits", size, channels)
    # A photograph that scikit-learn brings along.
    from sklearn.datasets import load_sample_image

    picture = Image.fromarray(load_sample_image("flower.jpg"))
    pixels = fit_image(picture, size)
    return _in_range(pixels), 0, "a photograph of a flower"


def _flags_of_run(checkpoint):
    if checkpoint is None or not Path(checkpoint).is_dir():
        return None
    return read_flags(Path(checkpoint))


def _source_of_run(values, run):
    """The images of the work directory's run, if they are still there."""
    try:
        return open_source(run.source, run.split, run.data_dir)
    except ValueError as error:
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
        return image, None, words
    label = int(source.labels[number])
    return image, label, f"{words}, class {source.class_names[label]}"


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
