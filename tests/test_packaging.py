"""The wheel: the library, its commands, and nothing else."""

import configparser
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "keras_unet_diffusion"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a copy of what git has or would add, as a `ZipFile`."""
    copy = tmp_path_factory.mktemp("source")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in filter(lambda name: (ROOT / name).is_file(), listed):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    # No isolation and no check of versions: it must work without network.
    build = ["build", "--wheel", "--no-isolation", "--skip-dependency-check"]
    done = subprocess.run(
        [sys.executable, "-m", *build, copy], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (copy / "dist").glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_wheel_holds_the_library_and_its_metadata_alone(wheel):
    # So neither train nor export nor tests at the top.
    tops = {name.split("/")[0] for name in wheel.namelist()}
    (info,) = tops - {PACKAGE}
    assert tops == {PACKAGE, info}
    assert info.startswith(f"{PACKAGE}-") and info.endswith(".dist-info")


def test_the_wheel_holds_every_module_of_the_library(wheel):
    ours = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / PACKAGE).rglob("*.py")
    }
    assert f"{PACKAGE}/export/runners/run_litert.py" in ours
    packed = {name for name in wheel.namelist() if name.endswith(".py")}
    assert packed == ours


def test_the_wheel_installs_the_commands_that_exist(wheel):
    (name,) = (n for n in wheel.namelist() if n.endswith("entry_points.txt"))
    parser = configparser.ConfigParser()
    parser.read_string(wheel.read(name).decode())
    commands = dict(parser["console_scripts"])
    assert parser.sections() == ["console_scripts"]
    assert set(commands) == {
        "kud-train",
        "kud-sample",
        "kud-export",
        "kud-convert",
        "kud-explain",
        "kud-study",
    }
    for target in commands.values():
        module, function = target.split(":")
        source = wheel.read(module.replace(".", "/") + ".py").decode()
        assert f"\ndef {function}(argv=None):" in source
