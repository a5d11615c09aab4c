"""The page that explains a network: its data, its pictures, its safety."""

import base64
import dataclasses
import hashlib
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import keras
import numpy as np
import pytest
from command_fixtures import CHEAP_PRESET
from conftest import randomize
from PIL import Image

from keras_unet_diffusion import (
    DiffusionProcess,
    EDMPrediction,
    EDMSchedule,
    MagnitudePreservingUNet,
    PlainCNN,
    UNet,
    layers,
)
from keras_unet_diffusion.studies import describe, page
from keras_unet_diffusion.studies.explanations import _KINDS, explain
from keras_unet_diffusion.studies.features import Subject
from keras_unet_diffusion.studies.page import render
from keras_unet_diffusion.studies.page_data import Options, page_data
from keras_unet_diffusion.studies.pictures import data_uri

ABOUT = {
    "title": "Ours </script><b>&",
    "weights": "Random.",
    "is_trained": False,
    "image": "noise",
}
PAGE = Path(page.__file__).parent / "page"
QUICK = Options(num_levels=2, num_steps=1, heat_maps="none", measured="none")
EDM = DiffusionProcess(EDMSchedule(), EDMPrediction())


def subject_of(network, label=None):
    channels = network.input["noisy_images"].shape[-1]
    image = np.random.default_rng(0).uniform(-1, 1, (8, 8, channels))
    return Subject(image.astype("float32"), label)


@pytest.fixture(scope="module")
def plain_data():
    """Data of a plain network of three convolutions, with heat maps."""
    network = randomize(PlainCNN(8, 1, channels=20, num_layers=3), scale=0.5)
    options = Options(num_levels=3, num_steps=2, heat_maps="all")
    process = DiffusionProcess()
    return page_data(network, process, subject_of(network), ABOUT, options)


def pixels_of(uri):
    encoded = uri.removeprefix("data:image/webp;base64,")
    picture = Image.open(io.BytesIO(base64.b64decode(encoded)))
    return np.asarray(picture.convert("RGB"))


def test_small_pictures_come_back_exactly():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), "uint8")
    np.testing.assert_array_equal(pixels_of(data_uri(pixels)), pixels)


NETWORKS = {
    "plain": (lambda: PlainCNN(8, 1, channels=4, num_layers=2), None),
    "every kind": (
        lambda: UNet(
            **CHEAP_PRESET
            | {
                "channel_multipliers": (1, 1),
                "attention_levels": (1,),
                "encoder_pyramid": "residual",
                "decoder_pyramid": "skip",
                "downsampling": "residual_block",
                "scale_shift": True,
                "residual_scale": 0.5**0.5,
                "num_classes": 3,
                "output_channels": 2,
            }
        ),
        None,
    ),
    "magnitude preserving": (
        lambda: MagnitudePreservingUNet(
            8,
            4,
            base_channels=8,
            channel_multipliers=(1,),
            num_residual_blocks=1,
            attention_resolutions=(8,),
            num_head_channels=4,
            num_classes=3,
        ),
        EDM,
    ),
    "upsampling": (
        lambda: UNet(**CHEAP_PRESET, super_resolution_factor=2),
        None,
    ),
    "of any size": (
        lambda: UNet(**CHEAP_PRESET | {"image_size": None}),
        None,
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name == "of any size"))
        for name in NETWORKS
    ],
)
def test_every_block_of_any_network_is_told_of_and_drawn(name):
    make, process = NETWORKS[name]
    network = make()
    label = 2 if "labels" in network.input else None
    data = page_data(
        network,
        process or DiffusionProcess(),
        subject_of(network, label),
        ABOUT,
        QUICK,
    )
    size = 8 if network.input["noisy_images"].shape[1] is None else None
    blocks = describe(network, size)
    assert [block["name"] for block in data["blocks"]] == [
        block.name for block in blocks
    ]
    assert data["about"]["parameters"] == network.count_params()
    for block in data["blocks"]:
        words = [block[x] for x in ("function", "formula", "reason")]
        assert all(words) and block["reference"]
        rows, columns, height, width = block["tile"]
        pixels = pixels_of(data["pictures"][f"block {block['name']}"])
        assert pixels.shape[:2] == (rows * height, 2 * columns * width)
    assert pixels_of(data["pictures"]["strip"]).shape[:2] == (3 * 8, 8)
    json.dumps(data, allow_nan=False)


def test_no_two_kinds_have_the_same_colour_in_the_light_or_the_dark():
    style = (PAGE / "page.css").read_text()
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w+);", part))
        for part in style.split(".dark {", 1)
    )
    variables = [
        re.search(rf"\.{kind}\b[^{{]*{{ fill: var\(--([\w-]+)\)", style)[1]
        for kind in (kind.replace(" ", "-") for kind in _KINDS)
    ]
    for colours in (light, dark):
        assert len({colours[name] for name in variables}) == len(_KINDS)


@pytest.mark.parametrize("noise_level", [0.01, 25.0, 1e9, math.nan])
def test_a_page_cannot_open_at_noise_that_it_does_not_show(noise_level):
    network = PlainCNN(8, 1, channels=4, num_layers=2)
    options = dataclasses.replace(QUICK, noise_level=noise_level)
    with pytest.raises(ValueError, match="from 0.05 to 20. Received: noise_le"):
        page_data(
            network, DiffusionProcess(), subject_of(network), ABOUT, options
        )


