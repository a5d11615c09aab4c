"""Each kind of source is opened as it is, or its fault is told."""

import io
import os
import time

import numpy as np
import pytest
from image_files import random_pixels
from PIL import Image
from sklearn.datasets import load_digits
from source_cases import message_of

from keras_unet_diffusion.data import open_source

NUM_TFDS_TRAIN, NUM_TFDS_TEST = 30, 5


def write_images(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path, "PNG")


@pytest.mark.parametrize(
    "source", ["", "digit", "digits:", "folder:", "npz:", "tfds:", "zip:a"]
)
def test_an_unknown_kind_of_source_is_refused_with_the_known_ones(source):
    message = message_of(source)
    assert repr(source) in message
    for kind in ("digits", "tfds:", "folder:", "npz:"):
        assert kind in message


def test_the_splits_of_digits_are_all_1797_of_them_in_order():
    train, test = open_source("digits"), open_source("digits", "test")
    assert len(train.items) + len(test.items) == 1797
    digits = load_digits()
    labels = np.concatenate([train.labels, test.labels])
    np.testing.assert_array_equal(labels, digits.target)
    pixels = np.concatenate([train.items, test.items])
    # Levels 0 to 16 become 0 to 255, rounded to a whole number.
    error = np.abs(pixels / 255 - digits.images / 16).max()
    assert error <= 0.5 / 255 + 1e-12
    assert train.num_classes == test.num_classes == 10
    assert train.image_channels == 1


def test_digits_have_no_other_split():
    message = message_of("digits", "validation")
    assert "'validation'" in message and "train, test" in message


def test_a_folder_without_subfolders_has_no_labels(tmp_path):
    write_images(tmp_path, "b.png", "a.PNG", "c.jpeg")
    source = open_source(f"folder:{tmp_path}")
    assert [path.name for path in source.items] == ["a.PNG", "b.png", "c.jpeg"]
    assert source.labels is None and source.num_classes is None
    assert source.class_names == ()


def test_subfolders_are_classes_in_the_order_of_the_alphabet(tmp_path):
    write_images(tmp_path, "dog/1.png", "cat/1.png", "cat/2.png", "ant/9.png")
    source = open_source(f"folder:{tmp_path}")
    assert source.class_names == ("ant", "cat", "dog")
    assert source.labels.dtype == np.int32
    named = [source.class_names[label] for label in source.labels]
    assert named == [path.parent.name for path in source.items]
    assert len(named) == 4


def test_deeper_folders_belong_to_the_class_of_the_first(tmp_path):
    write_images(tmp_path, "cat/old/1.png", "cat/2.png", "dog/a/b/c/3.png")
    source = open_source(f"folder:{tmp_path}")
    assert source.class_names == ("cat", "dog")
    for path, label in zip(source.items, source.labels, strict=True):
        first = path.relative_to(tmp_path).parts[0]
        assert source.class_names[label] == first


def test_images_beside_subfolders_are_refused(tmp_path):
    write_images(tmp_path, "cat/1.png", "2.png")
    message = message_of(f"folder:{tmp_path}")
    assert "not clear" in message and str(tmp_path) in message


def test_a_subfolder_named_as_the_split_is_the_split(tmp_path):
    write_images(tmp_path, "train/cat/1.png", "train/dog/2.png")
    write_images(tmp_path, "test/cat/3.png", "test/dog/4.png", "test/dog/5.png")
    train = open_source(f"folder:{tmp_path}")
    test = open_source(f"folder:{tmp_path}", "test")
    assert [path.name for path in train.items] == ["1.png", "2.png"]
    assert [path.name for path in test.items] == ["3.png", "4.png", "5.png"]
    assert train.class_names == test.class_names == ("cat", "dog")


def test_a_class_that_is_called_train_is_a_class(tmp_path):
    write_images(tmp_path, "car/1.png", "train/2.png")
    assert open_source(f"folder:{tmp_path}").class_names == ("car", "train")


def test_links_to_folders_are_followed_once(tmp_path):
    write_images(tmp_path, "elsewhere/1.png", "photos/dog/2.png")
    (tmp_path / "photos" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "dog" / "loop").symlink_to(tmp_path / "photos")
    source = open_source(f"folder:{tmp_path / 'photos'}")
    assert source.class_names == ("cat", "dog")
    assert [path.name for path in source.items] == ["1.png", "2.png"]


def test_a_folder_has_no_other_split_than_its_subfolders(tmp_path):
    write_images(tmp_path, "1.png")
    message = message_of(f"folder:{tmp_path}", "test")
    assert "'test'" in message
    assert f"{tmp_path}/train" in message and f"{tmp_path}/test" in message


