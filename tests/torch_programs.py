"""Files of PyTorch put together by hand, without PyTorch."""

import pickle
import zipfile


def text(value):
    data = value.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def number(value):
    return pickle.dumps(value, protocol=2)[2:-1]


def numbers(*values):
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(shape, strides, size, key="0", offset=0, storage="FloatStorage"):
    """The opcodes that make a tensor of a storage of `size` numbers."""
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(("
        + text("storage")
        + b"ctorch\n%s\n" % storage.encode()
        + text(key)
        + text("cpu")
        + number(size)
        + b"tQ"
        + number(offset)
        + numbers(*shape)
        + numbers(*strides)
        + b"\x89}tR"
    )


def mapping(**values):
    """The opcodes that make a dict of what other opcodes make."""
    items = (text(name) + value for name, value in values.items())
    return b"}(" + b"".join(items) + b"u"


def program(opcodes):
    return b"\x80\x02" + opcodes + b"."


def write_zip(path, data_pkl, storages=None, compression=zipfile.ZIP_STORED):
    """Writes the format since PyTorch 1.6; storages are bytes by key."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", data_pkl)
        for key, data in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", data)
    return path


def write_legacy(path, data_pkl, storages, little_endian=True):
    """Writes the format before PyTorch 1.6; storages are float32 arrays."""
    machine = {"protocol_version": 1001, "little_endian": little_endian}
    parts = (0x1950A86A20F9469CFC6C, 1001, machine)
    data = b"".join(pickle.dumps(part, protocol=2) for part in parts)
    data += data_pkl + pickle.dumps(list(storages), protocol=2)
    for array in storages.values():
        data += len(array).to_bytes(8, "little") + array.tobytes()
    path.write_bytes(data)
    return path
