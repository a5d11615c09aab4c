"""What the tests of the examples share: where they are, files to load."""

import functools
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from conftest import SMALL, randomize

from keras_unet_diffusion import DiffusionModel, UNet
from keras_unet_diffusion.export import export_model

EXAMPLES = Path(__file__).parents[1] / "examples"


def needs(*programs):
    """Skips a test unless programs are installed."""
    missing = [name for name in programs if shutil.which(name) is None]
    return pytest.mark.skipif(
        bool(missing), reason=f"{', '.join(missing)} not installed"
    )


@functools.lru_cache(maxsize=1)
def exported_files(folder):
    """Exports a small model with classes and a null label, once.

    Args:
        folder: `pathlib.Path` of a folder that exists.

    Returns:
        The `pathlib.Path` of the exported files.
    """
    keras.utils.set_random_seed(0)
    network = UNet(**SMALL, num_classes=10, null_label="learned")
    model = DiffusionModel(randomize(network))
    export_model(model, folder / "exported", samplers=("ddim",))
    return folder / "exported"


def run_script(name, *arguments, cwd):
    """Runs a Python example as a user does; returns what it printed."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
