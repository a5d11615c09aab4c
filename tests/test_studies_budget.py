"""Budgets: networks of equal size, or none."""

import dataclasses

import pytest

from keras_unet_diffusion import UNet
from keras_unet_diffusion.cli.study import STUDIES
from keras_unet_diffusion.studies.budget import (
    BASELINE,
    BUDGETS,
    DIGITS,
    check_equal,
    equal_width,
    make_plain_cnn,
    variant,
)


def test_the_baseline_is_the_unet_of_the_budgets_channels():
    network = UNet(
        image_size=8,
        image_channels=1,
        base_channels=12,
        channel_multipliers=(1, 2, 2),
        num_residual_blocks=1,
        attention_resolutions=(),
        num_groups=2,
    )
    assert BASELINE.build(DIGITS).count_params() == network.count_params()


@pytest.mark.parametrize(
    "other",
    [
        variant("plain", make_plain_cnn, num_layers=8),
        variant("none", skip_connections="none"),
    ],
    ids=lambda variant: variant.name,
)
def test_another_network_gets_the_width_of_equal_parameters(other):
    budget = dataclasses.replace(
        DIGITS, base_channels=64, channel_multipliers=(1,)
    )
    target = BASELINE.build(budget).count_params()
    width = equal_width(other, budget, target)
    count = other.build(budget, width).count_params()
    assert 0.95 <= count / target <= 1.05
    # Not by chance: at the baseline's own width it is another network.
    assert not 0.95 <= other.build(budget).count_params() / target <= 1.05


def test_networks_of_unequal_size_are_refused():
    check_equal({"smaller": 9500, "larger": 10500}, 10000)
    with pytest.raises(ValueError, match="10,501 parameters of 'larger'"):
        check_equal({"larger": 10501}, 10000)


def test_channels_too_coarse_to_be_equal_are_refused():
    other = variant("plain", make_plain_cnn, num_layers=2)
    # With the least channels, 4, it has hundreds of parameters.
    with pytest.raises(ValueError, match="Give more base_channels"):
        equal_width(other, DIGITS, 60)


def test_variants_of_the_same_network_are_equal_by_any_name():
    assert variant("a", skip_scale=0.5) == variant("b", skip_scale=0.5)
    assert variant("a", skip_scale=0.5) != variant("a", skip_scale=0.6)
    assert variant("a", change=str) != variant("a", change=repr)


def test_training_without_a_seed_or_a_step_is_refused():
    with pytest.raises(ValueError, match=r"seeds=\(\)"):
        dataclasses.replace(DIGITS, seeds=())
    with pytest.raises(ValueError, match="=243. Give a multiple of 4"):
        dataclasses.replace(DIGITS, train_steps=243)


def test_published_budgets_have_three_seeds():
    assert all(len(set(x.seeds)) >= 3 for x in BUDGETS.values())


@pytest.mark.slow
@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS)
@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_all_networks_of_a_study_are_of_equal_size(study, budget):
    target = BASELINE.build(budget).count_params()
    for other in study.variants(budget):
        width = equal_width(other, budget, target)
        count = other.build(budget, width).count_params()
        assert 0.95 <= count / target <= 1.05


def test_a_network_as_large_as_the_budget_tolerates_is_left_as_it_is():
    other = variant("none", middle_attention=False)
    budget = dataclasses.replace(
        DIGITS, base_channels=96, channel_multipliers=(1,)
    )
    target = BASELINE.build(budget).count_params()
    # What attention has is missing.
    assert 0.95 < other.build(budget).count_params() / target < 0.985
    assert equal_width(other, budget, target) == 1.0
    strict = dataclasses.replace(budget, size_tolerance=0.01)
    assert equal_width(other, strict, target) > 1.0
