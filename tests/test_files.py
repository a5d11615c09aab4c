"""A final name never holds half of a file, whatever happens."""

import os
import subprocess
import sys

import pytest

from keras_unet_diffusion import files
from keras_unet_diffusion.files import check_new_folder, written_whole

# Replaces argv[2] by 4 MiB, or says what went wrong and what is left. The
# module is loaded by its path (argv[1]), without the package: that is fast.
WRITE_MUCH = """
import importlib.util, os, pathlib, resource, sys
spec = importlib.util.spec_from_file_location("files", sys.argv[1])
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
path = pathlib.Path(sys.argv[2])
path.write_bytes(b"old")
if sys.argv[3] == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with files.written_whole(path) as temporary:
        temporary.write_bytes(b"new" * 2**20)
        if sys.argv[3] == "kill":
            os.kill(os.getpid(), 9)
except OSError as error:
    print(os.strerror(error.errno))
print(path.read_bytes() == b"old", os.listdir(path.parent))
"""


def write_much(path, how, *prefix):
    return subprocess.run(
        [*prefix, sys.executable, "-c", WRITE_MUCH, files.__file__, path, how],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_file_gets_its_name_when_it_is_written(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    with written_whole(path) as temporary:
        assert temporary.suffix == ".txt"
        assert not temporary.exists()
        temporary.write_text("all")
        assert not path.exists()
    assert path.read_text() == "all"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_in_the_current_folder_can_be_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with written_whole("a.txt") as temporary:
        temporary.write_text("all")
    assert os.listdir() == ["a.txt"]


def test_an_old_file_is_replaced(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with written_whole(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("written_as", [None, 0o600])
def test_a_file_is_readable_by_whom_the_umask_allows(written_as, tmp_path):
    plain, path = tmp_path / "plain.txt", tmp_path / "whole.txt"
    plain.write_text("")
    with written_whole(path) as temporary:
        temporary.write_text("")
        # As the library of safetensors writes.
        if written_as is not None:
            temporary.chmod(written_as)
    assert path.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("error", [RuntimeError, OSError, KeyboardInterrupt])
def test_an_error_keeps_the_old_file_and_leaves_no_temporary(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error):
        with written_whole(path) as temporary:
            temporary.write_text("half of the ne")
            raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_writes_nothing_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OSError):
        with written_whole(path):
            pass
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("exists", [False, True])
def test_a_folder_gets_its_name_when_it_is_written(tmp_path, exists):
    path = tmp_path / "model"
    if exists:
        path.mkdir()
    with written_whole(path) as temporary:
        (temporary / "inner").mkdir(parents=True)
        (temporary / "inner" / "a.txt").write_text("all")
    assert (path / "inner" / "a.txt").read_text() == "all"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_empty_is_kept(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "a.txt").write_text("old")
    with pytest.raises(OSError):
        with written_whole(path) as temporary:
            temporary.mkdir()
            (temporary / "a.txt").write_text("new")
    assert (path / "a.txt").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_removes_half_of_a_folder(tmp_path):
    path = tmp_path / "model"
    with pytest.raises(RuntimeError):
        with written_whole(path) as temporary:
            temporary.mkdir()
            (temporary / "a.txt").write_text("half")
            raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_the_old_file(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    small_disk = (
        "unshare",
        "-rm",
        "sh",
        "-c",
        f'mount -t tmpfs -o size=1m none "{disk}" && exec "$@"',
        "sh",
    )
    try:
        allowed = not subprocess.run(
            [*small_disk, "true"], capture_output=True, check=False
        ).returncode
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("a small disk cannot be mounted here")
    ran = write_much(disk / "a.bin", "full", *small_disk)
    assert ran.stdout == "No space left on device\nTrue ['a.bin']\n", ran.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_limit_of_file_size_keeps_the_old_file(tmp_path):
    ran = write_much(tmp_path / "a.bin", "limit")
    assert ran.stdout == "File too large\nTrue ['a.bin']\n", ran.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_a_killed_writer_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    assert write_much(path, "kill").returncode == -9
    assert path.read_bytes() == b"old"


def test_a_new_or_empty_folder_is_good_for_results(tmp_path):
    check_new_folder(tmp_path / "new")
    check_new_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_results_is_not_written_over(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(ValueError, match="not empty") as refusal:
        check_new_folder(tmp_path)
    assert str(tmp_path) in str(refusal.value)


def test_a_file_is_no_folder_for_results(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ValueError, match="where a file is") as refusal:
        check_new_folder(path)
    assert str(path) in str(refusal.value)
