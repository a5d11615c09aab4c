"""The README's code and commands are those that work."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_unet_diffusion import DiffusionModel

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


# To trace and to compile it takes most of the time.
@pytest.mark.parametrize(
    "is_eager", [True, pytest.param(False, marks=pytest.mark.slow)]
)
def test_the_readmes_keras_code_trains_on_a_folder_and_samples(
    is_eager, tmp_path, monkeypatch
):
    if is_eager:
        compile_model = DiffusionModel.compile
        monkeypatch.setattr(
            DiffusionModel,
            "compile",
            lambda model, *arguments: compile_model(
                model, *arguments, run_eagerly=True
            ),
        )
    code = re.search(r"```python\n(.+?)```", README, flags=re.DOTALL)[1]
    assert len(code.strip().splitlines()) <= 12
    random = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for k in range(8):
        pixels = random.integers(0, 256, (40, 50, 3), dtype="uint8")
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{k}.jpg")
    monkeypatch.chdir(tmp_path)
    # One epoch of the same code: what it does, not how well.
    assert "epochs=100" in code and "num_steps=50" in code
    code = code.replace("epochs=100", "epochs=1")
    names = {}
    exec(code.replace("num_steps=50", "num_steps=2"), names)
    assert names["images"].shape == (16, 32, 32, 3)
    assert np.isfinite(names["images"]).all()
    assert Image.open("samples.png").size == (4 * 138, 4 * 138)
    assert Path("photos.keras").stat().st_size > 1e6


def test_ci_runs_the_readmes_test_command():
    ci = (ROOT / ".ci" / "run").read_text()
    assert "install -e '.[test]'" in README and "-m pytest" in README
    assert "-e '.[test]'" in ci and "-m pytest" in ci


def test_every_file_that_a_page_links_to_exists():
    for page in ROOT.rglob("*.md"):
        if any(x.startswith(".") or x == "node_modules" for x in page.parts):
            continue
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page}: {link}"
