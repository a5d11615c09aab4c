"""The site: it builds, its code runs, its commands are those that exist."""

import importlib
import importlib.util
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from browser_fixtures import build_site
from PIL import Image

from keras_unet_diffusion import DiffusionModel, UNet
from keras_unet_diffusion.cli import (
    convert,
    explain,
    export,
    sample,
    study,
    train,
)
from keras_unet_diffusion.cli.command import parse_flags

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
READ_ME = [
    ROOT / "README.md",
    *(ROOT / folder / "README.md" for folder in ("train", "export")),
]
COMMANDS = {
    "python -m train": train,
    "python -m export": export,
    "kud-train": train,
    "kud-sample": sample,
    "kud-export": export,
    "kud-convert": convert,
    "kud-explain": explain,
    "kud-study": study,
}
# Pages whose code is run elsewhere, with what it needs.
RUN_ELSEWHERE = {"averages.md": "test_averages_page.py"}
# Guides train for less, where how long does not matter to what is shown.
SHORTER = {
    "epochs=100": "epochs=1",
    "epochs=20": "epochs=1, steps_per_epoch=2",
    "epochs=2,": "epochs=2, steps_per_epoch=2,",
    "epochs = 30": "epochs = 1",
    "epochs=epochs,": "epochs=epochs, steps_per_epoch=3,",
    "generate(\n    64": "generate(\n    2",
    "generate(64": "generate(2",
    "num_steps=50": "num_steps=3",
    "num_steps=20": "num_steps=3",
}


def blocks(page, language):
    """The fenced code of a page in one language, in its order."""
    return re.findall(
        rf"^```{language}\n(.+?)^```",
        page.read_text(),
        re.DOTALL | re.MULTILINE,
    )


def pages_with_code():
    named = [page for page in PAGES if blocks(page, "python")]
    return [
        page
        for page in named
        if page.relative_to(DOCS).as_posix() not in RUN_ELSEWHERE
    ]


def make_photos(folder):
    random = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (folder / "photos" / name).mkdir(parents=True)
        for k in range(4):
            pixels = random.integers(0, 256, (40, 50, 3), dtype="uint8")
            Image.fromarray(pixels).save(folder / "photos" / name / f"{k}.jpg")


def run(codes, names, page):
    for code in codes:
        for long, short in SHORTER.items():
            code = code.replace(long, short)
        exec(compile(code, str(page), "exec"), names)


@pytest.fixture
def eager(monkeypatch):
    """Models that are not traced: what code does counts, not how fast."""
    compile_model = DiffusionModel.compile

    def compile_eagerly(model, *args, **kwargs):
        compile_model(model, *args, **kwargs | {"run_eagerly": True})

    monkeypatch.setattr(DiffusionModel, "compile", compile_eagerly)


# What these do is done by default in the notebook, in test_readme.py and in
# test_checkpoints.py.
ELSEWHERE_TOO = ("index", "own_images", "resume")


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page,
            marks=[pytest.mark.slow] * (page.stem in ELSEWHERE_TOO),
            id=page.stem,
        )
        for page in pages_with_code()
    ],
)
def test_the_code_of_a_page_runs(page, eager, tmp_path, monkeypatch):
    make_photos(tmp_path)
    monkeypatch.chdir(tmp_path)
    network = UNet.from_preset("tiny", num_classes=10, null_label="learned")
    # Pages that begin in the middle have a model of ten classes.
    run(blocks(page, "python"), {"model": DiffusionModel(network)}, page)


def test_the_readmes_code_samples_and_describes_a_process():
    page = ROOT / "README.md"
    # The first and the last are run in test_readme.py and
    # test_export_checkpoint.py.
    _, *codes, _ = blocks(page, "python")
    names = {"model": DiffusionModel(UNet.from_preset("tiny"))}
    run(codes, names, page)
    assert np.isfinite(names["variations"]).all()
    assert names["process"].weighting is not None


