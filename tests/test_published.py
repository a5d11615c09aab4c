"""The facts beside the presets, and the page that is made of them."""

from pathlib import Path

from keras_unet_diffusion.magnitude_preserving_presets import (
    MAGNITUDE_PRESERVING_PRESETS,
)
from keras_unet_diffusion.presets import PRESETS
from keras_unet_diffusion.published import PUBLISHED, published_table

ROOT = Path(__file__).parents[1]


def test_every_published_preset_has_its_facts():
    # "tiny" is this library's own.
    presets = set(PRESETS) | set(MAGNITUDE_PRESERVING_PRESETS)
    assert set(PUBLISHED) == presets - {"tiny"}


def test_the_page_of_presets_holds_the_present_table():
    page = (ROOT / "docs" / "presets.md").read_text()
    assert published_table() in page


def test_fused_checkpoints_say_their_row_order():
    # Improved- and guided-diffusion fuse queries, keys and values; only the
    # 64x64 model was trained with the new order (its README's flags).
    orders = {name: PUBLISHED[name].qkv_order for name in PUBLISHED}
    fused = {x for x in orders if x.startswith(("iddpm", "adm"))}
    assert {x for x in orders if orders[x] is not None} == fused
    assert [x for x in orders if orders[x] == "new"] == ["adm_imagenet64"]
