"""Where images come from: a string names a source, a function opens it."""

import dataclasses
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import logging

# What image files are called; those of other kinds are reported as bad.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
OTHER_IMAGE_SUFFIXES = (".tif", ".tiff", ".avif", ".heic", ".jxl", ".jp2")

# A folder whose subfolders all bear such names holds splits, not classes.
SPLITS = {"train", "test", "val", "validation"}

# tensorflow-datasets sets are held in memory as encoded images.
MAX_ENCODED_BYTES = 8 * 2**30

# What reading a damaged npz file can raise.
_NPZ_ERRORS = (
    OSError,
    ValueError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclasses.dataclass(frozen=True)
class Source:
    """An opened source: undecoded images and what is known of them.

    Args:
        items: uint8 array `(num_images, height, width[, 1 or 3])`, or a
            sequence of paths or of the bytes of image files.
        labels: int32 array `(num_images,)`, or None.
        class_names: tuple of str, one per class; empty without labels.
        image_size: int, height and width of all images in pixels, or None if
            they differ or are not known.
        image_channels: 1 or 3.
        names: paths, if reports call items by them; None for their numbers.
    """

    items: Sequence
    labels: np.ndarray | None
    class_names: tuple
    image_size: int | None
    image_channels: int
    names: Sequence | None = None

    @property
    def num_classes(self):
        """Number of classes, or None for a source without labels."""
        return len(self.class_names) or None


def open_source(source, split="train", data_dir=None):
    """Opens a source of images by its name.

    Args:
        source: one of "digits" (scikit-learn's 1,797 handwritten digits of
            8x8 pixels; the last 297 are the "test" split), "tfds:NAME" (a
            tensorflow-datasets set that is on disk), "folder:PATH" (image
            files, with or without one subfolder per class) and "npz:PATH"
            (arrays `images` and `labels`, or `x_train`, `y_train`, `x_test`
            and `y_test`, of uint8).
        split: str. "train", or what else the source has. Of a folder, the
            subfolder of that name if there is one.
        data_dir: where tensorflow-datasets looks; None for its default.

    Returns:
        A `Source`.

    Raises:
        ValueError: there is no such source, split, file, or no image in it.

    Example:

    ```python
    open_source("folder:photos").class_names  # ("cats", "dogs")
    ```
    """
    kind, _, rest = source.partition(":")
    if source == "digits":
        return _open_digits(split)
    if kind == "tfds" and rest:
        return _open_tfds(rest, split, data_dir)
    if kind == "folder" and rest:
        return _open_folder(Path(rest), split)
    if kind == "npz" and rest:
        return _open_npz(Path(rest), split)
    raise ValueError(
        f"There is no such source of images. Received: source={source!r}. "
        "Pass 'digits', 'tfds:NAME', 'folder:PATH' or 'npz:PATH'."
    )


def _split_error(split, splits, source):
    return ValueError(
        f"The source has no such split. Received: split={split!r} of "
        f"{source}. Choose one of: {', '.join(splits)}."
    )


def _open_digits(split):
    from sklearn.datasets import load_digits

    if split not in ("train", "test"):
        raise _split_error(split, ("train", "test"), "digits")
    digits = load_digits()
    chosen = slice(None, 1500) if split == "train" else slice(1500, None)
    pixels = np.round(digits.images[chosen] * (255 / 16)).astype("uint8")
    return Source(
        items=pixels,
        labels=digits.target[chosen].astype("int32"),
        class_names=tuple("0123456789"),
        # Written in 8x8 pixels, shown at 16x16.
        image_size=16,
        image_channels=1,
    )


def _open_tfds(name, split, data_dir):
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
        splits = list(builder.info.splits)
        # The set lies in data_dir/name[/config]/version.
        looked_in = builder.data_path.parents[builder.info.full_name.count("/")]
    except (ValueError, AssertionError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"tensorflow-datasets has no such set. Received: source=tfds:"
            f"{name} ({reason}). Its catalogue lists the names."
        ) from None
    if not splits:
        raise ValueError(
            f"The set is not on disk. Received: source=tfds:{name}, looked in "
            f"{looked_in}. Pass --data_dir (data_dir=) if it is elsewhere, or "
            "fetch it once with network: "
            f"tfds.load({name!r}, data_dir={str(looked_in)!r})."
        )
    if split not in splits:
        raise _split_error(split, splits, f"tfds:{name}")
    features = dict(builder.info.features.items())
    if not isinstance(features.get("image"), tfds.features.Image):
        raise ValueError(
            "The set has no images under the name 'image'. Received: source="
            f"tfds:{name} with {', '.join(features)}. Choose another, or save "
            "its images as files and use folder:PATH."
        )
    size_bytes = builder.info.splits[split].num_bytes
    if size_bytes > MAX_ENCODED_BYTES:
        raise ValueError(
            f"The set is larger than is held in memory. Received: source="
            f"tfds:{name} of {size_bytes / 2**30:.1f} GiB; the limit is "
            f"{MAX_ENCODED_BYTES / 2**30:.0f}. Save its images as files and "
            "use folder:PATH, which reads them one by one."
        )
    return _read_tfds(builder, split, features)


def _read_tfds(builder, split, features):
    """Reads all examples of a split, their images undecoded."""
    import tensorflow_datasets as tfds

    has_labels = isinstance(features.get("label"), tfds.features.ClassLabel)
    examples = builder.as_dataset(
        split=split, decoders={"image": tfds.decode.SkipDecoding()}
    )
    items, labels = [], []
    for example in examples.as_numpy_iterator():
        items.append(example["image"])
        if has_labels:
            labels.append(example["label"])
    height, width, channels = features["image"].shape
    return Source(
        items=items,
        labels=np.asarray(labels, "int32") if has_labels else None,
        class_names=tuple(features["label"].names) if has_labels else (),
        image_size=height if height == width else None,
        image_channels=1 if channels == 1 else 3,
    )


def _open_folder(folder, split):
    if not folder.is_dir():
        what = ", but a file" if folder.exists() else ""
        raise ValueError(
            f"There is no such folder{what}. Received: source=folder:{folder}. "
            "Pass the path of a folder of images, absolute or from "
            f"{Path.cwd()}."
        )
    subfolders = {path.name for path in folder.iterdir() if path.is_dir()}
    if split in subfolders and subfolders <= SPLITS:
        folder = folder / split
    elif split != "train":
        raise ValueError(
            f"The source has no such split. Received: split={split!r} of "
            f"folder:{folder}. Put the images into {folder}/train and "
            f"{folder}/{split}, and nothing else beside them."
        )
    found = _files_under(folder)
    known = (*IMAGE_SUFFIXES, *OTHER_IMAGE_SUFFIXES)
    paths = [path for path in found if path.suffix.lower() in known]
    if len(paths) < len(found):
        logging.warning(
            "%d files in %s are not images by their names and are left out.",
            len(found) - len(paths),
            folder,
        )
    if not paths:
        raise ValueError(
            f"The folder holds no images. Received: source=folder:{folder}. "
            f"Files must end in {', '.join(IMAGE_SUFFIXES)}."
        )
    classes = [path.relative_to(folder).parts[:-1][:1] for path in paths]
    if () in classes and len(set(classes)) > 1:
        raise ValueError(
            "Images lie both in the folder and in its subfolders, so it is "
            f"not clear whether those are classes. Received: source=folder:"
            f"{folder}. Put every image into a subfolder, or none."
        )
    names = () if () in classes else tuple(sorted({c for (c,) in classes}))
    numbers = {name: number for number, name in enumerate(names)}
    labels = [numbers[c] for (c,) in classes] if names else None
    return Source(
        items=paths,
        labels=np.asarray(labels, "int32") if names else None,
        class_names=names,
        image_size=None,
        image_channels=3,
        names=paths,
    )


def _files_under(folder):
    """All files under a folder, sorted; links to folders are followed, and
    what is hidden (a name that begins with a dot) is left out."""
    found, entered = [], set()
    for where, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(where)
        if real in entered:  # a link to a folder above itself
            folders.clear()
            continue
        entered.add(real)
        folders[:] = [name for name in folders if name[0] != "."]
        found += [Path(where, name) for name in files if name[0] != "."]
    return sorted(found)


def _open_npz(path, split):
    if not path.is_file():
        raise ValueError(
            f"There is no such file. Received: source=npz:{path}. Pass the "
            f"path of an npz file, absolute or from {Path.cwd()}."
        )
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError("it is an npy file, one array without a name")
        with archive:
            arrays = dict(archive)
    except _NPZ_ERRORS as error:
        raise ValueError(
            f"The file cannot be read as an npz file. Received: source=npz:"
            f"{path} ({error}). Write it by np.savez(path, images=..., "
            "labels=...)."
        ) from None
    pairs = {"train": ("images", "labels")}
    if "images" not in arrays:
        pairs = {s: (f"x_{s}", f"y_{s}") for s in ("train", "test")}
    splits = [s for s, (x, _) in pairs.items() if x in arrays]
    if not splits:
        raise ValueError(
            "The file holds neither 'images' nor 'x_train'. Received: source="
            f"npz:{path} with {', '.join(arrays)}. Write it by np.savez(path, "
            "images=..., labels=...)."
        )
    if split not in splits:
        raise _split_error(split, splits, f"npz:{path}")
    images, labels = (arrays.get(name) for name in pairs[split])
    labels = None if labels is None else labels.reshape(-1)
    _check_arrays(images, labels, path)
    is_grey = images.ndim == 3 or images.shape[-1] == 1
    height, width = images.shape[1:3]
    num_classes = 0 if labels is None else int(labels.max()) + 1
    return Source(
        items=images,
        labels=None if labels is None else labels.astype("int32"),
        class_names=tuple(map(str, range(num_classes))),
        image_size=height if height == width else None,
        image_channels=1 if is_grey else 3,
    )


def _check_arrays(images, labels, path):
    """Raises a `ValueError` for arrays that are no images and labels."""
    if images.dtype != "uint8" or not (
        images.ndim == 3 or (images.ndim == 4 and images.shape[-1] in (1, 3))
    ):
        raise ValueError(
            "Images must be uint8 of shape (num_images, height, width) or "
            f"(num_images, height, width, 1 or 3). Received: {images.dtype} "
            f"of shape {images.shape} in npz:{path}. Convert them to bytes."
        )
    if not len(images) or (labels is not None and len(labels) != len(images)):
        raise ValueError(
            f"There must be images, and as many labels. Received: "
            f"{len(images)} images and "
            f"{'no' if labels is None else len(labels)} labels in npz:{path}. "
            "Write one label per image, or none at all."
        )
    if labels is not None and (
        not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0
    ):
        raise ValueError(
            "Labels must be whole numbers from 0. Received: "
            f"{labels.dtype} from {min(labels.tolist())} in npz:{path}. Number "
            "the classes 0, 1, 2, ..."
        )
