"""Bad images among good ones are named, counted, and left out if asked."""

import numpy as np
import pytest
from dataset_cases import read, to_bytes, write_folder
from PIL import Image

from keras_unet_diffusion.data import image_dataset
from keras_unet_diffusion.data.sources import Source


def spoil(paths):
    """Damages files in several ways; returns their paths."""
    paths[0].write_bytes(b"")
    paths[1].write_bytes(b"This is no image.\n")
    for path in paths[2:]:
        path.write_bytes(path.read_bytes()[:60])
    return paths


@pytest.mark.parametrize("limit", [10**6, 0])
@pytest.mark.parametrize("num_bad", [2, 15])
def test_an_error_names_every_bad_image_and_their_number(
    tmp_path, num_bad, limit
):
    paths = write_folder(tmp_path, 40)
    bad = spoil(paths[5 : 5 + num_bad])
    with pytest.raises(ValueError) as refusal:
        image_dataset(f"folder:{tmp_path}", 4, max_decoded_bytes=limit)
    message = str(refusal.value)
    assert f"{num_bad} of 40" in message
    assert [path for path in paths if str(path) in message] == bad
    # What to do is said for all of them at once.
    assert message.count("on_bad_image='skip'") == 1


@pytest.mark.parametrize("limit", [10**6, 0])
def test_skipping_leaves_out_the_bad_images_and_no_others(
    tmp_path, caplog, limit
):
    paths = write_folder(tmp_path, 40)
    bad = spoil(paths[5:20])
    with caplog.at_level("WARNING", logger="absl"):
        dataset = image_dataset(
            f"folder:{tmp_path}",
            6,
            on_bad_image="skip",
            shuffle=False,
            max_decoded_bytes=limit,
        )
    assert "15 of 40" in caplog.text
    assert [path for path in paths if str(path) in caplog.text] == bad
    good = sorted(set(paths) - set(bad))
    images, labels = read(dataset)
    for path, image, label in zip(good, images, labels, strict=True):
        with Image.open(path) as picture:
            np.testing.assert_array_equal(to_bytes(image), np.asarray(picture))
        assert ("ant", "bee")[label] == path.parent.name


def test_a_set_of_bad_images_only_is_an_error_even_when_skipping(tmp_path):
    spoil(write_folder(tmp_path, 4))
    with pytest.raises(ValueError, match="4 of 4"):
        image_dataset(f"folder:{tmp_path}", 4, on_bad_image="skip")


def test_images_of_other_formats_and_lost_links_are_reported(tmp_path):
    paths = write_folder(tmp_path, 3)
    tiff, link = tmp_path / "ant" / "a.tif", tmp_path / "bee" / "lost.png"
    Image.new("RGB", (4, 4)).save(tiff)
    link.symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(ValueError, match="2 of 5") as refusal:
        image_dataset(f"folder:{tmp_path}", 4)
    assert str(tiff) in str(refusal.value)
    assert str(link) in str(refusal.value)
    assert not any(str(path) in str(refusal.value) for path in paths)


def test_bad_images_without_a_path_are_named_by_their_number(tmp_path):
    (path,) = write_folder(tmp_path, 1)
    data = path.read_bytes()
    source = Source([data, data, data[:50], data], None, (), 6, 3)
    with pytest.raises(ValueError, match="1 of 4") as refusal:
        image_dataset(source)
    assert "image 2:" in str(refusal.value)
