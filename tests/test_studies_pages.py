"""The pages of the studies show what was measured, and how."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_unet_diffusion.cli.command import parse_flags
from keras_unet_diffusion.cli.study import STUDIES, define_flags, make_budget
from keras_unet_diffusion.studies.report import load_result

FOLDER = Path(__file__).parents[1] / "docs" / "studies"
LARGEST_FIGURE_BYTES = 100_000
STUDY = pytest.mark.parametrize("study", STUDIES)


def page_of(study):
    return (FOLDER / f"{study}.md").read_text()


def command_of(study):
    """The flags of the one command on a page."""
    (command,) = re.findall(r"^kud-study (.*)$", page_of(study), re.MULTILINE)
    return parse_flags(define_flags, ["kud-study", *command.split()])


@STUDY
def test_a_page_has_the_table_of_its_measurements(study):
    result = load_result(FOLDER / f"{study}.json")
    assert result.study == study
    assert f"\n\n{result.table()}\n\n" in page_of(study)


@STUDY
def test_the_command_on_a_page_is_that_of_its_measurements(study):
    values = command_of(study)
    assert values.study == study
    budget = make_budget(values)
    measured = load_result(FOLDER / f"{study}.json").setting["budget"]
    found = {name: getattr(budget, name) for name in measured}
    # JSON has lists for tuples.
    assert {
        name: list(x) if isinstance(x, tuple) else x
        for name, x in found.items()
    } == measured


@STUDY
def test_measurements_are_of_three_seeds_or_more(study):
    rows = load_result(FOLDER / f"{study}.json").rows
    cells = [x for row in rows for x in row if isinstance(x, list)]
    assert cells and all(len(x) >= 3 for x in cells)
    assert np.isfinite(cells).all()


@STUDY
def test_a_page_shows_a_small_sharp_figure_and_has_a_finding(study):
    path = FOLDER / f"{study}.png"
    assert path.stat().st_size < LARGEST_FIGURE_BYTES
    with Image.open(path) as figure:
        # 144 in dots per metre is no whole number.
        assert figure.info["dpi"][0] == pytest.approx(144, abs=0.1)
    page = page_of(study)
    assert re.search(rf"!\[[^\]]{{10,}}\]\({study}\.png\)", page)
    assert "\n## What was found\n" in page


def test_there_is_a_page_for_each_study_and_no_other():
    names = {path.stem for path in FOLDER.glob("*.md")}
    assert names == {"index", *STUDIES}
    index = (FOLDER / "index.md").read_text()
    assert {x for x in STUDIES if f"({x}.md)" in index} == set(STUDIES)
