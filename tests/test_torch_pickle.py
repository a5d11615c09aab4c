"""Hostile files of PyTorch run nothing and take no memory."""

import io
import pickle
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from torch_programs import (
    mapping,
    number,
    program,
    tensor,
    text,
    write_legacy,
    write_zip,
)

from keras_unet_diffusion.weights import open_checkpoint

# Reading a pickle of a few bytes takes less, the modules included.
MAX_BYTES = 20e6

ONE = {"0": bytes(4)}


def refusal(path):
    """The message with which a file is refused, at little cost."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as error:
            open_checkpoint(path)
        assert tracemalloc.get_traced_memory()[1] < MAX_BYTES
    finally:
        tracemalloc.stop()
    message = str(error.value)
    assert f"Received: {path}. " in message
    return message


def commands(marker):
    """Programs that would make a file, and what is told of each."""
    touch = f"touch {marker}"
    protocol_4 = b"\x80\x04\x95" + bytes(8)
    stack_global = b"\x8c\x05posix\x8c\x06system\x93" + text(touch) + b"\x85R."
    line = touch.encode()
    return {
        "REDUCE": (program(b"cos\nsystem\n" + text(touch) + b"\x85R"), "os."),
        "STACK_GLOBAL": (protocol_4 + stack_global, "posix.system"),
        "INST": (program(b"(S'%s'\nios\nsystem\n" % line), "opcode"),
        "OBJ": (program(b"(cos\nsystem\n" + text(touch) + b"o"), "os.system"),
        "NEWOBJ": (program(b"ccollections\nOrderedDict\n)\x81"), "opcode"),
        "EXT1": (program(b"\x82\x01"), "opcode"),
        "eval": (
            program(b"cbuiltins\neval\n" + text(f"open({str(marker)!r},'w')"))
            + b"\x85R.",
            "builtins.eval",
        ),
        # A stand-in of ours, through its attributes.
        "attribute": (
            b"\x80\x04\x8c\x0ctorch._utils\x8c\x28"
            b"_rebuild_tensor_v2.__globals__.__getitem\x93.",
            "torch._utils._rebuild_tensor_v2.__globals__",
        ),
        "a dict": (program(mapping(a=b"cos\nsystem\n")), "os.system"),
        "BUILD": (program(b"ctorch\nfloat32\n}b"), "no dict"),
        "a call of a dict": (program(b"})R"), "no function"),
        "load_from_bytes": (
            program(b"ctorch.storage\n_load_from_bytes\nC\x01x\x85R"),
            "torch.storage._load_from_bytes",
        ),
    }


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize("kind", commands(""))
def test_nothing_in_a_file_is_run(kind, write, tmp_path):
    marker = tmp_path / "marker"
    opcodes, word = commands(marker)[kind]
    message = refusal(write(tmp_path / "a.pt", opcodes, {}))
    if word == "opcode":
        word = "does more than describe tensors"
    assert word in message
    assert not marker.exists()


def test_python_would_have_run_the_first_of_them(tmp_path):
    marker = tmp_path / "marker"
    pickle.load(io.BytesIO(commands(marker)["REDUCE"][0]))
    assert marker.exists()


def test_a_refused_name_comes_with_a_way_to_convert_the_file(tmp_path):
    path = write_zip(tmp_path / "a.pt", program(b"cmine\nNetwork\n"))
    message = refusal(path)
    assert "asks for mine.Network" in message
    assert ".safetensors" in message


@pytest.mark.parametrize("name", ["torch_utils.persistence\n_x", "dnnlib\nE"])
def test_pickles_of_edm_get_advice_of_their_own(name, tmp_path):
    path = write_zip(tmp_path / "a.pt", program(b"c%s\n" % name.encode()))
    assert "EDM's repository" in refusal(path)


def test_a_bare_pickle_is_not_read_at_all(tmp_path):
    path = tmp_path / "edm.pkl"
    path.write_bytes(pickle.dumps({"ema": 1}))
    assert "EDM's repository" in refusal(path)


BOMBS = {
    "marks in marks": (b"(" * 10**5, "nested too deeply"),
    "lists in lists": (b"](" * 10**5, "nested too deeply"),
    "tuples in tuples": (b")" + b"\x85" * 10**5, "no dict of tensors"),
    "a memo of 2**31": (b"}r\xff\xff\xff\x7f", "not clear"),
    "text of 2 GiB": (b"X\xff\xff\xff\x7f", "cut off"),
    "bytes of 2**60": (b"\x96" + (2**60).to_bytes(8, "little"), "does more"),
    "a frame of 2**60": (b"\x95" + (2**60).to_bytes(8, "little"), "cannot"),
    "a name without end": (b"c" + b"a" * 10**6, "too long"),
    "a number without end": (b"L" + b"9" * 10**6 + b"\n", "does more"),
    # Its hash would take 2**60 steps, and no memory.
    "twins of twins": (b"})" + b"2\x86" * 60 + b"Ns", "does more"),
    "twins by the memo": (
        b"})" + b"q\x00h\x00\x86" * 60 + b"Ns",
        "unusual keys",
    ),
    "numbers of one hash": (
        b"}(" + number(2**61 - 1) + b"Nu",
        "unusual keys",
    ),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_pickle_costs_no_more_than_its_size(bomb, tmp_path):
    opcodes, word = BOMBS[bomb]
    path = write_zip(tmp_path / "a.pt", program(opcodes))
    start = time.monotonic()
    assert word in refusal(path)
    assert time.monotonic() - start < 5


def test_too_many_objects_are_refused(tmp_path):
    path = write_zip(
        tmp_path / "a.pt", program(b"](" + b"N" * 2_100_000 + b"e")
    )
    # Without a trace of memory, which is slow: 8 bytes each at most.
    with pytest.raises(ValueError, match="too many objects"):
        open_checkpoint(path)


IMPOSSIBLE = {
    "an expansion to 2**40": tensor((2**40,), (0,), 1),
    "an expansion to 2": tensor((2,), (0,), 1),
    "a storage longer than its member": tensor((2**30,), (1,), 2**30),
    "an offset beyond the end": tensor((1,), (1,), 1, offset=1),
    "a stride beyond the end": tensor((1, 2), (1, 5), 4),
    "a negative size": tensor((-1,), (1,), 1),
    "a negative stride": tensor((1,), (-1,), 1),
    "a negative offset": tensor((1,), (1,), 1, offset=-1),
    "a negative storage": tensor((0,), (1,), -1),
    "a shape without strides": tensor((1,), (), 1),
    "a storage that is not there": tensor((1,), (1,), 1, key="1"),
    "a storage elsewhere": tensor((1,), (1,), 1, key="../../a"),
    "33 dimensions": tensor((1,) * 33, (1,) * 33, 1),
    "a number beyond 64 bits": tensor((2**70,), (1,), 1),
    "True as a size": tensor((True,), (1,), 1),
}


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_tensor_beyond_its_storage_is_refused(name, write, tmp_path):
    storages = ONE if write is write_zip else {"0": np.zeros(1, "float32")}
    opcodes = program(mapping(a=IMPOSSIBLE[name]))
    refusal(write(tmp_path / "a.pt", opcodes, storages))


def test_one_storage_of_two_lengths_is_refused(tmp_path):
    both = mapping(a=tensor((1,), (1,), 1), b=tensor((1,), (1,), 2))
    path = write_zip(tmp_path / "a.pt", program(both), {"0": bytes(8)})
    assert "two lengths" in refusal(path)


def test_compressed_members_are_refused(tmp_path):
    size = 50_000_000
    path = write_zip(
        tmp_path / "a.pt",
        program(mapping(a=tensor((size // 4,), (1,), size // 4))),
        {"0": bytes(size)},
        zipfile.ZIP_DEFLATED,
    )
    assert path.stat().st_size < size / 500
    assert "compressed" in refusal(path)


def test_a_zip_without_its_pickle_is_refused(tmp_path):
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/version", b"3")
    refusal(path)


@pytest.mark.parametrize("order", [b"big", b"middle", bytes(100)])
def test_other_orders_of_bytes_are_refused(order, tmp_path):
    opcodes = program(mapping(a=tensor((1,), (1,), 1)))
    path = write_zip(tmp_path / "a.pt", opcodes, ONE)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/byteorder", order)
    refusal(path)
    array = np.zeros(1, "float32")
    path = write_legacy(tmp_path / "b.pt", opcodes, {"0": array}, False)
    assert "little-endian" in refusal(path)


def test_a_changed_byte_is_found_by_the_checksum(tmp_path):
    value = np.float32(1.2345).tobytes()
    opcodes = program(mapping(a=tensor((1,), (1,), 1)))
    path = write_zip(tmp_path / "a.pt", opcodes, {"0": value})
    data = path.read_bytes()
    path.write_bytes(data.replace(value, value[::-1]))
    checkpoint = open_checkpoint(path)
    with pytest.raises(ValueError, match="CRC"):
        checkpoint.read("a")
