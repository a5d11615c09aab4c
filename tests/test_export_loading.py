"""Exported files are verified by their manifest before they are loaded."""

import hashlib
import json
import os

import pytest

from keras_unet_diffusion.export import check_artifacts

# Names and contents of a folder; what they hold is never looked at.
CONTENTS = {
    "saved_model/saved_model.pb": b"graph" * 100,
    "saved_model/variables/variables.index": b"names",
    "litert/float32.tflite": bytes(range(256)) * 9000,
    "README.md": b"",
}


@pytest.fixture
def folder(tmp_path):
    """A folder with a manifest that names all files in it."""
    files = {}
    for name, content in CONTENTS.items():
        path = tmp_path / "exported" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        files[name] = {"bytes": len(content), "sha256": digest}
    folder = tmp_path / "exported"
    write(folder, {"format_version": 1, "files": files, "note": "kept"})
    return folder


def write(folder, manifest):
    (folder / "manifest.json").write_text(json.dumps(manifest))


def changed_manifest(folder, **changes):
    manifest = json.loads((folder / "manifest.json").read_text())
    write(folder, manifest | changes)


def test_files_as_they_were_written_are_accepted_with_their_manifest(folder):
    assert check_artifacts(folder)["note"] == "kept"
    assert check_artifacts(str(folder))["note"] == "kept"


@pytest.mark.parametrize("name", [n for n, x in CONTENTS.items() if x])
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_one_changed_bit_anywhere_is_refused_by_name(folder, name, place):
    path = folder / name
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"{name} was changed"):
        check_artifacts(folder)


@pytest.mark.parametrize("left", [0, 1, 2**20, 256 * 9000 - 1])
def test_truncated_files_are_refused_by_name(folder, left):
    path = folder / "litert" / "float32.tflite"
    path.write_bytes(path.read_bytes()[:left])
    message = f"float32.tflite is truncated .{left:,} of 2,304,000 bytes"
    with pytest.raises(ValueError, match=message):
        check_artifacts(folder)


def test_missing_longer_and_further_files_are_all_named_at_once(folder):
    (folder / "README.md").unlink()
    with open(folder / "saved_model" / "saved_model.pb", "ab") as file:
        file.write(b"x")
    (folder / "litert" / "added.so").write_bytes(b"")
    with pytest.raises(ValueError) as refusal:
        check_artifacts(folder)
    message = str(refusal.value)
    assert "README.md is missing" in message
    assert "saved_model.pb is too large (501 of 500 bytes)" in message
    assert "litert/added.so is not in the manifest" in message


def test_an_error_counts_what_it_does_not_name(folder):
    for k in range(12):
        (folder / f"added_{k}").write_bytes(b"")
    with pytest.raises(ValueError, match="and 2 more"):
        check_artifacts(folder)


def test_nothing_is_read_of_what_is_too_large(folder, monkeypatch):
    monkeypatch.setattr(
        "keras_unet_diffusion.export.loading._sha256", lambda *_: 1 / 0
    )
    total = sum(map(len, CONTENTS.values()))
    with pytest.raises(ValueError, match="too large.*float32.tflite.*2,304,00"):
        check_artifacts(folder, max_bytes=total - 1)
    with open(folder / "README.md", "wb") as file:
        file.truncate(2**40)  # of no bytes on the disk
    with pytest.raises(ValueError, match="README.md is too large"):
        check_artifacts(folder)


def test_links_and_devices_are_refused(folder):
    path = folder / "README.md"
    path.unlink()
    path.symlink_to("/dev/null")
    with pytest.raises(ValueError, match="README.md is a link or device"):
        check_artifacts(folder)
    path.unlink()
    os.mkfifo(path)  # to open it would wait for ever
    with pytest.raises(ValueError, match="README.md is a link or device"):
        check_artifacts(folder)