def test_without_heat_maps_the_page_says_why(plain_data):
    network = PlainCNN(8, 1, channels=4, num_layers=2)
    data = page_data(
        network, DiffusionProcess(), subject_of(network), ABOUT, QUICK
    )
    assert data["no_heat"] == "left out by heat_maps=none"
    assert plain_data["no_heat"] is None


def test_kinds_without_words_are_refused():
    with pytest.raises(ValueError, match="Received: 'made up'. Choose one"):
        explain("made up", keras.layers.Activation("silu"))


def test_words_follow_how_a_block_is_built():
    added = explain("skip", keras.layers.Add())
    joined = explain("skip", keras.layers.Concatenate())
    assert (added.formula, joined.formula) == ("y = h + s", "y = [h, s]")
    plain = explain("residual block", layers.ResidualBlock(8))
    shifted = explain(
        "residual block", layers.ResidualBlock(8, scale_shift=True)
    )
    assert "Ho et al. 2020" in plain.reference
    assert "Dhariwal" in shifted.reference
    down = explain("downsampling", layers.ResidualBlock(8, resampling="down"))
    assert "halved" in down.function and "down(" in down.formula


def test_a_heat_map_is_dark_outside_what_a_pixel_can_see(plain_data):
    for number in (1, 2, 3):
        heat = pixels_of(plain_data["pictures"][f"heat conv_{number}"])
        seen = np.zeros((8, 8), bool)
        # Convolutions of 3x3 reach one pixel further each, around (4, 4).
        seen[4 - number : 5 + number, 4 - number : 5 + number] = True
        assert (heat[seen].max(axis=-1) > 0).mean() > 0.9
        assert (heat[~seen] == 0).all()


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_networks_in_sixteen_bits_have_heat_maps_too(dtype):
    network = PlainCNN(8, 1, channels=4, num_layers=2, dtype=dtype)
    options = dataclasses.replace(QUICK, heat_maps="all")
    data = page_data(
        network, DiffusionProcess(), subject_of(network), ABOUT, options
    )
    heat = pixels_of(data["pictures"]["heat conv_1"])[..., 0]
    assert (heat > 0).sum() == 9


def test_what_a_small_network_sees_is_measured_and_agrees(plain_data):
    seeing = [x for x in plain_data["blocks"] if x["receptive_field"]]
    assert [x["measured"] for x in seeing] == [3, 5, 7]
    for block in seeing:
        assert block["measured"] == block["receptive_field"]


def test_of_many_blocks_the_output_alone_is_measured(monkeypatch):
    monkeypatch.setattr(f"{page_data.__module__}._CHEAP_BLOCKS", 1)
    network = PlainCNN(8, 1, channels=4, num_layers=2)
    options = dataclasses.replace(QUICK, measured="auto")
    subject = subject_of(network)
    data = page_data(network, DiffusionProcess(), subject, ABOUT, options)
    *others, last = data["blocks"]
    assert last["measured"] == 5
    assert {block["measured"] for block in others} == {None}


def test_the_page_opens_at_the_level_that_was_asked_for(plain_data):
    ratios = [level["ratio"] for level in plain_data["levels"]]
    # 0.05, 1 and 20, on steps of the schedule.
    np.testing.assert_allclose(ratios, [0.05, 1, 20], rtol=0.1)
    assert plain_data["level"] == 1


class Elements(HTMLParser):
    """Tags with their attributes, and the text of scripts and styles."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self.is_inside = [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.is_inside = tag in ("script", "style")
        if self.is_inside:
            self.texts.append([tag, dict(attributes), ""])

    def handle_endtag(self, tag):
        self.is_inside = False

    def handle_data(self, data):
        if self.is_inside:
            self.texts[-1][2] += data


@pytest.fixture(scope="module")
def elements(plain_data):
    return Elements(render(plain_data))


def test_the_page_asks_for_nothing_from_elsewhere(elements):
    for _, attributes in elements.tags:
        for name in ("src", "href", "action", "data", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#"))
    for tag, _, text in elements.texts:
        if tag == "style":
            assert "url(" not in text and "@import" not in text


def test_the_policy_allows_the_scripts_inside_and_nothing_else(elements):
    (policy,) = (
        attributes["content"]
        for tag, attributes in elements.tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules.pop("default-src") == "'none'"
    assert rules.pop("img-src") == "data:"
    assert not {"'unsafe-inline'", "'unsafe-eval'"} & set(policy.split())
    for tag in ("script", "style"):
        expected = {
            base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            for kind, attributes, text in elements.texts
            if kind == tag and attributes.get("type") != "application/json"
        }
        allowed = set(re.findall("'sha256-(.+?)'", rules[f"{tag}-src"]))
        assert allowed == expected


def test_what_is_shown_cannot_end_the_script_that_it_is_in(
    elements, plain_data
):
    (data,) = (
        text
        for tag, attributes, text in elements.texts
        if attributes.get("type") == "application/json"
    )
    found = json.loads(data)
    assert found["about"]["title"] == ABOUT["title"]
    assert found["pictures"] == plain_data["pictures"]
    assert ("b", {}) not in elements.tags


def test_the_drawing_library_comes_with_its_licence(plain_data):
    page = render(plain_data)
    assert "https://d3js.org v7" in page
    assert "Permission to use, copy, modify, and/or distribute" in page
