"""Identities and distributions of samplers; no network anywhere."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from conftest import first_of_each
from sampler_cases import (
    DETERMINISTIC,
    STOCHASTIC,
    as_images,
    compiled_sample,
    gaussian_denoise,
    name_of,
)

from keras_unet_diffusion.diffusion import (
    ContinuousCosineSchedule,
    EDMSchedule,
    LinearSchedule,
    VPSchedule,
)
from keras_unet_diffusion.samplers import (
    DDIM,
    DDPM,
    LMS,
    DPMSolverPP,
    DynamicThresholding,
    Estimate,
    Euler,
    EulerAncestral,
    ExponentialGrid,
    Heun,
    KarrasGrid,
    LeadingGrid,
    LinspaceGrid,
    Path,
    StaticThresholding,
    TrailingGrid,
    UniPC,
    sample,
)

SCHEDULE = LinearSchedule()
GRIDS = [
    LeadingGrid(),
    KarrasGrid(),
    # To the samplers others like LeadingGrid, of whole steps, and KarrasGrid.
    *(
        pytest.param(grid, marks=pytest.mark.slow)
        for grid in (LinspaceGrid(), TrailingGrid(), ExponentialGrid())
    ),
]
each_grid = pytest.mark.parametrize(
    "grid", GRIDS, ids=lambda x: type(x).__name__
)


def philox(shape):
    """Standard normal noise of a step's number and draw."""

    def draw_noise(i, k):
        return tf.random.stateless_normal(
            shape, tf.stack([i, k + 7]), dtype=tf.float64
        )

    return draw_noise


@each_grid
def test_ddim_without_noise_is_euler_and_dpm_solver_of_order_one(grid):
    x_1 = as_images([-1.5, 0.3, 1.9])
    first, *others = (
        compiled_sample(sampler, gaussian_denoise(), SCHEDULE)(x_1, 13)
        for sampler in (
            DDIM(grid=grid, thresholding=None),
            Euler(grid=grid),
            LMS(order=1, grid=grid),
            DPMSolverPP(order=1, grid=grid),
            EulerAncestral(eta=0.0, grid=grid),
        )
    )
    for other in others:
        # The same in exact arithmetic: float64, thirteen steps.
        np.testing.assert_allclose(other, first, atol=1e-12)


@each_grid
def test_ddim_with_eta_one_is_ddpm(grid):
    x_1 = as_images([-1.5, 0.3, 1.9])
    loops = [
        compiled_sample(
            sampler, gaussian_denoise(), SCHEDULE, philox(x_1.shape)
        )
        for sampler in (
            DDIM(eta=1.0, grid=grid, thresholding=None),
            DDPM(grid=grid, thresholding=None),
            EulerAncestral(grid=grid),
        )
    ]
    for num_steps in (1, 7, 333):
        ddim, ddpm, ancestral = (loop(x_1, num_steps) for loop in loops)
        # The same in exact arithmetic; hundreds of float64 steps apart.
        np.testing.assert_allclose(ddim, ddpm, atol=1e-10)
        np.testing.assert_allclose(ancestral, ddpm, atol=1e-10)


