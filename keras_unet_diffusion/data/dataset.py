"""One function from a source of images to a `tf.data.Dataset`."""

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import logging
from PIL import Image

from keras_unet_diffusion.data.decoding import decode_image, fit_image
from keras_unet_diffusion.data.pixels import to_model_range
from keras_unet_diffusion.data.sources import open_source

# Decoded sets up to this size are held in memory, larger ones are decoded
# anew in each epoch.
MAX_DECODED_BYTES = 4 * 2**30


def image_dataset(
    source,
    image_size=None,
    image_channels=None,
    batch_size=64,
    split="train",
    data_dir=None,
    flip=False,
    shuffle=True,
    repeat=False,
    start_batch=0,
    seed=0,
    on_bad_image="error",
    max_decoded_bytes=MAX_DECODED_BYTES,
):
    """Makes a `tf.data.Dataset` for `DiffusionModel.fit` from a source.

    Every image is decoded before the first batch, so that a bad one is
    reported at once and by its path. A set that fits into memory is kept
    there, decoded; a larger folder is decoded anew as it is read.

    Args:
        source: "digits", "tfds:NAME", "folder:PATH" or "npz:PATH", see
            `open_source`; or an opened `Source`.
        image_size: int, height and width in pixels: the centre square is
            cropped and resized. None for the source's own size.
        image_channels: 1 grey, 3 RGB, None for the source's own.
        batch_size: int >= 1.
        split: str, see `open_source`.
        data_dir: see `open_source`.
        flip: bool. Mirror half of the images, chosen anew in each epoch.
        shuffle: bool. Mix the whole set, anew in each epoch.
        repeat: bool. Go on for ever, all batches full; otherwise one epoch
            whose last batch may be smaller.
        start_batch: int >= 0. Batches to skip, at little cost.
        seed: int, of shuffling and flipping.
        on_bad_image: "error" raises if there is an image that cannot be read,
            naming all; "skip" leaves them out and logs how many and which.
        max_decoded_bytes: int. Limit of a decoded set kept in memory.

    Returns:
        A dataset of float32 images `(batch, image_size, image_size,
        image_channels)` in [-1, 1]; or, if the source has labels, of pairs
        with int32 labels `(batch,)`.

    Raises:
        ValueError: no such source, bad images, or an argument out of range.

    Example:

    ```python
    dataset = image_dataset("folder:photos", image_size=64, flip=True)
    ```
    """
    if on_bad_image not in ("error", "skip"):
        raise ValueError(
            "on_bad_image says what to do with an image that cannot be read. "
            f"Received: on_bad_image={on_bad_image!r}. Pass 'error' or "
            "'skip'."
        )
    if batch_size < 1 or (image_size is not None and image_size < 1):
        raise ValueError(
            "batch_size and image_size must be at least 1. Received: "
            f"batch_size={batch_size}, image_size={image_size}."
        )
    if start_batch < 0:
        raise ValueError(
            "start_batch is a number of batches to skip. Received: "
            f"start_batch={start_batch}. Pass 0 or more."
        )
    if image_channels not in (None, 1, 3):
        raise ValueError(
            "Images are grey or RGB. Received: image_channels="
            f"{image_channels}. Pass 1, 3 or None."
        )
    if isinstance(source, str):
        source = open_source(source, split, data_dir)
    image_size = image_size or source.image_size
    if image_size is None:
        raise ValueError(
            "The images of this source have no one size. Received: "
            "image_size=None. Pass image_size (--image_size), in pixels."
        )
    image_channels = image_channels or source.image_channels
    images, labels = _read(
        source, image_size, image_channels, on_bad_image, max_decoded_bytes
    )
    dataset = tf.data.Dataset.range(len(images))
    if shuffle:
        # Numbers, not images: the buffer holds the whole set at 8 bytes each.
        dataset = dataset.shuffle(len(images), seed=seed)
    if repeat:
        dataset = dataset.repeat()
    dataset = dataset.batch(batch_size, drop_remainder=repeat)
    # A new seed for each batch, and others in the next epoch.
    seeds = tf.data.Dataset.random(seed, rerandomize_each_iteration=True)
    dataset = tf.data.Dataset.zip(seeds.batch(2), dataset).skip(start_batch)
    fetch = _fetch_function(images, image_size, image_channels)
    labels = None if labels is None else _on_cpu(labels)

    def make_batch(flip_seed, indices):
        pixels = to_model_range(fetch(indices))
        if flip:
            pixels = _flip_half(pixels, flip_seed)
        if labels is None:
            return pixels
        return pixels, tf.gather(labels, indices)

    dataset = dataset.map(make_batch, os.cpu_count()).prefetch(2)
    # What tunes a pipeline holds its end up, for as long again as it ran.
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def decode_source(source, image_size, image_channels):
    """Decodes all images of a source, for more datasets than one.

    Args:
        source: an opened `Source`.
        image_size: int, see `image_dataset`.
        image_channels: int, 1 or 3.

    Returns:
        A `Source` of the decoded images; the same one if all together are too
        large for memory.

    Raises:
        ValueError: an image cannot be read.

    Example:

    ```python
    source = decode_source(open_source("folder:photos"), 64, 3)
    first, second = (image_dataset(source, seed=seed) for seed in range(2))
    ```
    """
    images, labels = _read(
        source, image_size, image_channels, "error", MAX_DECODED_BYTES
    )
    if images.dtype != np.uint8:
        return source
    return dataclasses.replace(
        source,
        items=images,
        labels=labels,
        image_size=image_size,
        image_channels=image_channels,
        names=None,
    )


