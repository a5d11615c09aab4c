"""Files of PyTorch are read as PyTorch reads them, and written for it."""

import collections

import numpy as np
import pytest
from checkpoint_cases import arrays, assert_equal, contents
from torch_programs import (
    mapping,
    number,
    program,
    tensor,
    write_legacy,
    write_zip,
)

from keras_unet_diffusion.weights import open_checkpoint, write_torch

NUMBERS = np.arange(6, dtype="float32") + 0.5


# Without PyTorch.


def test_what_was_written_is_read_back_bit_for_bit(tmp_path):
    write_torch(tmp_path / "model.pt", arrays())
    assert_equal(contents(tmp_path / "model.pt"), arrays())


def test_the_same_weights_are_the_same_file(tmp_path):
    write_torch(tmp_path / "a" / "model.pt", arrays())
    write_torch(tmp_path / "b" / "model.pt", arrays())
    first = (tmp_path / "a" / "model.pt").read_bytes()
    assert first == (tmp_path / "b" / "model.pt").read_bytes()


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt", ""])
@pytest.mark.parametrize("legacy", [False, True])
def test_the_content_and_not_the_suffix_tells_the_format(
    suffix, legacy, tmp_path
):
    path = tmp_path / f"model{suffix}"
    opcodes = program(mapping(a=tensor((2, 3), (3, 1), 6)))
    if legacy:
        write_legacy(path, opcodes, {"0": NUMBERS})
    else:
        write_zip(path, opcodes, {"0": NUMBERS.tobytes()})
    assert_equal(contents(path), {"a": NUMBERS.reshape(2, 3)})


