"""Exported files, verified by their manifest before anything loads them."""

import hashlib
import hmac
import json
import os
import stat
from pathlib import Path

from keras_unet_diffusion.export.manifest import FORMAT_VERSION, MANIFEST_FILE

# Far more than any model that these files were made of; disks are larger.
MAX_BYTES = 64 * 2**30
# A schedule of 1,000 steps takes 50 kB of it.
MAX_MANIFEST_BYTES = 16 * 2**20
_BLOCK_BYTES = 2**20
# Files that an error names before it only counts.
_MOST_NAMES = 10
_HEX_DIGITS = set("0123456789abcdef")


def check_artifacts(folder, max_bytes=MAX_BYTES, manifest_sha256=None):
    """Verifies a folder of exported files by its manifest; loads nothing.

    Call it before you load files that were copied, downloaded or kept where
    others write. Every file must have the size and the SHA-256 of the
    manifest, and there may be no others, no links and no devices. Sizes are
    compared before a byte is read. It takes as long as to read all files once.

    The manifest speaks of all files but itself: who can change the files can
    write a manifest for them too. Against that, keep its own hash, which the
    command `export` prints, where they cannot, and pass it.

    Args:
        folder: what `export_model` wrote.
        max_bytes: int, bytes of all files together that are accepted.
        manifest_sha256: str, 64 hexadecimal digits that `manifest.json` must
            have, or None.

    Returns:
        The manifest, a dict.

    Raises:
        ValueError: it is not such a folder, or files are missing, truncated,
            changed, not of the manifest or too large; the message names them.

    Example:

    ```python
    manifest = check_artifacts("exported")
    model = tf.saved_model.load("exported/saved_model")
    ```
    """
    folder = Path(folder)
    manifest = _read_manifest(folder / MANIFEST_FILE, manifest_sha256)
    files = _files(manifest, folder)
    total = sum(size for size, _ in files.values())
    if total > max_bytes:
        largest = max(files, key=lambda name: files[name][0])
        raise ValueError(
            "The exported files are too large. Received: "
            f"{folder} with {total:,} bytes, the largest file "
            f"{largest!r} with {files[largest][0]:,}; at most "
            f"{max_bytes:,} are accepted. Pass a larger max_bytes if you "
            "expect that."
        )
    found = _found(folder)
    problems = [
        f"{name} is not in the manifest"
        for name in sorted(set(found) - set(files))
    ]
    for name, (size, _) in files.items():
        problems += _size_problem(name, size, found.get(name))
    # Only then is anything read, and no more of a file than was declared.
    for name, (size, sha256) in () if problems else files.items():
        if _sha256(folder / name, size) != sha256:
            problems.append(f"{name} was changed (another SHA-256)")
    if problems:
        raise _refusal(folder, problems)
    return manifest


def _refusal(folder, problems):
    more = len(problems) - _MOST_NAMES
    shown = "; ".join(problems[:_MOST_NAMES])
    return ValueError(
        "The exported files are not as they were written. Received: "
        f"{folder}, where {shown}{f'; and {more} more' if more > 0 else ''}. "
        "Load none of them; export or copy them again."
    )


def _read_manifest(path, sha256):
    # A link may lead anywhere, and opening a device may never end.
    if not path.is_file() or path.is_symlink():
        raise ValueError(
            f"There is no {MANIFEST_FILE} by which files could be verified. "
            f"Received: {path.parent}. Pass a folder that export_model wrote."
        )
    with open(path, "rb") as file:
        data = file.read(MAX_MANIFEST_BYTES + 1)
    if len(data) > MAX_MANIFEST_BYTES:
        raise _no_manifest(path, f"more than {MAX_MANIFEST_BYTES:,} bytes")
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and not hmac.compare_digest(
        found, str(sha256).lower()
    ):
        raise ValueError(
            f"{MANIFEST_FILE} is not the one that was asked for. Received: "
            f"{path} with the SHA-256 {found}, where {sha256} is expected. "
            "Load none of the files; fetch them again from whom you trust."
        )
    try:
        manifest = json.loads(
            data,
            object_pairs_hook=_without_twins,
            parse_constant=_no_number,
        )
    except (ValueError, RecursionError) as error:
        raise _no_manifest(path, str(error)[:200]) from error
    if not isinstance(manifest, dict):
        raise _no_manifest(path, f"a {type(manifest).__name__}, no object")
    version = manifest.get("format_version")
    # True is an int too.
    if type(version) is not int or version != FORMAT_VERSION:
        raise _no_manifest(
            path, f"format_version {version!r:.50}, not {FORMAT_VERSION}"
        )
    return manifest


def _no_manifest(path, what):
    return ValueError(
        f"The manifest cannot be used. Received: {path} with {what}. Export "
        "the model again with this version of the library."
    )


def _without_twins(pairs):
    """A JSON object; of two equal keys, each reader could take another."""
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key that stands twice in one object")
    return values


def _no_number(name):
    raise ValueError(f"{name}, which is no JSON")


def _files(manifest, folder):
    """Bytes and SHA-256 of each file that the manifest names."""
    path = folder / MANIFEST_FILE
    listed = manifest.get("files")
    if not isinstance(listed, dict) or not listed:
        raise _no_manifest(path, "no files")
    files = {}
    for name, facts in listed.items():
        if not _is_inside(name):
            raise _no_manifest(
                path, f"{name!r:.100} as the path of a file, which leads out"
            )
        facts = facts if isinstance(facts, dict) else {}
        size, sha256 = facts.get("bytes"), facts.get("sha256")
        is_size = type(size) is int and size >= 0
        is_hash = isinstance(sha256, str) and len(sha256) == 64
        if not is_size or not is_hash or not set(sha256) <= _HEX_DIGITS:
            raise _no_manifest(
                path, f"{name!r:.100} without its bytes and sha256"
            )
        files[name] = (size, sha256)
    return files


def _is_inside(name):
    """Whether this is the plain path of a file in the folder, bool."""
    parts = name.split("/")
    is_plain = not set(name) & set("\\:\0")
    return (
        is_plain
        and name != MANIFEST_FILE
        and not any(part in ("", ".", "..") for part in parts)
    )


def _found(folder):
    """What there is but folders: status by path with slashes."""
    found = {}
    for parent, folders, names in os.walk(folder):
        # A link to a folder is not followed, but is listed as one.
        links = [x for x in folders if Path(parent, x).is_symlink()]
        for name in [*names, *links]:
            path = Path(parent, name)
            found[path.relative_to(folder).as_posix()] = path.lstat()
    found.pop(MANIFEST_FILE)
    return found


def _size_problem(name, size, status):
    """A list of what is wrong with a file before it is read."""
    if status is None:
        return [f"{name} is missing"]
    if not stat.S_ISREG(status.st_mode):
        return [f"{name} is a link or device"]
    if status.st_size < size:
        return [f"{name} is truncated ({status.st_size:,} of {size:,} bytes)"]
    if status.st_size > size:
        return [f"{name} is too large ({status.st_size:,} of {size:,} bytes)"]
    return []


def _sha256(path, size):
    """SHA-256 of a file; of one that grows meanwhile, of no more than this."""
    digest, left = hashlib.sha256(), size
    with open(path, "rb") as file:
        while left and (block := file.read(min(_BLOCK_BYTES, left))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()