def _on_cpu(array):
    with tf.device("CPU"):
        return tf.constant(array)


def _flip_half(images, seed):
    chosen = tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], seed)
    return tf.where(chosen < 0.5, tf.reverse(images, axis=[2]), images)


def _read(source, image_size, image_channels, on_bad_image, max_bytes):
    """Returns all good images, decoded or as paths, and their labels."""
    count = len(source.items)
    image_bytes = image_size * image_size * image_channels
    keep = count * image_bytes <= max_bytes
    if not keep and not isinstance(source.items[0], Path):
        raise ValueError(
            "The decoded set does not fit into memory. Received: "
            f"{count} images of {image_size} pixels, "
            f"{count * image_bytes / 2**30:.1f} GiB; the limit is "
            f"{max_bytes / 2**30:.1f}. Use a smaller image_size, raise "
            "max_decoded_bytes, or save the images as files and use "
            "folder:PATH."
        )
    shape = (image_size, image_size, image_channels)
    if getattr(source.items, "shape", ())[1:] == shape:
        return source.items, source.labels
    images = np.zeros((count if keep else 0, *shape), "uint8")

    def decode(i):
        try:
            pixels = _decode(source.items[i], image_size, image_channels)
        except (ValueError, OSError) as error:
            return i, str(error)
        if keep:
            images[i] = pixels
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        bad = dict(filter(None, pool.map(decode, range(count))))
    if bad:
        _report(bad, source, on_bad_image)
    good = np.array([i for i in range(count) if i not in bad])
    if not keep:
        # Bytes, because a file's name need not be UTF-8.
        images = np.array([os.fsencode(path) for path in source.items])
    labels = source.labels
    if bad:
        images = images[good]
        labels = None if labels is None else labels[good]
    return images, labels


def _decode(item, image_size, image_channels):
    if not isinstance(item, np.ndarray):
        return decode_image(item, image_size, image_channels)
    is_grey = item.shape[2:] == (1,)
    picture = Image.fromarray(item[..., 0] if is_grey else item)
    return fit_image(
        picture.convert("L" if image_channels == 1 else "RGB"), image_size
    )


def _report(bad, source, on_bad_image):
    """Raises or logs what is wrong with the bad images."""
    shown = [
        f"  {reason}" if source.names is not None else f"  image {i}: {reason}"
        for i, reason in bad.items()
    ]
    reasons = "\n".join(shown)
    if on_bad_image == "error" or len(bad) == len(source.items):
        raise ValueError(
            f"{len(bad)} of {len(source.items)} images cannot be used. "
            "Repair or remove them, or pass on_bad_image='skip' "
            "(--on_bad_image=skip) to leave them out. "
            f"Received:\n{reasons}"
        )
    logging.warning(
        "%d of %d images are left out:\n%s",
        len(bad),
        len(source.items),
        reasons,
    )


def _fetch_function(images, image_size, image_channels):
    """Makes the function from a batch of numbers to a batch of bytes."""
    if images.dtype == np.uint8:
        table = _on_cpu(images)
        return lambda indices: tf.gather(table, indices)
    paths = _on_cpu(images)
    shape = (image_size, image_size, image_channels)

    def decode(path):
        return decode_image(os.fsdecode(path), image_size, image_channels)

    def fetch_one(path):
        pixels = tf.numpy_function(decode, [path], tf.uint8)
        return tf.ensure_shape(pixels, shape)

    def fetch(indices):
        return tf.map_fn(
            fetch_one,
            tf.gather(paths, indices),
            fn_output_signature=tf.TensorSpec(shape, tf.uint8),
        )

    return fetch