def test_files_that_are_no_images_are_counted_and_left_out(tmp_path, caplog):
    write_images(tmp_path, "1.png", "2.png")
    for name in ("notes.txt", ".DS_Store", "Thumbs.db"):
        (tmp_path / name).write_text("")
    with caplog.at_level("WARNING", logger="absl"):
        source = open_source(f"folder:{tmp_path}")
    assert [path.name for path in source.items] == ["1.png", "2.png"]
    # What is hidden is not even counted: every folder of a Mac holds some.
    assert "2 files" in caplog.text and str(tmp_path) in caplog.text


def test_a_link_to_a_lost_image_is_kept_to_be_reported(tmp_path):
    write_images(tmp_path, "1.png")
    (tmp_path / "2.png").symlink_to(tmp_path / "lost.png")
    source = open_source(f"folder:{tmp_path}")
    assert [path.name for path in source.items] == ["1.png", "2.png"]


@pytest.mark.parametrize("only", [None, "notes.txt"])
def test_a_folder_without_images_is_refused(tmp_path, only):
    (tmp_path / "cat").mkdir()
    if only:
        (tmp_path / only).write_text("")
    message = message_of(f"folder:{tmp_path}")
    assert "no images" in message and str(tmp_path) in message
    assert ".jpg" in message


@pytest.mark.parametrize("kind", ["folder", "npz"])
def test_a_missing_path_is_refused_with_where_it_was_sought(kind, tmp_path):
    path = tmp_path / "missing"
    message = message_of(f"{kind}:{path}")
    assert str(path) in message and os.getcwd() in message


def test_a_file_is_no_folder(tmp_path):
    write_images(tmp_path, "1.png")
    file = f"folder:{tmp_path / '1.png'}"
    assert "no such folder, but a file" in message_of(file)


def tfds_examples(split):
    count = {"train": NUM_TFDS_TRAIN, "test": NUM_TFDS_TEST}[split]
    images = random_pixels(count, 6, 6, 3, seed=count)
    return images, np.arange(count) % 3


@pytest.fixture(scope="module")
def tfds_folder(tmp_path_factory):
    """A data_dir that holds the set "small_pictures"."""
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("tfds")

    def examples(split):
        for k, (image, label) in enumerate(
            zip(*tfds_examples(split), strict=True)
        ):
            yield k, {"image": image, "label": int(label)}

    tfds.dataset_builders.store_as_tfds_dataset(
        name="small_pictures",
        version="1.0.0",
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(6, 6, 3)),
                "label": tfds.features.ClassLabel(names=["ant", "bee", "cat"]),
            }
        ),
        split_datasets={split: examples(split) for split in ("train", "test")},
        data_dir=str(folder),
        disable_shuffling=True,
    )
    return folder


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_tfds_set_is_read_back_exactly(tfds_folder, split):
    source = open_source("tfds:small_pictures", split, tfds_folder)
    images, labels = tfds_examples(split)
    assert len(source.items) == len(images)
    for data, image in zip(source.items, images, strict=True):
        # They are kept as PNG files, which lose nothing.
        with Image.open(io.BytesIO(data)) as picture:
            np.testing.assert_array_equal(np.asarray(picture), image)
    np.testing.assert_array_equal(source.labels, labels)
    assert source.class_names == ("ant", "bee", "cat")
    assert (source.image_size, source.image_channels) == (6, 3)


def test_a_tfds_set_has_no_other_split(tfds_folder):
    message = message_of("tfds:small_pictures", "half", data_dir=tfds_folder)
    assert "'half'" in message
    assert "train" in message and "test" in message


# A set with one form, and one with several, whose folder is a level deeper.
@pytest.mark.parametrize("name", ["cifar10", "cycle_gan"])
def test_a_tfds_set_that_is_not_on_disk_is_told_within_seconds(tmp_path, name):
    began = time.perf_counter()
    message = message_of(f"tfds:{name}", data_dir=tmp_path)
    # No network is asked: a refused or hanging connection takes longer.
    assert time.perf_counter() - began < 10
    assert "not on disk" in message
    assert f"looked in {tmp_path}. " in message
    assert f"tfds.load('{name}', data_dir='{tmp_path}')" in message


@pytest.mark.parametrize(
    "name", ["no_such_set", "cifar10:9.9.9", "glue/no_such_form", "bad name!"]
)
def test_an_unknown_tfds_set_is_refused_within_seconds(tmp_path, name):
    began = time.perf_counter()
    message = message_of(f"tfds:{name}", data_dir=tmp_path)
    # No network is asked: a refused or hanging connection takes longer.
    assert time.perf_counter() - began < 10
    assert "no such set" in message and f"tfds:{name}" in message
