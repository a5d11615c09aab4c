"""Checkpoint files of every format are read as they were written."""

import io
import json
import os
import struct
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest
from checkpoint_cases import arrays, assert_equal, contents, refusal
from numpy.lib import format as npy_format
from safetensors.numpy import load_file, save_file

from keras_unet_diffusion.weights import (
    open_checkpoint,
    write_npz,
    write_safetensors,
    write_torch,
)

WRITERS = {
    "model.safetensors": write_safetensors,
    "model.npz": write_npz,
    "model.pt": write_torch,
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_was_written_is_read_back_bit_for_bit(name, tmp_path):
    columns_first = arrays()
    columns_first["conv.weight"] = np.asfortranarray(arrays()["conv.weight"])
    WRITERS[name](tmp_path / name, columns_first)
    assert_equal(contents(tmp_path / name), arrays())
    assert open_checkpoint(tmp_path / name).config is None


def test_numpy_and_safetensors_read_what_was_written(tmp_path):
    write_npz(tmp_path / "a.npz", arrays())
    assert_equal(np.load(tmp_path / "a.npz"), arrays())
    write_safetensors(tmp_path / "a.safetensors", arrays(), {"format": "pt"})
    assert_equal(load_file(tmp_path / "a.safetensors"), arrays())


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize(
    ("tensors", "word"),
    [
        ({}, "must hold an array"),
        ({"a": np.zeros(1)}, "'a' of float64"),
        ({"a": np.zeros(1, ">f4")}, "'a' of >f4"),
        ({"a": [0.0]}, "'a' of list"),
        ({"": np.zeros(1, "float32")}, "must have names"),
        ({1: np.zeros(1, "float32")}, "must have names"),
    ],
)
def test_only_named_float32_arrays_are_written(name, tensors, word, tmp_path):
    with pytest.raises(ValueError, match=word):
        WRITERS[name](tmp_path / name, tensors)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["model.safetensors", "model.npz"])
def test_a_failed_run_leaves_what_was_there(name, tmp_path):
    WRITERS[name](tmp_path / name, arrays())
    before = (tmp_path / name).read_bytes()
    with pytest.raises(ValueError):
        # No encoding of text has this.
        WRITERS[name](tmp_path / name, arrays() | {"\ud800": arrays()["file"]})
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize("metadata", [{"a": 1}, {1: "a"}])
def test_metadata_must_be_text(metadata, tmp_path):
    with pytest.raises(ValueError, match="must be text"):
        write_safetensors(tmp_path / "a.safetensors", arrays(), metadata)


TYPES = "float64 float32 float16 int64 int32 int16 int8 uint8 uint64 bool"


@pytest.mark.parametrize("name", ["a.npz", "compressed.npz", "a.safetensors"])
def test_every_type_of_number_is_read_as_numpy_converts_it(name, tmp_path):
    values = np.array([[0, 1, 100], [0.1, 2.5, 3]])
    state = {dtype: values.astype(dtype) for dtype in TYPES.split()}
    if name == "a.safetensors":
        state["bfloat16"] = values.astype(ml_dtypes.bfloat16)
        save_file(state, tmp_path / name)
    else:
        state["big-endian"] = values.astype(">f4")
        state["columns first"] = np.asfortranarray(values)
        save = np.savez if name == "a.npz" else np.savez_compressed
        save(tmp_path / name, **state)
    expected = {k: x.astype("float32") for k, x in state.items()}
    assert_equal(contents(tmp_path / name), expected)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
def test_eight_bit_numbers_are_refused_by_name(dtype, tmp_path):
    header = {"a": {"dtype": dtype, "shape": [8], "data_offsets": [0, 8]}}
    path = write_header(tmp_path / "a.safetensors", header, bytes(8))
    assert open_checkpoint(path).shapes == {"a": (8,)}
    assert f"'a' is of the type {dtype}" in refusal(path)


def test_bfloat16_from_npz_is_refused_because_numpy_forgets_its_type(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.zeros(1, ml_dtypes.bfloat16))
    assert "V2" in refusal(tmp_path / "a.npz")


def test_a_name_that_is_not_there_is_told(tmp_path):
    write_npz(tmp_path / "a.npz", arrays())
    with pytest.raises(ValueError, match="no array 'missing'.*a.npz"):
        open_checkpoint(tmp_path / "a.npz").read("missing")


