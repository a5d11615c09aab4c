"""What the tests of datasets share: sources, folders, pixels as they were."""

import numpy as np
from PIL import Image

from keras_unet_diffusion.data.sources import Source


def numbered_source(count, size=4):
    """Random RGB images whose labels are their numbers."""
    random = np.random.default_rng(0)
    return Source(
        items=random.integers(0, 256, (count, size, size, 3), dtype="uint8"),
        labels=np.arange(count, dtype="int32"),
        class_names=tuple(map(str, range(count))),
        image_size=size,
        image_channels=3,
    )


def read(dataset, num_batches=-1):
    """All images and labels of the first batches, as two arrays."""
    batches = list(dataset.take(num_batches).as_numpy_iterator())
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def to_bytes(images):
    """The bytes that must have been there before, in exact arithmetic."""
    return np.round((images.astype("float64") + 1) * 127.5).astype("uint8")


def write_folder(folder, count, classes=("ant", "bee"), size=6):
    """Random images in turn in each class's subfolder; returns the paths."""
    random = np.random.default_rng(0)
    paths = []
    for k in range(count):
        path = folder / classes[k % len(classes)] / f"{k:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (size, size, 3), dtype="uint8")
        Image.fromarray(pixels).save(path)
        paths.append(path)
    return paths
