"""The page that explains a network, used in a browser."""

import re

import numpy as np
import pytest
from browser_fixtures import install_playwright, use_in_browser
from conftest import SMALL, randomize
from example_cases import needs

from keras_unet_diffusion import DiffusionProcess, UNet, VelocityPrediction
from keras_unet_diffusion.diffusion import CosineSchedule
from keras_unet_diffusion.studies import describe
from keras_unet_diffusion.studies.features import Subject
from keras_unet_diffusion.studies.page import write_page
from keras_unet_diffusion.studies.page_data import Options

ABOUT = {
    "title": "Ours </script><b>&",
    "weights": "Random.",
    "is_trained": True,
    "image": "noise",
}
pytestmark = [needs("node", "npm"), pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which a browser can be driven."""
    folder = tmp_path_factory.mktemp("explain")
    install_playwright(folder)
    return folder


def write(page, process, about, **options):
    """Writes a page; returns the network, of ten classes, and the image."""
    network = randomize(UNet(**SMALL, num_classes=10))
    image = np.random.default_rng(0).uniform(-1, 1, (8, 8, 1))
    subject = Subject(image.astype("float32"), label=3)
    options = Options(num_levels=3, num_steps=3, **options)
    write_page(page, network, process, subject, about, options)
    return network, subject


@pytest.fixture(scope="module")
def report(folder):
    """What a browser found that used the page; see `explain_page.mjs`."""
    page = folder / "page.html"
    network, _ = write(page, DiffusionProcess(), ABOUT, heat_maps="all")
    found = use_in_browser(folder, "explain_page.mjs", page.name, "shots")
    assert len(list((folder / "shots").glob("*.png"))) == 3
    return found | {
        "bytes": page.stat().st_size,
        "blocks": {block.name: block for block in describe(network)},
    }


def test_clicking_a_block_tells_all_of_it(report):
    blocks, visited = report["blocks"], report["visited"]
    assert list(visited) == list(blocks)
    for name, block in blocks.items():
        seen = visited[name]
        facts = seen["facts"]
        assert seen["name"] == seen["row"] == name
        assert seen["selected"] == [name]
        assert seen["status"].startswith(f"{name}, {block.kind}, ")
        assert facts["Kind"] == f"{block.kind}, {block.part}"
        assert facts["Parameters"].startswith(f"{block.parameters:,}, ")
        assert facts.get("Its skip goes to") == block.skip_to
        if block.receptive_field is not None:
            side = block.receptive_field
            assert facts["Receptive field"].startswith(f"{side}×{side} pixels")


def test_the_skip_of_the_selected_block_lights_up_at_both_ends(report):
    ends = {
        block.name: block.skip_to
        for block in report["blocks"].values()
        if block.skip_to
    }
    ends |= {join: block for block, join in ends.items()}
    # Two levels of one block, the stem and a downsampling, to and fro.
    assert len(ends) == 8
    for name, seen in report["visited"].items():
        expected = [ends[name]] if name in ends else []
        assert seen["partners"] == expected
        assert seen["lit"] == len(expected)


def test_the_noise_slider_changes_both_pictures(report):
    noise = report["noise"]
    assert len(noise) == 3
    for name in ("said", "noisy", "features"):
        assert len({level[name] for level in noise}) == 3


def test_each_step_of_the_strip_can_be_looked_at(report):
    seen, first = report["strip"]["seen"], report["strip"]["first"]
    assert [step["current"] for step in seen] == ["1", "2", "3"]
    assert len({step["x_t"] for step in seen}) == 3
    assert first == seen[0]["said"]
    assert first.startswith("1 of 3: ")


def test_the_keyboard_moves_and_selects(report):
    names = list(report["blocks"])
    assert report["keys"]["steps"] == {
        "Home": names[0],
        "ArrowRight": names[1],
        "ArrowDown": names[2],
        "ArrowLeft": names[1],
        "End": names[-1],
    }
    assert report["keys"]["byEnter"] == names[-1]
    assert report["keys"]["bySpace"] == names[0]


def test_every_other_control_does_what_it_says(report):
    names, buttons = list(report["blocks"]), report["buttons"]
    skipped = report["skipped"]
    following = names[names.index(skipped) + 1]
    assert buttons["chosen"] == buttons["back"] == skipped
    assert buttons["followed"] == report["blocks"][skipped].skip_to
    assert (buttons["next"], buttons["previous"]) == (following, skipped)
    assert buttons["litAll"] == 1
    assert buttons["squareChanges"] and buttons["heatChanges"]
    assert "what matters to the middle pixel" in buttons["heatCaption"]
    assert (buttons["fromTable"], buttons["leapt"]) == (names[0], "details")
    assert buttons["dark"] != buttons["light"]


def test_all_controls_have_names(report):
    assert report["unnamed"] == []


def test_there_is_no_error_and_nothing_is_fetched(report):
    assert report["problems"] == report["phone"]["problems"] == []
    elsewhere = [
        address
        for address in report["addresses"]
        if not address.startswith(("data:", report["address"]))
    ]
    assert elsewhere == []


def test_it_is_small_and_soon_ready(report):
    assert report["bytes"] < 5e6
    # Milliseconds until every control works.
    assert report["readyAfter"] < 2000


def test_it_fits_a_phone_in_the_dark_without_motion(report):
    phone = report["phone"]
    assert phone["width"] <= 360
    assert phone["background"] == report["buttons"]["dark"]
    assert phone["animation"] == "none"
    assert phone["inSight"]


@pytest.fixture(scope="module")
def words(folder):
    """What a page without heat maps says; see `explain_words.mjs`."""
    process = DiffusionProcess(CosineSchedule(), VelocityPrediction())
    about = ABOUT | {"label_name": "cat"}
    _, subject = write(folder / "w.html", process, about, heat_maps="none")
    found = use_in_browser(folder, "explain_words.mjs", "w.html")
    assert found["problems"] == []
    return found | {"image": subject.image}


def test_the_clean_image_is_beside_the_noisy_one(words):
    # Bytes of pixels in [-1, 1].
    expected = np.round(127.5 + 127.5 * words["image"]).ravel()
    np.testing.assert_array_equal(words["clean"], expected)
    assert words["first"]["clean-caption"] == "The clean image, x₀: noise."


def test_it_says_which_class_the_network_is_told_by_name(words):
    for name in ("noisy-caption", "strip-help"):
        assert "It is told class cat." in words["first"][name]


def test_it_says_what_is_predicted_and_what_the_number_is(words):
    assert words["first"]["predicts"].endswith("the velocity: α ε − σ x₀")
    assert words["first"]["noise-value"].endswith(" (time step, 0 to 999)")


def test_what_cannot_be_chosen_says_why(words):
    first, vector = words["first"], words["vector"]
    assert first["disabled"] == ["heat"]
    assert first["no-square"] == ""
    assert first["no-heat"] == " (left out by heat_maps=none)"
    assert vector["disabled"] == ["square", "heat"]
    for name in ("no-square", "no-heat"):
        assert vector[name] == " (this block sees no noisy image)"


def test_units_stand_apart_from_their_numbers(words):
    assert "Operations0 FLOP, " in words["vector"]["facts"]
    assert re.search(r" [\d.]+ MFLOP for one image", words["first"]["summary"])


def test_the_table_is_whole_on_a_desktop(words):
    assert words["scrollWidth"] == words["clientWidth"]
