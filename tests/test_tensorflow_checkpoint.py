"""TensorFlow's checkpoints, read and refused before they end the process."""

import struct

import numpy as np
import pytest
import tensorflow as tf
from checkpoint_cases import arrays, assert_equal, contents, refusal
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import tensor_bundle_pb2

from keras_unet_diffusion.weights.tensorflow_index import masked_crc32c

AVERAGE = "/ExponentialMovingAverage"


def save(prefix, tensors):
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=list(tensors.values()),
    )
    return prefix


def test_a_checkpoint_is_read_by_prefix_index_and_folder(tmp_path):
    prefix = save(tmp_path / "model.ckpt-790000", arrays())
    (tmp_path / "checkpoint").write_text(
        f'model_checkpoint_path: "{prefix.name}"\n'
    )
    for path in (prefix, f"{prefix}.index", tmp_path):
        assert_equal(contents(path), arrays())


def test_every_type_of_number_is_read_as_tensorflow_converts_it(tmp_path):
    values = tf.constant([[0.0, 1.0, 100.0], [0.1, 2.5, 3.0]])
    types = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool"
    state = {name: tf.cast(values, name) for name in types.split()}
    prefix = save(tmp_path / "a", state | {"text": tf.constant("left out")})
    expected = {k: tf.cast(x, tf.float32).numpy() for k, x in state.items()}
    assert_equal(contents(prefix), expected)


RAW = {"model/W": np.float32([1]), "model/b": np.float32([2])}
AVERAGED = {"model/W": np.float32([3]), "model/b": np.float32([4])}
STATISTIC = {"model/moving_mean": np.float32([5])}


def with_averages(prefix):
    averaged = {name + AVERAGE: x for name, x in AVERAGED.items()}
    slots = ("Adam", "Adam_1", "RMSProp", "Momentum")
    of_optimizer = {f"{n}/{s}": x for n, x in RAW.items() for s in slots}
    counts = dict.fromkeys(("beta1_power", "beta2_power"), np.float32(0.9))
    counts["global_step"] = np.int64(790_000)
    save(prefix, RAW | averaged | STATISTIC | of_optimizer | counts)
    return prefix


def test_averaged_weights_come_under_the_names_of_the_raw_ones(tmp_path):
    prefix = with_averages(tmp_path / "a")
    assert_equal(contents(prefix), AVERAGED | STATISTIC)
    assert_equal(contents(prefix, ema=True), AVERAGED | STATISTIC)
    assert_equal(contents(prefix, ema=False), RAW | STATISTIC)


def test_weights_that_are_asked_for_must_be_there(tmp_path):
    raw = save(tmp_path / "raw", RAW)
    assert "no averaged weights" in refusal(raw, ema=True)
    names = {name + AVERAGE: x for name, x in AVERAGED.items()}
    averaged = save(tmp_path / "averaged", names)
    assert "no raw weights" in refusal(averaged, ema=False)
    assert_equal(contents(averaged), AVERAGED)


def test_a_checkpoint_in_several_data_files_is_read(tmp_path):
    parts = [save(tmp_path / n, {n: x}) for n, x in (("a", [1.0]), ("b", [2]))]
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=[str(part) for part in parts],
        destination_prefix=str(tmp_path / "both"),
    )
    assert (tmp_path / "both.data-00001-of-00002").exists()
    assert_equal(contents(tmp_path / "both"), {"a": [1.0], "b": [2.0]})
    (tmp_path / "both.data-00001-of-00002").unlink()
    assert "00001-of-00002" in refusal(tmp_path / "both")


def test_a_list_of_a_checkpoint_that_is_gone_is_refused(tmp_path):
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "gone"\n')
    assert "names none that exists" in refusal(tmp_path)


def test_the_checksum_is_that_of_the_standard():
    # RFC 3720, appendix B.4: 32 bytes of zeros.
    crc = 0x8A9136AA
    # leveldb's table_format.md and crc32c.h: rotated by 15, plus a constant.
    rotated = (crc >> 15) | (crc << 17) & 0xFFFFFFFF
    assert masked_crc32c(bytes(32)) == (rotated + 0xA282EAD8) % 2**32


def varint(number):
    """A number below 2**14 in two bytes of seven bits."""
    return bytes((number & 127 | 128, number >> 7))


