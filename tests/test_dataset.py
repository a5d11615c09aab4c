"""From a source to batches: order, pairing and mirroring."""

import os
from pathlib import Path

import numpy as np
import pytest
from dataset_cases import numbered_source, read, to_bytes, write_folder
from PIL import Image

from keras_unet_diffusion.data import (
    decode_image,
    decode_source,
    image_dataset,
    open_source,
)


def test_a_pipeline_does_not_tune_itself():
    # TensorFlow would hold its end up, for as long again as it ran.
    assert image_dataset("digits").options().autotune.enabled is False


def test_each_epoch_is_a_new_permutation_of_the_whole_set():
    dataset = image_dataset(numbered_source(101), batch_size=8)
    epochs = [read(dataset)[1] for _ in range(3)]
    for labels in epochs:
        np.testing.assert_array_equal(np.sort(labels), np.arange(101))
    # Two of 101! orders are equal by chance with probability 1e-160.
    assert (epochs[0] != epochs[1]).any()
    assert (epochs[1] != epochs[2]).any()


def test_the_same_seed_gives_the_same_epochs():
    def three_epochs(seed):
        dataset = image_dataset(
            numbered_source(60), batch_size=7, flip=True, seed=seed
        )
        return [read(dataset) for _ in range(3)]

    for (images, labels), (images_again, labels_again) in zip(
        three_epochs(5), three_epochs(5), strict=True
    ):
        np.testing.assert_array_equal(images, images_again)
        np.testing.assert_array_equal(labels, labels_again)
    assert (three_epochs(5)[0][1] != three_epochs(6)[0][1]).any()


def test_each_image_keeps_its_label():
    source = numbered_source(50)
    images, labels = read(image_dataset(source, batch_size=8))
    np.testing.assert_array_equal(to_bytes(images), source.items[labels])


def test_without_shuffling_the_order_is_that_of_the_source():
    source = numbered_source(20)
    dataset = image_dataset(source, batch_size=8, shuffle=False)
    for _ in range(2):
        images, labels = read(dataset)
        np.testing.assert_array_equal(labels, np.arange(20))
        np.testing.assert_array_equal(to_bytes(images), source.items)


