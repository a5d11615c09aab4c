"""Folders of diffusers, and what is no checkpoint at all."""

import json

import numpy as np
import pytest
from checkpoint_cases import arrays, assert_equal, contents, refusal

from keras_unet_diffusion.weights import (
    open_checkpoint,
    write_diffusers_folder,
    write_npz,
    write_safetensors,
    write_torch,
)

WEIGHTS = "diffusion_pytorch_model"
CONFIG = {"_class_name": "UNet2DModel", "attention_head_dim": None}
ONE, TWO = {"w": np.float32([1])}, {"w": np.float32([2])}


def test_a_folder_of_diffusers_is_read_with_its_config(tmp_path):
    write_diffusers_folder(tmp_path / "unet", arrays(), CONFIG)
    # The folder, that around it, and the file in it.
    for path in ("unet", "", f"unet/{WEIGHTS}.safetensors"):
        assert open_checkpoint(tmp_path / path).config == CONFIG
        assert_equal(contents(tmp_path / path), arrays())


def test_what_is_written_for_diffusers_is_legible(tmp_path):
    write_diffusers_folder(tmp_path / "a", arrays(), CONFIG)
    text = (tmp_path / "a" / "config.json").read_text()
    assert json.loads(text) == CONFIG and len(text.splitlines()) == 4
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "config.json",
        f"{WEIGHTS}.safetensors",
    ]


def test_a_folder_with_something_in_it_is_not_written_over(tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(ValueError, match="not empty"):
        write_diffusers_folder(tmp_path, arrays(), CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("config", [{"a": np.zeros(1)}, {"a": float("nan")}])
def test_a_config_that_is_no_json_leaves_nothing(config, tmp_path):
    with pytest.raises(ValueError, match="as JSON"):
        write_diffusers_folder(tmp_path / "a", arrays(), config)
    with pytest.raises(ValueError, match="must hold an array"):
        write_diffusers_folder(tmp_path / "a", {}, CONFIG)
    assert not any(tmp_path.iterdir())


def test_weights_of_pytorch_in_a_folder_are_read(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    write_torch(tmp_path / f"{WEIGHTS}.bin", arrays())
    assert_equal(contents(tmp_path), arrays())
    assert open_checkpoint(tmp_path).config == CONFIG


def write_shards(folder, places, shards):
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / f"{WEIGHTS}.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": places})
    )
    for name, tensors in shards.items():
        write_safetensors(folder / name, tensors)


SHARDS = ("s-1-of-2.safetensors", "s-2-of-2.safetensors")


def test_shards_are_read_as_one(tmp_path):
    tensors = arrays()
    places = {n: SHARDS[k % 2] for k, n in enumerate(reversed(tensors))}
    shards = {
        shard: {n: x for n, x in tensors.items() if places[n] == shard}
        for shard in SHARDS
    }
    write_shards(tmp_path, places, shards)
    assert_equal(contents(tmp_path), tensors)
    assert list(open_checkpoint(tmp_path).shapes) == list(places)
    assert open_checkpoint(tmp_path).config == CONFIG


@pytest.mark.parametrize(
    "places",
    [
        {"w": SHARDS[1]},
        {"w": SHARDS[0], "v": SHARDS[0]},
        {"v": SHARDS[0]},
        {"w": "../outside.safetensors"},
        {"w": "/outside.safetensors"},
        {"w": 3},
        {"w": [SHARDS[0]]},
        {},
        [],
    ],
)
def test_shards_that_do_not_fit_their_list_are_refused(places, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    write_safetensors(tmp_path / "outside.safetensors", ONE)
    write_shards(folder, places, {SHARDS[0]: ONE})
    with pytest.raises(ValueError, match=str(folder)):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"a": 1', "[" * 100_000, "\x00", '{"a": ' * 9999]
)
def test_a_damaged_config_is_refused(text, tmp_path):
    write_safetensors(tmp_path / f"{WEIGHTS}.safetensors", ONE)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match="config.json"):
        open_checkpoint(tmp_path)


def test_a_folder_of_averaged_weights_is_preferred(tmp_path):
    write_diffusers_folder(tmp_path / "unet", ONE, CONFIG)
    with pytest.raises(ValueError, match="does not say"):
        open_checkpoint(tmp_path, ema=True)
    write_diffusers_folder(tmp_path / "unet_ema", TWO, CONFIG)
    assert contents(tmp_path) == contents(tmp_path, ema=True) == TWO
    assert contents(tmp_path, ema=False) == ONE


def test_a_folder_without_weights_is_refused_with_what_is_in_it(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / f"{WEIGHTS}.fp16.safetensors").touch()
    assert "fp16" in refusal(tmp_path)


@pytest.mark.parametrize("write", [write_safetensors, write_npz])
def test_one_set_of_weights_does_not_say_that_it_is_averaged(write, tmp_path):
    write(tmp_path / "a", ONE)
    assert contents(tmp_path / "a") == contents(tmp_path / "a", ema=False)
    assert "ema=True" in refusal(tmp_path / "a", ema=True)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"


@pytest.mark.parametrize(
    ("name", "data", "word"),
    [
        (
            "a.safetensors",
            b"version https://git-lfs.github.com/spec/v1\n",
            "lfs pull",
        ),
        ("a.bin", POINTER, "lfs pull"),
        ("a.pt", b"<!DOCTYPE html><html>", "no known format"),
        ("a.pt", b"", "no known format"),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(100), "no known format"),
        ("a.npz", b"PK\x03\x04" + bytes(100), "cannot be read"),
        ("a.safetensors", b"", "cannot be read"),
        ("a.ckpt.meta", b"\x0a", "TensorFlow"),
        ("a.ckpt.data-00000-of-00001", bytes(9), "TensorFlow"),
        ("a.pkl", b"\x80\x04K\x01.", "pickle"),
    ],
)
def test_what_is_no_checkpoint_is_refused(name, data, word, tmp_path):
    (tmp_path / name).write_bytes(data)
    assert word in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["no.pt", "no.ckpt", "no/model.npz", "no"])
def test_what_is_not_there_is_refused_with_where_it_was_looked_for(
    name, tmp_path
):
    message = refusal(tmp_path / name)
    assert "no such checkpoint" in message and "Looked from" in message


def test_an_empty_folder_is_refused(tmp_path):
    assert "no files" in refusal(tmp_path)
