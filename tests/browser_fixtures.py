"""Pages used in a browser: Playwright, and the site to be served to it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from example_cases import EXAMPLES

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
_TESTS = Path(__file__).parent


def install_playwright(folder):
    """Installs what drives a browser; skips the test where that fails.

    Args:
        folder: `pathlib.Path` of a folder that exists.
    """
    if not Path(CHROMIUM).exists():
        pytest.skip("chromium not installed")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(EXAMPLES / "web" / name, folder)
    done = subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"npm's packages cannot be installed: {done.stderr[-200:]}")


def use_in_browser(folder, script, *arguments):
    """Runs a script of this folder that uses a page as people do.

    Args:
        folder: `pathlib.Path`, see `install_playwright`; the script runs there.
        script: str, its name.
        *arguments: of the script.

    Returns:
        What the script printed, as JSON.
    """
    for name in ("browser.mjs", script):
        shutil.copy(_TESTS / name, folder)
    done = subprocess.run(
        ["node", script, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "CHROMIUM": CHROMIUM},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def build_site(folder):
    """Builds the site; fails on a warning.

    Args:
        folder: `pathlib.Path`, where it goes to.
    """
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"]
        + ["--quiet", "--site-dir", str(folder)],
        cwd=_TESTS.parent,
        capture_output=True,
        text=True,
        env={"NO_MKDOCS_2_WARNING": "1", "PATH": ""},
    )
    assert built.returncode == 0, built.stdout + built.stderr
