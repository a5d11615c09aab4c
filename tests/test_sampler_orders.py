"""How fast every sampler comes to the exact solution."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
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
    DDPM,
    LMS,
    DPMSolverPP,
    Estimate,
    EulerAncestral,
    Heun,
    KarrasGrid,
    LinspaceGrid,
    Sampler,
    UniPC,
)

SHAPE = (-1, 1, 1, 1)
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


# On EDM's schedule alone the image's share does not fall.
@pytest.mark.parametrize(
    "schedule",
    [VPSchedule(), pytest.param(EDMSchedule(), marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("sampler", DETERMINISTIC, ids=name_of)
def test_the_error_falls_with_the_order_of_the_sampler(sampler, schedule):
    coarse, fine = errors(sampler, schedule, (160, 640), KarrasGrid())
    order = np.log2(coarse / fine) / 2
    # Higher terms count too, so it may fall faster.
    assert order > order_of(sampler) - 0.2


@pytest.mark.parametrize(
    "schedule",
    [VPSchedule(), pytest.param(EDMSchedule(), marks=pytest.mark.slow)],
)
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


def last_variances(sampler, schedule, steps):
    """Variance of the pixel that a sampler ends with, for Gaussian data.

    For those every step is linear in the image and in its noise: each of the
    noises alone, as an image of one batch, tells how much of it is left.
    """
    sampler = dataclasses.replace(
        sampler, grid=KarrasGrid(), final_denoising=False
    )

    def alone(i, k):
        return tf.reshape(tf.one_hot(i, num_noises, dtype="float64"), SHAPE)

    for num_steps in steps:
        num_noises = num_steps + 1
        first = np.eye(num_noises)[num_steps].reshape(SHAPE)
        run = compiled_sample(sampler, gaussian_denoise(), schedule, alone)
        yield np.square(run(first, num_steps)).sum()


@pytest.mark.parametrize(
    "sampler, order",
    [
        (DDPM(thresholding=None), 1),
        (DDIM(eta=0.5, thresholding=None), 1),
        (EulerAncestral(), 1),
        (EulerAncestral(eta=0.5), 1),
        (DPMSolverPP(order=1, stochastic=True), 1),
        (DPMSolverPP(order=2, stochastic=True), 2),
        # 1.3 and 1.8 were measured at these steps, so 2 in the limit.
        (DPMSolverPP(order=3, stochastic=True), 1.8),
        (Heun(churn=10), 2),
    ],
    ids=lambda x: name_of(x) if isinstance(x, Sampler) else "",
)
def test_the_variance_of_samples_comes_with_the_order(sampler, order):
    schedule = VPSchedule()
    end = schedule.point(np.float64(schedule.min_time))
    exact = float((end.alpha * 0.5) ** 2 + end.sigma**2)
    coarse, fine = (
        abs(variance - exact)
        for variance in last_variances(sampler, schedule, (160, 320))
    )
    assert np.log2(coarse / fine) > order - 0.2


@pytest.mark.parametrize("sampler", DETERMINISTIC, ids=name_of)
def test_no_step_at_all_changes_nothing(sampler):
    # As the length of a step goes to zero, it becomes the identity.
    schedule = ContinuousCosineSchedule()
    x_t = as_images([0.4, -1.1])

    class Still:
        num_steps = total_steps = np.int32(30)
        schedule = ContinuousCosineSchedule()

        def __call__(self, i):
            return schedule.point(np.float64(0.5) - 1e-9 * np.float64(i))

    x, state = x_t, sampler.init(x_t)
    # So many that every solver has reached its order.
    for i in range(5):
        x, state = sampler.step(
            x,
            state,
            np.int32(i),
            Still(),
            lambda x, point: _as_estimate(gaussian_denoise()(x, point)),
            None,
        )
    # Steps of 1e-9 in time move by about as much.
    np.testing.assert_allclose(x, x_t, atol=1e-7)


def _as_estimate(pair):
    return Estimate(*pair)


def test_every_deterministic_sampler_is_in_the_table():
    def concrete(kind):
        for sub in kind.__subclasses__():
            yield from concrete(sub)
            # Those of other tests may still be there.
            is_ours = sub.__module__.startswith("keras_unet_diffusion")
            if is_ours and not sub.__name__.startswith("_"):
                yield sub

    tested = {type(x) for x in (*DETERMINISTIC, *FLOW, *STOCHASTIC)}
    assert set(concrete(Sampler)) == tested