def test_a_link_to_a_folder_is_not_followed(folder, tmp_path):
    (folder / "litert").rename(tmp_path / "elsewhere")
    (folder / "litert").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="litert/float32.tflite is missing"):
        check_artifacts(folder)


def test_a_manifest_written_anew_is_refused_by_its_own_hash(folder):
    data = (folder / "manifest.json").read_bytes()
    known = hashlib.sha256(data).hexdigest()
    check_artifacts(folder, manifest_sha256=known.upper())
    path = folder / "README.md"
    path.write_bytes(b"evil")
    manifest = json.loads(data)
    digest = hashlib.sha256(b"evil").hexdigest()
    manifest["files"]["README.md"] = {"bytes": 4, "sha256": digest}
    write(folder, manifest)
    check_artifacts(folder)
    with pytest.raises(ValueError, match="not the one that was asked for"):
        check_artifacts(folder, manifest_sha256=known)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a": ' * 100_000,
        b"[]",
        b"null",
        b'{"format_version": 1}',
        b'{"format_version": 1, "files": {}}',
        b'{"format_version": 1, "files": []}',
        b'{"format_version": true, "files": {}}',
        b'{"format_version": 2, "files": {}}',
        b'{"format_version": NaN, "files": {}}',
        b'{"format_version": 1, "files": {}, "files": {"x": 1}}',
        b'{"format_version": ' + b"9" * 5000 + b"}",
        b" " * (16 * 2**20 + 1),
    ],
    ids=lambda content: content[:20].decode(errors="replace"),
)
def test_a_manifest_that_is_none_is_refused(folder, content):
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(ValueError, match="manifest cannot be used.*Received"):
        check_artifacts(folder)


@pytest.mark.parametrize(
    "name",
    [
        "../outside",
        "/etc/passwd",
        "a/../../outside",
        "a//b",
        "./a",
        "a/.",
        "",
        "..",
        "C:\\windows",
        "..\\outside",
        "a\0b",
        "manifest.json",
    ],
)
def test_paths_that_lead_out_of_the_folder_are_refused(folder, name):
    (folder.parent / "outside").write_bytes(b"")
    digest = hashlib.sha256(b"").hexdigest()
    files = {name: {"bytes": 0, "sha256": digest}}
    changed_manifest(folder, files=files)
    with pytest.raises(ValueError, match="manifest cannot be used"):
        check_artifacts(folder)


@pytest.mark.parametrize(
    "facts",
    [
        None,
        [],
        "x",
        {"bytes": 0},
        {"bytes": "0", "sha256": "0" * 64},
        {"bytes": -1, "sha256": "0" * 64},
        {"bytes": 1.0, "sha256": "0" * 64},
        {"bytes": True, "sha256": "0" * 64},
        {"bytes": 0, "sha256": "0" * 63},
        {"bytes": 0, "sha256": "G" * 64},
        {"bytes": 0, "sha256": ["0"] * 64},
    ],
)
def test_files_without_bytes_and_hash_of_the_right_type_are_refused(
    folder, facts
):
    changed_manifest(folder, files={"README.md": facts})
    with pytest.raises(ValueError, match="README.md.*without its bytes"):
        check_artifacts(folder)


def test_sizes_beyond_all_disks_are_refused_before_anything_is_read(folder):
    facts = {"bytes": 10**30, "sha256": "0" * 64}
    changed_manifest(folder, files={"README.md": facts})
    with pytest.raises(ValueError, match="too large.*README.md"):
        check_artifacts(folder)


@pytest.mark.parametrize("how", ["none", "link", "folder"])
def test_a_folder_without_a_manifest_of_its_own_is_refused(
    folder, tmp_path, how
):
    path = folder / "manifest.json"
    path.rename(tmp_path / "kept.json")
    if how == "link":
        path.symlink_to(tmp_path / "kept.json")
    elif how == "folder":
        path.mkdir()
    with pytest.raises(ValueError, match="no manifest.json"):
        check_artifacts(folder)