@pytest.mark.parametrize("name", WRITERS)
def test_opening_reads_no_array_and_reading_reads_one(name, tmp_path):
    size = 2_000_000
    big = {key: np.ones(size, "float32") for key in "abcd"}
    WRITERS[name](tmp_path / name, big)
    open_checkpoint(tmp_path / name)  # imports
    tracemalloc.start()
    checkpoint = open_checkpoint(tmp_path / name)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    checkpoint.read("c")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The bytes as read, pieces of them, and the array; not four arrays.
    assert peak < 3 * size * 4 + 1e6


def write_header(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]}},
        {"a": {"dtype": "F32", "shape": [1] * 70, "data_offsets": [0, 4]}},
        {"a": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}},
        b'{"a":' * 50_000,
        b"[" * 50_000,
        {},
    ],
)
def test_hostile_safetensors_are_refused(header, tmp_path):
    refusal(write_header(tmp_path / "a.safetensors", header, bytes(4)))


def npz_of(path, header, data=b"", method=zipfile.ZIP_DEFLATED):
    """An .npz file of one array with any header."""
    file = io.BytesIO()
    if isinstance(header, bytes):
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)))
        file.write(header)
    else:
        npy_format.write_array_header_1_0(file, header)
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.npy", file.getvalue() + data)
    return path


def described(shape, descr="<f4"):
    return {"descr": descr, "fortran_order": False, "shape": shape}


@pytest.mark.parametrize(
    "header",
    [
        described((2**40,)),
        described((2,)),
        described((-1,)),
        described((1,), "<c8"),
        described((1,), "|O"),
        described((1,), [("x", "<f4")]),
        described((1,) * 70),
        b"(" * 9000,
        b"-" * 9000,
        b"{'descr':__import__('os').mkdir('made')}",
    ],
)
def test_hostile_npz_files_are_refused(header, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refusal(npz_of(tmp_path / "a.npz", header, bytes(4)))
    assert os.listdir(tmp_path) == ["a.npz"]


def test_pickled_objects_in_npz_files_are_not_loaded(tmp_path):
    class Touch:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    objects = np.array([Touch()], dtype=object)
    np.savez(tmp_path / "a.npz", a=objects)
    assert "of the type object" in refusal(tmp_path / "a.npz")
    assert not (tmp_path / "made").exists()


def test_a_compressed_bomb_is_refused_before_it_is_unpacked(tmp_path):
    size = 80 * 2**20
    path = npz_of(tmp_path / "a.npz", described((size // 4,)), bytes(size))
    assert path.stat().st_size < size / 500
    tracemalloc.start()
    message = refusal(path)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()
    assert "would unpack" in message


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_numpy_never_uses_are_refused(method, tmp_path):
    path = npz_of(tmp_path / "a.npz", described((1,)), bytes(4), method)
    assert "unusual method" in refusal(path)


@pytest.mark.parametrize("names", [("a.txt",), ("a.npy", "a.npy")])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_npz_files_of_something_else_are_refused(names, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    refusal(tmp_path / "a.npz")


SAVED = {
    "a.npz": lambda path, tensors: np.savez(path, **tensors),
    "compressed.npz": lambda path, tensors: np.savez_compressed(
        path, **tensors
    ),
    "a.safetensors": write_safetensors,
    "a.pt": write_torch,
}


@pytest.mark.parametrize("name", SAVED)
def test_a_damaged_file_gives_an_error_or_what_was_written(name, tmp_path):
    expected = {"conv": np.float32([[1, 2]]), "b": np.float32(3).reshape(())}
    path = tmp_path / name
    SAVED[name](path, expected)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    damaged = [whole[:size] for size in range(0, len(whole), 5)]
    for position in random.integers(len(whole), size=200):
        changed = bytearray(whole)
        changed[position] ^= 1 << random.integers(8)
        damaged.append(bytes(changed))
    num_read = 0
    for data in damaged:
        path.write_bytes(data)
        try:
            found = contents(path)
        except ValueError as error:
            assert f"Received: {path}. " in str(error)
        else:
            num_read += 1
            if name != "a.safetensors":  # It alone has no checksum.
                assert_equal(found, expected)
    assert num_read < len(damaged) / 2