def test_the_first_batch_of_a_sorted_set_holds_most_classes():
    source = numbered_source(5000)
    dataset = image_dataset(source, batch_size=64)
    _, labels = read(dataset, 1)
    # Ten classes of 500, one after the other. That 64 of them at random leave
    # out some three has a probability below 120 * 0.7**64 = 2e-8.
    assert len(np.unique(labels // 500)) >= 8


def test_an_epoch_ends_with_a_smaller_batch():
    dataset = image_dataset(numbered_source(21), batch_size=8)
    sizes = [len(labels) for _, labels in dataset.as_numpy_iterator()]
    assert sizes == [8, 8, 5]
    assert len(dataset) == 3


def test_repeating_gives_full_batches_and_whole_permutations():
    dataset = image_dataset(numbered_source(21), batch_size=8, repeat=True)
    batches = list(dataset.take(21).as_numpy_iterator())
    assert {len(labels) for _, labels in batches} == {8}
    epochs = np.concatenate([labels for _, labels in batches]).reshape(8, 21)
    for labels in epochs:
        np.testing.assert_array_equal(np.sort(labels), np.arange(21))
    # Two of 21! orders are equal by chance with probability 2e-20.
    assert len(np.unique(epochs, axis=0)) == 8


def test_a_batch_larger_than_the_set_is_filled_by_repeating():
    dataset = image_dataset(numbered_source(3), batch_size=10, repeat=True)
    _, labels = read(dataset, 3)
    assert (np.bincount(labels) == 10).all()


@pytest.mark.parametrize("start_batch", [1, 2, 7])
def test_start_batch_skips_exactly_so_many(start_batch):
    options = {"batch_size": 8, "repeat": True, "flip": True, "seed": 3}
    source = numbered_source(21)
    whole = read(image_dataset(source, **options), 12)
    later = read(
        image_dataset(source, start_batch=start_batch, **options),
        12 - start_batch,
    )
    for expected, received in zip(whole, later, strict=True):
        np.testing.assert_array_equal(received, expected[8 * start_batch :])


def which_are_mirrored(images, labels, source):
    """Bool per image, after a check that each is as it was or mirrored."""
    before = source.items[labels]
    same = (to_bytes(images) == before).all((1, 2, 3))
    mirrored = (to_bytes(images) == before[:, :, ::-1]).all((1, 2, 3))
    # Random images are not their own mirror images.
    np.testing.assert_array_equal(same, ~mirrored)
    return mirrored


def test_half_of_the_images_are_mirrored_and_nothing_else():
    source = numbered_source(1000)
    dataset = image_dataset(source, batch_size=64, flip=True)
    count = which_are_mirrored(*read(dataset), source).sum()
    # Hoeffding: a fair coin misses by more than 100 with probability below
    # 2 exp(-2 * 100**2 / 1000) = 4e-9.
    assert abs(count - 500) <= 100


@pytest.mark.parametrize("shuffle", [False, True])
def test_mirroring_is_chosen_anew_in_each_epoch(shuffle):
    source = numbered_source(1000)
    dataset = image_dataset(source, batch_size=64, flip=True, shuffle=shuffle)
    epochs = []
    for _ in range(2):
        images, labels = read(dataset)
        mirrored = which_are_mirrored(images, labels, source)
        epochs.append(mirrored[np.argsort(labels)])
    # The same bound as above: independent coins differ in half of the cases.
    assert abs((epochs[0] != epochs[1]).sum() - 500) <= 100


def test_nothing_is_mirrored_unless_asked():
    source = numbered_source(100)
    dataset = image_dataset(source, batch_size=64)
    assert not which_are_mirrored(*read(dataset), source).any()


def test_the_images_of_a_folder_are_those_of_decode_image(tmp_path):
    paths = sorted(write_folder(tmp_path, 7))
    images, labels = read(image_dataset(f"folder:{tmp_path}", 4, shuffle=False))
    assert images.dtype == np.float32 and labels.dtype == np.int32
    for path, image, label in zip(paths, images, labels, strict=True):
        np.testing.assert_array_equal(to_bytes(image), decode_image(path, 4))
        assert ("ant", "bee")[label] == path.parent.name


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_read_anew_gives_the_batches_of_one_in_memory(
    tmp_path, channels
):
    write_folder(tmp_path, 11)
    options = {"batch_size": 3, "repeat": True, "flip": True, "seed": 2}
    in_memory, anew = (
        image_dataset(
            f"folder:{tmp_path}",
            4,
            channels,
            max_decoded_bytes=limit,
            **options,
        )
        for limit in (10**6, 0)
    )
    assert in_memory.element_spec == anew.element_spec
    for expected, received in zip(
        read(in_memory, 9), read(anew, 9), strict=True
    ):
        np.testing.assert_array_equal(received, expected)


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
@pytest.mark.parametrize("limit", [10**6, 0])
def test_names_of_images_need_not_be_utf_8(tmp_path, limit):
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    try:
        Image.new("RGB", (4, 4), (1, 2, 3)).save(path)
    except OSError:
        pytest.skip("this file system wants UTF-8")
    dataset = image_dataset(f"folder:{tmp_path}", 4, max_decoded_bytes=limit)
    (images,) = dataset.as_numpy_iterator()
    assert (to_bytes(images) == [1, 2, 3]).all()


def test_digits_are_16_by_16_and_span_the_whole_range():
    images, labels = read(image_dataset("digits", batch_size=500))
    assert images.shape == (1500, 16, 16, 1)
    assert (images.min(), images.max()) == (-1, 1)
    assert set(labels) == set(range(10))


def test_a_source_without_labels_gives_images_alone(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    dataset = image_dataset(f"folder:{tmp_path}", 4)
    (images,) = dataset.as_numpy_iterator()
    assert images.shape == (1, 4, 4, 3)


def test_grey_arrays_become_rgb_and_rgb_arrays_grey(tmp_path):
    random = np.random.default_rng(0)
    grey = random.integers(0, 256, (5, 4, 4), dtype="uint8")
    np.savez(tmp_path / "grey.npz", images=grey)
    (images,) = image_dataset(
        f"npz:{tmp_path}/grey.npz", image_channels=3, shuffle=False
    ).as_numpy_iterator()
    np.testing.assert_array_equal(to_bytes(images), np.stack([grey] * 3, -1))

    source = numbered_source(5)
    images, _ = read(image_dataset(source, image_channels=1, shuffle=False))
    luma = source.items @ np.array([0.299, 0.587, 0.114])
    # Half for rounding, and the weights are kept in 16 bits.
    assert np.abs(to_bytes(images)[..., 0] - luma).max() <= 0.51


def test_arrays_larger_than_the_memory_allowed_are_refused():
    # 10 images of 4 x 4 x 3 bytes.
    image_dataset(numbered_source(10), max_decoded_bytes=480)
    with pytest.raises(ValueError, match="10 images"):
        image_dataset(numbered_source(10), max_decoded_bytes=479)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"image_size": 0},
        {"image_size": -8},
        {"image_channels": 2},
        {"start_batch": -1},
        {"on_bad_image": "ignore"},
    ],
)
def test_an_argument_out_of_range_is_refused_by_name_and_value(options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError) as refusal:
        image_dataset("digits", **options)
    assert f"{name}={value!r}" in str(refusal.value)


def test_a_folder_needs_an_image_size(tmp_path):
    write_folder(tmp_path, 2)
    with pytest.raises(ValueError, match="image_size=None"):
        image_dataset(f"folder:{tmp_path}")


def test_an_opened_source_and_its_name_give_the_same_batches(tmp_path):
    write_folder(tmp_path, 9)
    name = f"folder:{tmp_path}"
    expected = read(image_dataset(name, 4, seed=1))
    received = read(image_dataset(open_source(name), 4, seed=1))
    for a, b in zip(expected, received, strict=True):
        np.testing.assert_array_equal(a, b)
    assert isinstance(open_source(name).items[0], Path)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_decoded_source_gives_the_same_batches(tmp_path, channels):
    paths = write_folder(tmp_path, 9)
    source = open_source(f"folder:{tmp_path}")
    decoded = decode_source(source, 4, channels)
    expected = read(image_dataset(source, 4, channels, seed=1))
    for path in paths:
        path.unlink()
    received = read(image_dataset(decoded, batch_size=64, seed=1))
    for a, b in zip(expected, received, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_bad_image_is_named_when_a_source_is_decoded(tmp_path):
    path = write_folder(tmp_path, 3)[0]
    path.write_bytes(b"no image")
    with pytest.raises(ValueError, match=str(path)) as refusal:
        decode_source(open_source(f"folder:{tmp_path}"), 4, 3)
    # Of the buffer that Pillow was given nobody has heard.
    assert "BytesIO" not in str(refusal.value)
