"""How fast every deterministic sampler comes to the exact solution."""

import dataclasses

import numpy as np
import pytest
from sampler_cases import (
    DETERMINISTIC,
    FLOW,
    STOCHASTIC,
    as_images,
    compiled_sample,
    flow_end,
    gaussian_denoise,
    name_of,
)

from keras_unet_diffusion.diffusion import (
    ContinuousCosineSchedule,
    EDMSchedule,
    FlowSchedule,
    VPSchedule,
)
from keras_unet_diffusion.samplers import (
    DDIM,
    LMS,
    DPMSolverPP,
    Estimate,
    KarrasGrid,
    LinspaceGrid,
    Sampler,
    UniPC,
)

FIRST = ("DDIM", "Euler", "FlowEuler")


def order_of(sampler):
    """The order that the sampler's source claims."""
    name = type(sampler).__name__
    if name in FIRST:
        return 1
    if name in ("Heun", "FlowHeun"):
        return 2
    # A corrector lifts its predictor's order by one: Zhao et al. 2023, theorem
    # 3.1. The first steps of a multistep method are of low order, but on a
    # Karras grid from pure noise they hardly count.
    return sampler.order + (name == "UniPC")


def errors(sampler, schedule, steps, grid):
    sampler = dataclasses.replace(
        sampler, grid=grid, final_denoising=False, thresholding=None
    )
    begin = schedule.point(np.float64(schedule.max_time))
    end = schedule.point(np.float64(schedule.min_time))
    noise = as_images([1.3])
    exact = flow_end(
        noise * np.asarray(schedule.prior_deviation(begin)), begin, end
    )
    run = compiled_sample(sampler, gaussian_denoise(), schedule)
    return [
        np.abs(run(noise, num_steps).numpy() - np.asarray(exact)).max()
        for num_steps in steps
    ]


@pytest.mark.parametrize("schedule", [VPSchedule(), EDMSchedule()])
@pytest.mark.parametrize("sampler", DETERMINISTIC, ids=name_of)
def test_the_error_falls_with_the_order_of_the_sampler(sampler, schedule):
    coarse, fine = errors(sampler, schedule, (160, 640), KarrasGrid())
    order = np.log2(coarse / fine) / 2
    # Higher terms count too, so it may fall faster.
    assert order > order_of(sampler) - 0.2


@pytest.mark.parametrize("schedule", [VPSchedule(), EDMSchedule()])
@pytest.mark.parametrize("kind", [DPMSolverPP, UniPC, LMS])
def test_a_higher_order_leaves_a_smaller_error(kind, schedule):
    found = [
        errors(kind(order=order), schedule, (160,), KarrasGrid())[0]
        for order in (1, 2, 3)
    ]
    assert found[0] > 3 * found[1] > 9 * found[2]


@pytest.mark.parametrize("sampler", FLOW, ids=name_of)
def test_flow_samplers_have_their_order(sampler):
    coarse, fine = errors(sampler, FlowSchedule(), (160, 640), LinspaceGrid())
    order = np.log2(coarse / fine) / 2
    assert order == pytest.approx(order_of(sampler), abs=0.2)


def test_a_sampler_that_is_no_more_than_first_order_is_seen_to_be():
    # The check can fail: DDIM is no second-order method.
    coarse, fine = errors(DDIM(), VPSchedule(), (160, 640), KarrasGrid())
    assert np.log2(coarse / fine) / 2 < 1.2


@pytest.mark.parametrize("sampler", DETERMINISTIC, ids=name_of)
def test_no_step_at_all_changes_nothing(sampler):
    # As the length of a step goes to zero, it becomes the identity.
    schedule = ContinuousCosineSchedule()
    x_t = as_images([0.4, -1.1])

    class Still:
        num_steps = np.int32(30)
        schedule = ContinuousCosineSchedule()

        def __call__(self, i):
            return schedule.point(np.float64(0.5) - 1e-9 * np.float64(i))

    x, _ = sampler.step(
        x_t,
        sampler.init(x_t),
        np.int32(0),
        Still(),
        lambda x, point: _as_estimate(gaussian_denoise()(x, point)),
        None,
    )
    # A step of 1e-9 in time moves by about as much.
    np.testing.assert_allclose(x, x_t, atol=1e-7)


def _as_estimate(pair):
    return Estimate(*pair)


def test_every_deterministic_sampler_is_in_the_table():
    def concrete(kind):
        for sub in kind.__subclasses__():
            yield from concrete(sub)
            if not sub.__name__.startswith("_"):
                yield sub

    tested = {type(x) for x in (*DETERMINISTIC, *FLOW, *STOCHASTIC)}
    assert set(concrete(Sampler)) == tested