# The whole distribution is in test_exact_samples.py, for all of them.
@pytest.mark.parametrize(
    "schedule",
    [
        SCHEDULE,
        pytest.param(VPSchedule(), marks=pytest.mark.slow),
        pytest.param(EDMSchedule(), marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    ("sampler",),
    first_of_each([(x,) for x in STOCHASTIC], type),
    ids=name_of,
)
def test_stochastic_samples_have_the_mean_and_deviation_of_the_data(
    sampler, schedule
):
    count, mean, deviation = 20_000, 0.3, 0.5
    x_1 = np.random.default_rng(1).standard_normal((count, 1, 1, 1))
    if sampler.grid is None and schedule is not SCHEDULE:
        sampler = dataclasses.replace(sampler, grid=ExponentialGrid())
    run = compiled_sample(
        sampler, gaussian_denoise(deviation, mean), schedule, philox(x_1.shape)
    )
    images = run(x_1, 400).numpy()
    # Five standard errors (a false alarm once in 1.7 million), and 1% for the
    # steps' own error at 400 steps; "fixed large" adds some noise of its own.
    assert abs(images.mean() - mean) < 5 * deviation / count**0.5 + 0.005
    relative = abs(images.std() / deviation - 1)
    assert relative < 5 / (2 * count) ** 0.5 + 0.02


@pytest.mark.parametrize("sampler", DETERMINISTIC + STOCHASTIC, ids=name_of)
def test_a_single_step_returns_the_estimated_image(sampler):
    x_1 = as_images([-1.5, 0.3, 1.9])
    schedule = ContinuousCosineSchedule()
    if isinstance(sampler, Heun) and sampler.is_stochastic:
        pytest.skip("Its churn adds noise before the estimate.")
    images = sample(
        sampler, gaussian_denoise(), x_1, schedule, 1, philox(x_1.shape)
    )
    path = Path(schedule, sampler, np.int32(1), "float64")
    point = path(np.int32(0))
    noisy = sampler.initial(x_1, path)
    x_0, _ = gaussian_denoise()(noisy, point)
    np.testing.assert_allclose(images, x_0, atol=1e-9)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_a_variance_told_by_its_logarithm_is_that_variance(variance):
    x_t = as_images([0.3])
    path = Path(SCHEDULE, DDPM(), np.int32(10), "float64")

    def end(sampler, noise, told=None):
        def denoise(x_t, point):
            return Estimate(x_t, x_t, told)

        x, _ = sampler.step(
            x_t, (), np.int32(3), path, denoise, lambda k=0: as_images([noise])
        )
        return np.asarray(x)

    fixed = DDPM(variance)
    # A step adds the deviation times the noise.
    told = np.log(np.square(end(fixed, 1.0) - end(fixed, 0.0)))
    np.testing.assert_allclose(
        end(DDPM("learned"), 1.0, told), end(fixed, 1.0), rtol=1e-12
    )


def test_the_noise_of_ancestral_steps_is_scaled():
    x_t = as_images([0.3])
    path = Path(SCHEDULE, EulerAncestral(), np.int32(10), "float64")

    def end(noise_scale, noise):
        x, _ = EulerAncestral(noise_scale=noise_scale).step(
            x_t,
            (),
            np.int32(3),
            path,
            lambda x_t, point: Estimate(x_t, x_t),
            lambda k=0: as_images([noise]),
        )
        return np.asarray(x)

    np.testing.assert_allclose(end(1.5, 2.0), end(1.0, 3.0), rtol=1e-12)
    assert np.abs(end(1.0, 3.0) - end(1.0, 2.0)).max() > 0.1


@pytest.mark.parametrize(
    "kind", [Euler, EulerAncestral, Heun, LMS, DPMSolverPP, UniPC]
)
def test_bounds_on_images_bind_every_sampler_in_diffusers_too(kind):
    def end(thresholding):
        sampler = kind(compat="diffusers", thresholding=thresholding)
        x_1 = as_images([-1.0, 1.5])
        noises = philox(x_1.shape)
        images = sample(sampler, gaussian_denoise(), x_1, SCHEDULE, 5, noises)
        return np.abs(images).max()

    # The last step goes to the estimate itself, but for what it remembers.
    assert end(StaticThresholding(0.05)) < 0.06 < end(None)


def test_learned_variances_lie_between_the_small_and_the_large_one():
    x_t = as_images([0.3])
    noise = as_images([1.0])
    path = Path(SCHEDULE, DDPM(), np.int32(10), "float64")

    def end(variance, told=None):
        sampler = DDPM(variance)

        def denoise(x_t, point):
            told_image = None if told is None else told * np.ones_like(x_t)
            return Estimate(x_t, x_t, told_image)

        x, _ = sampler.step(
            x_t, (), np.int32(3), path, denoise, lambda k=0: noise
        )
        return float(np.asarray(x).item())

    small, large = end("fixed_small"), end("fixed_large")
    assert end("learned_range", -1.0) == pytest.approx(small, rel=1e-12)
    assert end("learned_range", 1.0) == pytest.approx(large, rel=1e-12)
    assert small < end("learned_range", 0.0) < large
    with pytest.raises(ValueError, match="variance='learned_range'"):
        end("learned_range")


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: DDIM(eta=2), "eta=2"),
        (lambda: DDIM("karras"), "eta='karras'"),
        (lambda: DDIM(LinearSchedule()), r"eta=LinearSchedule\("),
        (lambda: EulerAncestral("karras"), "eta='karras'"),
        (
            lambda: DDIM(compat="diffusers", final_denoising=False),
            "final_denoising=False",
        ),
        (lambda: DDPM("big"), "variance='big'"),
        (lambda: DDIM(compat="keras"), "compat='keras'"),
        (lambda: DDIM(grid="leading"), "grid='leading'"),
        (lambda: DPMSolverPP(order=4), "order=4"),
        (lambda: LMS(order=5), "order=5"),
        (lambda: Heun(churn=-1), "churn=-1"),
        (lambda: KarrasGrid(rho=0), "rho=0"),
        (lambda: LeadingGrid(offset=-1), "offset=-1"),
        (lambda: StaticThresholding(0), "bound=0"),
        (lambda: DynamicThresholding(0), "quantile=0"),
        (lambda: EulerAncestral(eta=3), "eta=3"),
    ],
)
def test_arguments_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
