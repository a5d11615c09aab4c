"""The live figures of the site, used in a browser.

What the tables on the pages say is computed here anew, from the same files, by
numpy and by what wrote the tables of the pages.
"""

import functools
import json
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from browser_fixtures import build_site, install_playwright, use_in_browser
from example_cases import needs

from keras_unet_diffusion.studies.figures import COLOURS
from keras_unet_diffusion.studies.report import cell_text

STUDIES = Path(__file__).parents[1] / "docs" / "studies"
FILES = sorted(STUDIES.glob("*/*.json"))
SERIES = {
    "Loss by time": "losses",
    "Error by frequency": "bands",
    "Loss in training": "checks",
    "Error by sampling step": "curves",
    "Gradient by block": "curves",
}
pytestmark = [needs("node", "npm"), pytest.mark.slow]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What a browser found that used the pages; see `live_figures.mjs`."""
    folder = tmp_path_factory.mktemp("live")
    install_playwright(folder)
    site = folder / "site"
    build_site(site)
    pages = sorted({f"studies/{path.stem}/" for path in FILES})
    handler = functools.partial(SimpleHTTPRequestHandler, directory=site)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        arguments = (address, site, "shots", *pages)
        found = use_in_browser(folder, "live_figures.mjs", *arguments)
        server.shutdown()
    return found | {"address": address}


def figures(report):
    """Yields the numbers of each figure, and its views as used."""
    for page, found in report["pages"].items():
        for dataset, figure in found["figures"].items():
            path = STUDIES / dataset / f"{Path(page).name}.json"
            yield json.loads(path.read_text())["series"], figure["views"]


def views(report):
    for series, found in figures(report):
        for view in found:
            yield series, view


def lines(series, choices, title):
    """Arrays `(seeds, points)` by name, as a reader has chosen."""
    if title == "Error by receptive field":
        return lines_by_size(series, choices["Values"])
    found = series[SERIES[title]]
    if "When" in choices:
        found = found[choices["When"]]
    found = {name: np.array(x) for name, x in found.items()}
    if "At" in choices and choices["At"] == "all times, mean":
        found = {name: x.mean(axis=1) for name, x in found.items()}
    elif "At" in choices:
        time = float(choices["At"].removeprefix("t = "))
        at = np.argmin(np.abs(np.array(series["times"]) - time))
        found = {name: x[:, at] for name, x in found.items()}
    divisor = found.get(choices["Values"].partition(" / that of ")[2], 1.0)
    return {name: x / divisor for name, x in found.items()}


def lines_by_size(series, values):
    bands = {name: np.array(x) for name, x in series["bands"].items()}
    reference = bands.get(values.partition(" / that of ")[2], 1.0)
    plain = [x / reference for name, x in bands.items() if name != "U-Net"]
    return {
        f"{band} cycles/pixel": np.stack([x[:, k] for x in plain], axis=1)
        for k, band in enumerate(series["band_names"])
    }


def expected_rows(series, seen):
    """The table that a reader ought to see."""
    at, choices = seen["at"], seen["choices"]
    # A study with one view has no choice of it.
    only = "Gradient by block" if "blocks" in series else None
    title = choices.get("Show", only or "Error by sampling step")
    if title == "Samples":
        return [
            [name, cell_text(np.ravel(x[at])), cell_text(np.ravel(x))]
            for name, x in series["samples"].items()
        ]
    if title == "What the middle pixel depends on":
        return [
            [
                name,
                cell_text(float(x[len(x) // 2][at] / np.max(x))),
                f"{series['receptive_fields'][name]} px",
            ]
            for name, x in series["fields"].items()
        ]
    return [
        [name, cell_text(x[:, at]), *(cell_text(float(y)) for y in x[:, at])]
        for name, x in lines(series, choices, title).items()
    ]


def test_every_study_with_numbers_can_be_explored(report):
    explored = {
        (dataset, Path(page).name)
        for page, found in report["pages"].items()
        for dataset in found["figures"]
    }
    assert explored == {(path.parent.name, path.stem) for path in FILES}
    assert len(explored) >= 10


def test_the_table_has_the_numbers_of_the_file(report):
    count = 0
    for series, view in views(report):
        for seen in view["said"] + view["readOuts"]:
            assert seen["rows"] == expected_rows(series, seen), seen
            for name, first, *_ in seen["rows"]:
                assert f"{name}: {first}" in seen["said"]
            assert seen["said"].startswith(f"{seen['point']}. ")
            count += 1
    assert count > 100


def test_a_toggle_hides_one_line_and_shows_it_again(report):
    for _, view in views(report):
        assert [x["name"] for x in view["toggles"]] == view["all"]
        for toggle in view["toggles"]:
            others = [x for x in view["all"] if x != toggle["name"]]
            assert toggle["pressed"] == "false"
            assert toggle["drawn"] == toggle["rows"] == others
            assert toggle["changes"]
        assert view["isBack"]


def test_each_choice_draws_something_else(report):
    for _, view in views(report):
        for looks in view["looks"].values():
            assert len(set(looks)) == len(looks)
    assert any(len(x["looks"]["At"]) > 1 for _, x in views(report))
    assert any(len(x["looks"]["When"]) == 2 for _, x in views(report))


def test_keys_and_the_pointer_move_the_cursor(report):
    for _, view in views(report):
        last = view["last"]
        assert [seen["at"] for seen in view["said"]] == [0, 1, 0, last]
        # On samples, the pointer is at the ends of the first row of four; on
        # a map of 32 pixels, 0.05 of the width is the second.
        assert view["pointed"][0] in (0, 1)
        assert view["pointed"][1] in (last, 3)


def test_colours_are_those_of_the_figures(report):
    for found in report["pages"].values():
        assert [x.upper() for x in found["colours"]] == list(COLOURS)


def test_all_controls_have_names(report):
    assert all(not x["unnamed"] for x in report["pages"].values())


def test_there_is_no_error_and_nothing_is_fetched_unasked(report):
    for found in report["pages"].values():
        assert found["problems"] == found["loadedUnasked"] == []
        assert all(x.startswith(report["address"]) for x in found["addresses"])


def test_it_fits_a_phone_in_the_dark_without_motion(report):
    for phone in report["phones"].values():
        assert phone["problems"] == []
        assert phone["width"] <= 360 and phone["drawing"] <= 360
        assert phone["transition"] == "0s"
        # rgb(30, 33, 41): a dark grey.
        assert phone["background"].startswith("rgb(30,")


def test_what_cannot_be_loaded_says_what_to_do(report):
    assert "404" in report["failure"]
    assert "Check the connection" in report["failure"]
    assert "python -m http.server" in report["file"]


def test_without_scripts_the_figures_are_all_there_is(report):
    assert report["plain"]["pictures"] >= 1
    assert report["plain"]["figures"] == 0
