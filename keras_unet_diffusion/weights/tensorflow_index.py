"""The index of a TensorFlow checkpoint: its arrays' names, types and shapes.

TensorFlow's own reader ends the process when it meets an impossible shape, so
that every entry is checked here before that reader opens the file.

Reference: tensorflow/core/protobuf/tensor_bundle.proto for the entries, and
leveldb's doc/table_format.md for the table that holds them. Differences:
compressed tables and partitioned arrays are refused.
"""

import dataclasses
import itertools
import math
import struct

_FOOTER_BYTES = 48
_MAGIC = bytes.fromhex("57fb808b247547db")
# The index of a thousand arrays takes 0.1 MB.
_MAX_INDEX_BYTES = 16 * 2**20
_MAX_DIMENSIONS = 32
# Dimensions beside a 0 may be as large as their product is still a number.
_MAX_SIZE = 2**48


@dataclasses.dataclass(frozen=True)
class IndexEntry:
    """Where an array lies in the checkpoint.

    Args:
        type_number: int, TensorFlow's number of the type.
        shape: tuple of int.
        shard: int, number of the data file.
        offset_bytes: int, where in that file.
        num_bytes: int, length there.
    """

    type_number: int
    shape: tuple
    shard: int
    offset_bytes: int
    num_bytes: int


def read_index(path):
    """Reads and checks the index of a TensorFlow checkpoint.

    Args:
        path: the file that ends in .index.

    Returns:
        Number of data files, and a dict of `IndexEntry`s by name.

    Raises:
        ValueError: the file is damaged, or of a kind that is not read.
    """
    from tensorflow.core.protobuf import tensor_bundle_pb2

    with open(path, "rb") as file:
        data = file.read(_MAX_INDEX_BYTES + 1)
    if not _FOOTER_BYTES <= len(data) <= _MAX_INDEX_BYTES:
        raise ValueError(f"its index is of {len(data)} bytes or more")
    if not data.endswith(_MAGIC):
        raise ValueError("its index does not end as one")
    records = _table_records(data)
    header = tensor_bundle_pb2.BundleHeaderProto.FromString(
        records.pop(b"", b"")
    )
    if header.num_shards < 1 or header.endianness != header.LITTLE:
        raise ValueError("its header is not of a little-endian checkpoint")
    entries = {
        key.decode("utf-8"): _entry(
            tensor_bundle_pb2.BundleEntryProto.FromString(value)
        )
        for key, value in records.items()
    }
    return header.num_shards, entries


def _entry(proto):
    shape = tuple(dimension.size for dimension in proto.shape.dim)
    if proto.slices or proto.shape.unknown_rank:
        raise ValueError("an array in it is in parts")
    if (
        len(shape) > _MAX_DIMENSIONS
        or any(size < 0 for size in shape)
        or math.prod(max(size, 1) for size in shape) > _MAX_SIZE
        or min(proto.shard_id, proto.offset, proto.size) < 0
    ):
        raise ValueError("an array in it has an impossible shape or place")
    return IndexEntry(
        proto.dtype, shape, proto.shard_id, proto.offset, proto.size
    )


def _table_records(data):
    """All keys and values of a leveldb table."""
    footer = data[-_FOOTER_BYTES:]
    _, position = _handle(footer, 0)  # of a block of filters, always empty
    index_handle, _ = _handle(footer, position)
    records = {}
    for _, value in _block_records(_block(data, index_handle)):
        handle, _ = _handle(value, 0)
        for key, record in _block_records(_block(data, handle)):
            if key in records:
                raise ValueError("its index has a name twice")
            records[key] = record
            # A small table can refer to one of its blocks again and again.
            if len(records) > len(data):
                raise ValueError("its index has too many names")
    return records


def _block(data, handle):
    """The bytes of a block, once their checksum was compared."""
    start, length = handle
    end = start + length
    if end + 5 > len(data) - _FOOTER_BYTES:
        raise ValueError("its index is cut off")
    if data[end] != 0:
        raise ValueError("its index is compressed")
    (stored,) = struct.unpack_from("<I", data, end + 1)
    if stored != masked_crc32c(data[start : end + 1]):
        raise ValueError("its index has a wrong checksum")
    return data[start:end]


def _block_records(block):
    """Keys and values of a block; a key shares its start with the last."""
    (num_restarts,) = struct.unpack_from("<I", block, len(block) - 4)
    end = len(block) - 4 - 4 * num_restarts
    if end < 0:
        raise ValueError("its index is damaged")
    restarts = struct.unpack_from(f"<{num_restarts}I", block, end)
    starts, position, key = {0}, 0, b""
    while position < end:
        starts.add(position)
        shared, position = _varint(block, position)
        unshared, position = _varint(block, position)
        length, position = _varint(block, position)
        value_start = position + unshared
        if shared > len(key) or value_start + length > end:
            raise ValueError("its index is damaged")
        key = key[:shared] + block[position:value_start]
        position = value_start + length
        yield key, block[value_start:position]
    if not starts.issuperset(restarts):
        raise ValueError("its index is damaged")


def _handle(data, position):
    """Start and length of a block, and the position after them."""
    start, position = _varint(data, position)
    length, position = _varint(data, position)
    return (start, length), position


def _varint(data, position):
    """A number of seven bits a byte, and the position after it."""
    number = 0
    for shift in itertools.count(0, 7):
        byte = data[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, position
        if shift > 63:
            raise ValueError("its index is damaged")


def _crc_table():
    # Castagnoli's polynomial, bits reversed (RFC 3720, appendix B.4).
    table = []
    for number in range(256):
        for _ in range(8):
            number = (number >> 1) ^ (0x82F63B78 if number & 1 else 0)
        table.append(number)
    return tuple(table)


_CRC_TABLE = _crc_table()


def masked_crc32c(data):
    """The checksum of bytes as leveldb's tables store it, an int."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 255] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    rotated = (crc >> 15 | crc << 17) & 0xFFFFFFFF
    return (rotated + 0xA282EAD8) & 0xFFFFFFFF
