"""The pages of the studies show what was measured, and how."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_unet_diffusion.cli.command import parse_flags
from keras_unet_diffusion.cli.study import STUDIES, define_flags, make_budget
from keras_unet_diffusion.studies.budget import BUDGETS
from keras_unet_diffusion.studies.report import load_result

FOLDER = Path(__file__).parents[1] / "docs" / "studies"
LARGEST_FIGURE_BYTES = 150_000
CASES = pytest.mark.parametrize(
    "study, budget",
    [(study, budget) for study in STUDIES for budget in BUDGETS],
)


def page_of(study):
    return (FOLDER / f"{study}.md").read_text()


def result_of(study, budget):
    return load_result(FOLDER / budget / f"{study}.json")


def command_of(study, budget):
    """The flags of the one command on a page that has this budget."""
    commands = re.findall(r"^kud-study (.*)$", page_of(study), re.MULTILINE)
    parsed = [
        parse_flags(define_flags, ["kud-study", *command.split()])
        for command in commands
    ]
    (values,) = [values for values in parsed if values.budget == budget]
    return values


@CASES
def test_a_page_has_the_table_of_its_measurements(study, budget):
    result = result_of(study, budget)
    assert result.study == study
    assert f"\n\n{result.table()}\n\n" in page_of(study)


@CASES
def test_the_command_on_a_page_is_that_of_its_measurements(study, budget):
    values = command_of(study, budget)
    assert values.study == study
    asked = make_budget(values)
    measured = result_of(study, budget).setting["budget"]
    found = {name: getattr(asked, name) for name in measured}
    # JSON has lists for tuples.
    assert {
        name: list(x) if isinstance(x, tuple) else x
        for name, x in found.items()
    } == measured


@CASES
def test_measurements_are_of_three_seeds_or_more(study, budget):
    rows = result_of(study, budget).rows
    cells = [x for row in rows for x in row if isinstance(x, list)]
    assert cells and all(len(x) >= 3 for x in cells)
    assert np.isfinite(cells).all()


@CASES
def test_a_page_shows_a_small_sharp_figure(study, budget):
    name = f"{budget}/{study}.png"
    assert (FOLDER / name).stat().st_size < LARGEST_FIGURE_BYTES
    with Image.open(FOLDER / name) as figure:
        # 144 in dots per metre is no whole number.
        assert figure.info["dpi"][0] == pytest.approx(144, abs=0.1)
    assert re.search(rf"!\[[^\]]{{10,}}\]\({name}\)", page_of(study))


@pytest.mark.parametrize("study", STUDIES)
def test_a_page_says_what_was_found_and_how(study):
    page = page_of(study)
    assert "\n## What was found\n" in page
    assert "\n## How it was measured\n" in page


def test_there_is_a_page_for_each_study_and_no_other():
    names = {path.stem for path in FOLDER.glob("*.md")}
    assert names == {"index", *STUDIES}
    assert len(STUDIES) == 10
    index = (FOLDER / "index.md").read_text()
    assert {x for x in STUDIES if f"({x}.md)" in index} == set(STUDIES)