def test_tensors_that_claim_more_than_is_stored_are_refused(tmp_path):
    views = {f"w{k}": tensor((6,), (1,), 6) for k in range(3)}
    path = tmp_path / "model.pt"
    write_zip(path, program(mapping(**views)), {"0": NUMBERS.tobytes()})
    with pytest.raises(ValueError, match="72 bytes where 24 are stored"):
        open_checkpoint(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_views_of_one_storage_are_read_by_their_strides(legacy, tmp_path):
    opcodes = program(
        mapping(
            transposed=tensor((3, 2), (1, 3), 6),
            row=tensor((3,), (1,), 6, offset=3),
            column=tensor((2,), (3,), 6, offset=1),
            last=tensor((), (), 6, offset=5),
            other=tensor((2,), (1,), 2, key="1"),
        )
    )
    other = np.float32([7, 8])
    if legacy:
        storages = {"1": other, "0": NUMBERS}
        path = write_legacy(tmp_path / "a.pt", opcodes, storages)
    else:
        storages = {"0": NUMBERS.tobytes(), "1": other.tobytes()}
        path = write_zip(tmp_path / "a.pt", opcodes, storages)
    table = NUMBERS.reshape(2, 3)
    expected = {
        "transposed": table.T,
        "row": table[1],
        "column": table[:, 1],
        "last": NUMBERS[5],
        "other": other,
    }
    assert_equal(contents(path), expected)


ONE = tensor((1,), (1,), 1)
TWO = tensor((1,), (1,), 1, key="1")
BOTH = {"0": np.float32([1]).tobytes(), "1": np.float32([2]).tobytes()}


def nested(tmp_path, **values):
    return write_zip(tmp_path / "a.pt", program(mapping(**values)), BOTH)


@pytest.mark.parametrize("raw", ["state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("averaged", ["ema", "ema_state_dict", "ema_model"])
def test_averaged_weights_are_taken_unless_raw_ones_are_asked_for(
    raw, averaged, tmp_path
):
    values = {raw: mapping(w=ONE), averaged: mapping(w=TWO)}
    path = nested(tmp_path, **values, step=number(3), optimizer=mapping())
    assert contents(path)["w"] == 2
    assert contents(path, ema=True)["w"] == 2
    assert contents(path, ema=False)["w"] == 1


def test_raw_weights_are_taken_where_there_are_no_averaged_ones(tmp_path):
    path = nested(tmp_path, state_dict=mapping(w=ONE), ema=b"N", loss=ONE)
    assert contents(path) == contents(path, ema=False) == {"w": 1}
    with pytest.raises(ValueError, match="no averaged weights.*'state_dict'"):
        open_checkpoint(path, ema=True)


def test_averaged_weights_alone_are_not_raw_ones(tmp_path):
    path = nested(tmp_path, ema=mapping(w=TWO))
    assert contents(path) == {"w": 2}
    with pytest.raises(ValueError, match="no raw weights.*'ema'"):
        open_checkpoint(path, ema=False)


def test_a_plain_dict_of_tensors_does_not_say_that_it_is_averaged(tmp_path):
    path = nested(tmp_path, w=ONE)
    assert contents(path, ema=False) == {"w": 1}
    with pytest.raises(ValueError, match="does not say"):
        open_checkpoint(path, ema=True)


def test_averaged_weights_without_names_are_not_passed_over(tmp_path):
    shadow = mapping(decay=number(1), shadow_params=b"](" + TWO + b"e")
    path = nested(tmp_path, model=mapping(w=ONE), ema=shadow)
    with pytest.raises(ValueError, match="have no names.*ema=False"):
        open_checkpoint(path)
    assert contents(path, ema=False) == {"w": 1}


@pytest.mark.parametrize(
    "values",
    [
        {"state_dict": mapping(w=ONE), "model": mapping(w=ONE)},
        {"ema": mapping(w=ONE), "ema_model": mapping(w=ONE)},
        {"generator": mapping(w=ONE), "discriminator": mapping(w=TWO)},
        {"w": ONE, "optimizer": mapping(w=TWO)},
        {"model": mapping(encoder=mapping(w=ONE))},
        {"step": number(3)},
    ],
)
def test_what_is_ambiguous_is_refused_with_its_keys(values, tmp_path):
    path = nested(tmp_path, **values)
    with pytest.raises(ValueError, match="not clear") as error:
        open_checkpoint(path)
    inner = {"encoder"} if "encoder" in str(values) else values.keys()
    assert all(repr(key) in str(error.value) for key in inner)


def test_the_prefix_of_data_parallel_is_taken_off(tmp_path):
    path = nested(tmp_path, **{"module.a": ONE, "module.b": TWO})
    assert contents(path) == {"a": 1, "b": 2}
    path = nested(tmp_path, **{"module.a": ONE, "b": TWO})
    assert contents(path) == {"module.a": 1, "b": 2}


def test_what_is_no_tensor_is_left_out(tmp_path):
    path = nested(tmp_path, w=ONE, step=number(3), name=b"N", args=b"}")
    assert contents(path) == {"w": 1}


# With PyTorch.


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def save(torch, path, content, legacy):
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.mark.parametrize("legacy", [False, True])
def test_every_type_of_number_is_read_as_pytorch_converts_it(
    legacy, torch, tmp_path
):
    values = torch.tensor([[0.0, 1.0, 100.0], [0.1, 2.5, 3.0]])
    types = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool"
    state = {name: values.to(getattr(torch, name)) for name in types.split()}
    if not legacy:  # PyTorch cannot write these in the old format.
        state["uint16"] = values.to(torch.uint16)
    found = contents(save(torch, tmp_path / "a.pt", state, legacy))
    assert_equal(found, {k: x.float().numpy() for k, x in state.items()})


@pytest.mark.parametrize("legacy", [False, True])
def test_a_network_and_its_optimizer_are_read(legacy, torch, tmp_path):
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)
    ).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    content = {
        "state_dict": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "loss": torch.tensor(0.5),
        "best": np.float64(3.5),
        "shape": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "dtype": torch.float32,
    }
    found = contents(save(torch, tmp_path / "a.ckpt", content, legacy))
    expected = network.state_dict()
    assert not expected["0.weight"].is_contiguous()
    assert_equal(found, {k: x.float().numpy() for k, x in expected.items()})
    assert list(found) == list(expected)
    assert found["1.num_batches_tracked"] == 1


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_parameters_attributes_and_protocols_make_no_difference(
    protocol, torch, tmp_path
):
    state = collections.OrderedDict(
        parameter=torch.nn.Parameter(torch.ones(2)),
        tagged=torch.nn.Parameter(torch.ones(3)),
        tensor=torch.ones(4),
        buffer=torch.nn.Buffer(torch.ones(5)),
    )
    state["tagged"].tag = state["tensor"].tag = 1
    path = tmp_path / "a.pt"
    torch.save(state, path, pickle_protocol=protocol)
    expected = {k: x.detach().numpy() for k, x in state.items()}
    assert_equal(contents(path), expected)


def test_a_conjugate_view_is_refused(torch, tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"a": torch.ones(1, dtype=torch.complex64)}, path)
    with pytest.raises(ValueError, match="ComplexFloatStorage"):
        open_checkpoint(path)
    torch.save({"a": torch.ones(1, dtype=torch.complex64).conj().imag}, path)
    with pytest.raises(ValueError, match="negated"):
        open_checkpoint(path)


def test_a_whole_network_is_refused_by_the_name_of_its_class(torch, tmp_path):
    torch.save(torch.nn.Linear(1, 1), tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"torch\.nn\.modules\.linear\.Linear"):
        open_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("mmap", [False, True])
def test_pytorch_loads_what_was_written(mmap, torch, tmp_path):
    write_torch(tmp_path / "model.v2.pt", arrays())
    state = torch.load(tmp_path / "model.v2.pt", weights_only=True, mmap=mmap)
    assert type(state) is collections.OrderedDict
    assert all(x.is_contiguous() for x in state.values())
    assert all(x.dtype == torch.float32 for x in state.values())
    assert_equal({k: x.numpy() for k, x in state.items()}, arrays())