def block(*records):
    """A block of a leveldb table with its type and checksum."""
    data = b""
    for key, value in records:
        data += b"\0" + varint(len(key)) + varint(len(value)) + key + value
    data += struct.pack("<II", 0, 1) + b"\0"
    return data + struct.pack("<I", masked_crc32c(data))


def write_index(prefix, *records):
    """Writes an index of any records, and data files of zeros."""
    data, empty = block(*records), block()
    index = block((b"z", b"\0" + varint(len(data) - 5)))
    footer = varint(len(data)) + varint(len(empty) - 5)
    footer += varint(len(data) + len(empty)) + varint(len(index) - 5)
    footer = footer.ljust(40, b"\0")
    magic = bytes.fromhex("57fb808b247547db")
    with open(f"{prefix}.index", "wb") as file:
        file.write(data + empty + index + footer + magic)
    with open(f"{prefix}.data-00000-of-00001", "wb") as file:
        file.write(bytes(64))
    return prefix


def header(**arguments):
    proto = tensor_bundle_pb2.BundleHeaderProto(num_shards=1, **arguments)
    return b"", proto.SerializeToString()


def entry(*shape, size=4, dtype=types_pb2.DT_FLOAT, **arguments):
    proto = tensor_bundle_pb2.BundleEntryProto(
        dtype=dtype, size=size, **arguments
    )
    for dimension in shape:
        proto.shape.dim.add(size=dimension)
    return proto


def test_an_index_by_hand_is_read(tmp_path):
    value = masked_crc32c(bytes(16))
    record = entry(2, 2, size=16, offset=8, crc32c=value).SerializeToString()
    prefix = write_index(tmp_path / "a", header(), (b"a", record))
    assert_equal(contents(prefix), {"a": np.zeros((2, 2), "float32")})


IMPOSSIBLE = {
    # On the first four TensorFlow ends the process.
    "a negative dimension": entry(-1),
    "more numbers than there are": entry(2**40, 2**40),
    "more dimensions than there are": entry(*[1] * 300),
    "no entry": b"\xff\xff\xff",
    "a product beyond all bounds beside a 0": entry(2**62, 2**62, 0, size=0),
    "more than its data file": entry(2**36, size=2**38),
    "an offset beyond its data file": entry(1, offset=64),
    "a negative offset": entry(1, offset=-4),
    "a negative size": entry(1, size=-4),
    "another size": entry(2),
    "another data file": entry(1, shard_id=1),
    "a type that is none": entry(1, dtype=99),
    "a reference": entry(1, dtype=types_pb2.DT_FLOAT_REF),
    "a wrong checksum": entry(1, crc32c=1),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_an_impossible_array_is_refused(name, tmp_path):
    record = IMPOSSIBLE[name]
    if not isinstance(record, bytes):
        record = record.SerializeToString()
    refusal(write_index(tmp_path / "a", header(), (b"a", record)))


def test_an_array_in_parts_is_refused(tmp_path):
    record = entry(1)
    record.slices.add()
    record = (b"a", record.SerializeToString())
    assert "in parts" in refusal(write_index(tmp_path / "a", header(), record))


@pytest.mark.parametrize(
    "first", [header(endianness=1), (b"b", entry(1).SerializeToString())]
)
def test_other_headers_are_refused(first, tmp_path):
    record = (b"c", entry(1).SerializeToString())
    assert "header" in refusal(write_index(tmp_path / "a", first, record))


def test_a_damaged_checkpoint_gives_an_error_or_what_was_written(tmp_path):
    prefix = save(tmp_path / "a", RAW)
    files = [tmp_path / "a.index", tmp_path / "a.data-00000-of-00001"]
    random = np.random.default_rng(0)
    num_read = num_tried = 0
    for path in files:
        whole = path.read_bytes()
        damaged = [whole[:size] for size in range(0, len(whole), 3)]
        for position in random.integers(len(whole), size=100):
            changed = bytearray(whole)
            changed[position] ^= 1 << random.integers(8)
            damaged.append(bytes(changed))
        for data in damaged:
            path.write_bytes(data)
            num_tried += 1
            try:
                found = contents(prefix)
            except ValueError as error:
                assert f"Received: {prefix}. " in str(error)
            else:
                num_read += 1
                assert_equal(found, RAW)
        path.write_bytes(whole)
    assert num_read < num_tried / 2
