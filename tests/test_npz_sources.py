"""Sources of one .npz file are read as they are, or their fault is told."""

import os

import numpy as np
import pytest
from image_files import random_pixels
from source_cases import message_of

from keras_unet_diffusion.data import open_source


@pytest.mark.parametrize(
    "shape, size, channels",
    [
        ((5, 6, 6), 6, 1),
        ((5, 6, 6, 1), 6, 1),
        ((5, 6, 6, 3), 6, 3),
        ((5, 6, 4, 3), None, 3),
    ],
)
def test_npz_images_and_labels_are_read_back(tmp_path, shape, size, channels):
    images, labels = random_pixels(*shape), [2, 0, 0, 1, 2]
    path = tmp_path / "a.npz"
    np.savez(path, images=images, labels=labels)
    source = open_source(f"npz:{path}")
    np.testing.assert_array_equal(source.items, images)
    np.testing.assert_array_equal(source.labels, labels)
    assert source.labels.dtype == np.int32
    assert source.class_names == ("0", "1", "2")
    assert (source.image_size, source.image_channels) == (size, channels)


def test_npz_images_need_no_labels(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, images=random_pixels(3, 4, 4))
    source = open_source(f"npz:{path}")
    assert source.labels is None and source.num_classes is None


def test_npz_in_the_keras_layout_has_two_splits(tmp_path):
    path = tmp_path / "a.npz"
    x_train, x_test = random_pixels(4, 5, 5, 3), random_pixels(2, 5, 5, 3)
    # cifar10's labels are a column.
    np.savez(
        path,
        x_train=x_train,
        y_train=np.array([[0], [1], [2], [1]]),
        x_test=x_test,
        y_test=np.array([2, 0]),
    )
    train, test = open_source(f"npz:{path}"), open_source(f"npz:{path}", "test")
    np.testing.assert_array_equal(train.items, x_train)
    np.testing.assert_array_equal(train.labels, [0, 1, 2, 1])
    np.testing.assert_array_equal(test.items, x_test)
    np.testing.assert_array_equal(test.labels, [2, 0])
    assert "train, test" in message_of(f"npz:{path}", "validation")


GOOD = random_pixels(6, 4, 4)


@pytest.mark.parametrize(
    "arrays, said",
    [
        ({"images": GOOD.astype("float32")}, "float32"),
        ({"images": GOOD.astype("int64")}, "int64"),
        ({"images": GOOD[0]}, "(4, 4)"),
        ({"images": GOOD[..., None].repeat(4, -1)}, "(6, 4, 4, 4)"),
        ({"images": np.uint8(3)}, "()"),
        ({"images": GOOD[:0]}, "0 images"),
        ({"images": GOOD, "labels": np.arange(5)}, "5 labels"),
        ({"images": GOOD, "labels": np.eye(6, dtype=int)}, "36 labels"),
        ({"images": GOOD, "labels": np.arange(6) / 2}, "float64"),
        ({"images": GOOD, "labels": np.arange(6) - 1}, "from -1"),
        ({"images": GOOD, "labels": np.array(list("abcdef"))}, "from a"),
        ({"pictures": GOOD, "labels": np.arange(6)}, "pictures, labels"),
        ({"y_train": np.arange(6)}, "y_train"),
        ({}, "neither"),
    ],
)
def test_npz_arrays_that_are_no_images_are_refused(tmp_path, arrays, said):
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    message = message_of(f"npz:{path}")
    assert said in message and str(path) in message


def test_a_pickle_in_an_npz_file_is_refused_and_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "trapped"),)

    path = tmp_path / "a.npz"
    np.savez(path, images=GOOD, labels=np.array([Trap()] * 6, object))
    assert str(path) in message_of(f"npz:{path}")
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_npz_file_is_refused_by_its_path_or_read_exactly(
    tmp_path, save
):
    path = tmp_path / "a.npz"
    save(path, images=GOOD, labels=np.arange(6))
    data = path.read_bytes()
    refused = 0
    # Every other byte in turn, by bits that hit lengths, flags and methods.
    for place in range(0, len(data), 2):
        damaged = bytearray(data)
        damaged[place] ^= 0x89
        path.write_bytes(damaged)
        try:
            source = open_source(f"npz:{path}")
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
        else:
            np.testing.assert_array_equal(source.items, GOOD)
    # Dates and file attributes may be anything; the arrays may not.
    assert refused > len(data) / 4


@pytest.mark.parametrize("data", [b"", b"text", b"PK\x03\x04", b"\x80\x04N."])
def test_what_is_no_npz_file_is_refused(tmp_path, data):
    path = tmp_path / "a.npz"
    path.write_bytes(data)
    assert str(path) in message_of(f"npz:{path}")


def test_an_npy_file_is_no_npz_file(tmp_path):
    path = tmp_path / "a.npz"
    with open(path, "wb") as file:
        np.save(file, GOOD)
    message = message_of(f"npz:{path}")
    assert "npy" in message and str(path) in message
