"""Every known mistake of converting weights is noticed.

The fixtures of other projects' networks would be of little use if a network
with a mistake in it passed them too. So each mistake is made on purpose.
"""

import re

import numpy as np
import pytest
from conftest import first_of_each
from test_weight_fixtures import (
    GATE,
    channels_last,
    error_over_spread,
    imported,
    network_inputs,
    order_of,
)
from weight_fixtures import checkpoint_of, fixture
from weight_mistakes import MISTAKES, NO_MISTAKES
from weight_mutations import copy_of, outputs

from keras_unet_diffusion.weights import load_checkpoint_into

# One image is enough, and not that of noise level 0, where waves are simple.
ONE = slice(-1, None)
ROWS = [(case, name) for case in MISTAKES for name in MISTAKES[case]]


def error_of(case, how):
    """Error over spread of the outputs that a mistake leads to."""
    given = {name: x[ONE] for name, x in network_inputs(case).items()}
    expected = channels_last(fixture(case).outputs["expected"][ONE])
    return error_over_spread(np.asarray(how(case, given)), expected)


def project(case, *_):
    """Where the network of a fixture comes from."""
    return case.partition("_")[0]


# That the fixtures notice all mistakes says something of the fixtures, which
# seldom change: by default one of each project must notice one. Without a
# mistake all pass by default, in test_weight_fixtures.py.
@pytest.mark.parametrize(
    ("case",), first_of_each([(case,) for case in MISTAKES], project)
)
def test_a_network_without_a_mistake_passes(case):
    assert error_of(case, outputs(np.copy)) <= GATE


# The ways by which the mistakes of a default run are made, and all others.
DEFAULT_WAYS = ("arguments", "loaded", "inputs")


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(way, marks=[pytest.mark.slow] * (way not in DEFAULT_WAYS))
        for way in NO_MISTAKES
    ],
)
def test_the_ways_to_make_mistakes_make_none_by_themselves(way):
    assert error_of(*NO_MISTAKES[way]) <= GATE


@pytest.mark.parametrize(("case", "mistake"), first_of_each(ROWS, project))
def test_a_mistake_is_far_beyond_the_gate(case, mistake):
    least, how = MISTAKES[case][mistake]
    assert least >= 50 * GATE
    assert error_of(case, how) > least


# Mistakes that change which tensors there are, and what the refusal names.
STRUCTURES = [
    (
        "diffusers_small_scale_shift",
        {"middle_attention_norm": True},
        "2 missing: mid_block.attentions.0.group_norm.weight",
    ),
    (
        "diffusers_small_scale_shift",
        {"scale_shift": False},
        "middle_attention_norm=False with scale_shift=False",
    ),
    (
        "diffusers_train_example",
        {"middle_attention_norm": False},
        "middle_attention_norm=False",
    ),
    (
        "diffusers_train_example",
        {"decoder_attention": "none"},
        "unexpected: up_blocks.0.attentions.0",
    ),
    (
        "diffusers_train_example",
        {"upsampling": "residual_block"},
        "missing: up_blocks.0.upsamplers.0.norm1.weight",
    ),
    (
        "guided_legacy_heads",
        {"attention_levels": (1,)},
        "missing: output_blocks.2.1.conv.weight",
    ),
    (
        "guided_super_res",
        {"super_resolution_factor": None},
        "input_blocks.0.0.weight (64, 6, 3, 3) instead of (64, 3, 3, 3)",
    ),
    (
        "improved_cifar10",
        {"output_channels": 3},
        "out.2.weight (6, 64, 3, 3) instead of (3, 64, 3, 3)",
    ),
    (
        "edm_ddpmpp_narrow",
        {"decoder_attention": "all"},
        "decoder_attention='all'",
    ),
    (
        "edm_ddpmpp_narrow",
        {"resampling_shortcut": "identity"},
        "resampling_shortcut='identity'",
    ),
    ("edm_ddpmpp_narrow", {"augmentation_channels": None}, "map_augment"),
    ("edm_ncsnpp_narrow", {"resampling_kernel": (1, 1)}, "resample_filter"),
    ("edm_ncsnpp_narrow", {"encoder_pyramid": "none"}, "aux_residual"),
    (
        "edm_ncsnpp_narrow",
        {"noise_level_embedding": "sinusoidal"},
        "unexpected: model.map_noise.freqs",
    ),
    ("edm_adm_narrow", {"num_classes": None}, "unexpected: model.map_label"),
]


@pytest.mark.parametrize(
    ("case", "changes", "named"), first_of_each(STRUCTURES, project)
)
def test_a_mistake_in_the_structure_is_refused_by_name(case, changes, named):
    network = copy_of(case, **changes)
    with pytest.raises(ValueError, match=re.escape(named)):
        load_checkpoint_into(network, checkpoint_of(case), None, order_of(case))


def test_frequencies_that_a_conversion_forgot_are_missed():
    case = "edm_ncsnpp_narrow"
    forgotten = {"model.map_noise.freqs": None}
    with pytest.raises(ValueError, match="1 missing: model.map_noise.freqs"):
        load_checkpoint_into(imported(case), checkpoint_of(case, **forgotten))
