"""Samplers and grids by name."""

import pytest

from keras_unet_diffusion import DDIM, samplers
from keras_unet_diffusion.samplers import (
    GRID_NAMES,
    SAMPLER_NAMES,
    Sampler,
    TimeGrid,
    TwiceShiftedGrid,
    make_sampler,
)


def final_classes(kind):
    """The public classes of a kind that are not abstract."""
    classes = (getattr(samplers, name) for name in samplers.__all__)
    return {
        x
        for x in classes
        if isinstance(x, type)
        and issubclass(x, kind)
        and not x.__abstractmethods__
    }


@pytest.mark.parametrize(
    "kind, names", [(Sampler, SAMPLER_NAMES), (TimeGrid, GRID_NAMES)]
)
def test_every_sampler_and_every_grid_has_a_name(kind, names):
    named = {type(x) for x in names.values()}
    # What diffusers' flow scheduler does comes with compat="diffusers".
    assert named == final_classes(kind) - {TwiceShiftedGrid}
    assert len(set(names.values())) == len(names)


def test_a_name_makes_its_sampler_and_a_sampler_is_returned_as_it_is():
    assert make_sampler("dpm_solver_3").order == 3
    assert make_sampler("dpm_solver_sde").is_stochastic
    assert not make_sampler("ddim").is_stochastic
    sampler = DDIM(eta=0.5)
    assert make_sampler(sampler) is sampler


@pytest.mark.parametrize("sampler", ["DDIM", "", None, ["ddim"], DDIM])
def test_what_is_no_sampler_is_refused_and_the_names_listed(sampler):
    with pytest.raises(ValueError, match="no such sampler.*ddpm, ddim, euler"):
        make_sampler(sampler)