def test_pages_whose_code_runs_elsewhere_are_named_there():
    for page, test in RUN_ELSEWHERE.items():
        assert page in (ROOT / "tests" / test).read_text()


def command_lines():
    """Each command of this library on a page, with its arguments."""
    for page in [*PAGES, *READ_ME]:
        for code in blocks(page, "bash"):
            code = code.replace("\\\n", " ")
            for line in re.split(r"\n|&&", code):
                line = line.partition("  #")[0].strip()
                for name in COMMANDS:
                    start = line.find(name)
                    rest = line[start + len(name) :]
                    if start >= 0 and (not rest or rest[0] == " "):
                        yield page, name, rest


@pytest.mark.parametrize(
    "page, name, arguments",
    command_lines(),
    ids=lambda value: value.stem if isinstance(value, Path) else value,
)
def test_the_flags_of_a_command_on_a_page_exist(
    page, name, arguments, monkeypatch
):
    monkeypatch.chdir(ROOT)
    parse_flags(COMMANDS[name].define_flags, [name, *shlex.split(arguments)])


@pytest.mark.slow
def test_the_commands_for_own_images_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path)
    fewer = {
        "python -m train": ["--train_steps=2", "--steps_per_epoch=2"],
        "kud-explain": ["--num_levels=1", "--num_steps=1", "--heat_maps=none"],
    }
    page = DOCS / "guides" / "own_images.md"
    run = []
    for where, name, arguments in command_lines():
        if where == page:
            flags = [*shlex.split(arguments), *fewer[name]]
            assert COMMANDS[name].main([name, *flags]) == 0
            run.append(name)
    assert run == list(fewer)
    assert (tmp_path / "photos.html").stat().st_size > 100_000


def test_commands_stand_on_the_first_page():
    pages = {page.name for page, _, _ in command_lines()}
    assert "index.md" in pages and "README.md" in pages


def site_hooks():
    spec = importlib.util.spec_from_file_location(
        "site_hooks", DOCS / "site_hooks.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_names_what_can_be_imported():
    pytest.importorskip("mkdocs")
    hooks = site_hooks()
    for module in hooks.MODULES:
        dotted = f"keras_unet_diffusion.{module}".rstrip(".")
        names = importlib.import_module(dotted).__all__
        assert sorted(names) == sorted(hooks.public_names(module))


def test_the_site_builds_without_a_warning(tmp_path):
    build_site(tmp_path / "site")
    reference = (tmp_path / "site" / "reference" / "index.html").read_text()
    assert "class DiffusionModel" in reference or "DiffusionModel" in reference
    start = (tmp_path / "site" / "index.html").read_text()
    # Nothing is fetched from elsewhere when a page is opened.
    for tag in re.findall(r"<(?:script|link|img)[^>]+>", start):
        fetched = re.search(r"""(?:src|href)=["']?(https?:[^"' >]+)""", tag)
        assert not fetched or 'rel="canonical"' in tag, tag
    # What live figures load is there, too.
    for place in ("d3.min.js", "d3.LICENSE", "live_panel.js"):
        assert (tmp_path / "site" / "javascripts" / place).is_file()
    for path in DOCS.glob("studies/*/*.json"):
        shipped = tmp_path / "site" / path.relative_to(DOCS)
        assert shipped.read_bytes() == path.read_bytes()


def test_the_notebook_runs_from_top_to_bottom(eager, tmp_path, monkeypatch):
    page = ROOT / "notebooks" / "digits.ipynb"
    cells = json.loads(page.read_text())["cells"]
    codes = [
        # The library is installed already.
        "".join(line for line in cell["source"] if not line.startswith("%"))
        for cell in cells
        if cell["cell_type"] == "code"
    ]
    monkeypatch.chdir(tmp_path)
    names = {}
    run(codes, names, page)
    assert np.isfinite(names["samples"]).all()
    assert len(list(tmp_path.glob("*.png"))) == 4
    assert names["history"].history["loss"][0] < 1.5
