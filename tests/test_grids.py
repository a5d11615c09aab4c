"""Where the steps of samplers are."""

import warnings

import numpy as np
import pytest
import tensorflow as tf

from keras_unet_diffusion.diffusion import (
    FlowSchedule,
    LinearSchedule,
    VPSchedule,
)
from keras_unet_diffusion.samplers import (
    DDIM,
    DPMSolverPP,
    Euler,
    ExponentialGrid,
    KarrasGrid,
    LeadingGrid,
    LinspaceGrid,
    Path,
    TrailingGrid,
)

SCHEDULE = LinearSchedule()
UNIFORM = {
    "leading": LeadingGrid(),
    "linspace": LinspaceGrid(),
    "trailing": TrailingGrid(),
}
GRIDS = [*UNIFORM.values(), KarrasGrid(), ExponentialGrid()]
each_grid = pytest.mark.parametrize(
    "grid", GRIDS, ids=lambda x: type(x).__name__
)


def steps_of(sampler, counts):
    """Numbers of the steps, from 0, for each number of them."""

    @tf.function(input_signature=[tf.TensorSpec((), tf.int32)], autograph=False)
    def times(num_steps):
        path = Path(SCHEDULE, sampler, num_steps, "float64")
        return path(tf.range(num_steps)).t

    return {n: times(n).numpy() * 1000 - 1 for n in counts}


@each_grid
@pytest.mark.parametrize("num_steps", [1, 3, 10, 13, 30])
def test_grids_fall_and_end_where_no_noise_is_left(grid, num_steps):
    path = Path(SCHEDULE, DDIM(grid=grid), np.int32(num_steps), "float64")
    points = path(np.arange(num_steps + 1, dtype="int32"))
    t, alpha, sigma = map(np.asarray, (points.t, points.alpha, points.sigma))
    assert len(t) == num_steps + 1
    assert (np.diff(t) < 0).all() and t[-1] == 0
    assert alpha[-1] == 1 and sigma[-1] == 0


@pytest.mark.parametrize(
    "grid, num_steps, expected",
    [
        (LeadingGrid(), 10, [900, 800, 700, 600, 500, 400, 300, 200, 100, 0]),
        (LinspaceGrid(), 10, [999, 888, 777, 666, 555, 444, 333, 222, 111, 0]),
        (TrailingGrid(), 10, [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]),
        (LeadingGrid(offset=1), 4, [751, 501, 251, 1]),
    ],
)
def test_grids_stand_on_the_published_steps(grid, num_steps, expected):
    # Lin et al. 2023, table 2, counted from 0.
    path = Path(SCHEDULE, DDIM(grid=grid), np.int32(num_steps), "float64")
    steps = [float(path(np.int32(i)).t) * 1000 - 1 for i in range(num_steps)]
    np.testing.assert_allclose(steps, expected, atol=1e-9)


def test_openais_stride_is_the_smallest_that_gives_just_so_many_steps():
    sampler = DDIM(grid=LeadingGrid(), compat="openai")
    path = Path(SCHEDULE, sampler, np.int32(30), "float64")
    steps = [round(float(path(np.int32(i)).t) * 1000) - 1 for i in range(30)]
    by_force = next(
        range(0, 1000, stride)
        for stride in range(1, 1000)
        if len(range(0, 1000, stride)) == 30
    )
    assert steps[::-1] == list(by_force)


def test_openais_stride_knows_no_offset():
    sampler = DDIM(grid=LeadingGrid(offset=1), compat="openai")
    path = Path(SCHEDULE, sampler, np.int32(10), "float64")
    with pytest.raises(ValueError, match="with offset=1. Leave one out"):
        path(np.int32(0))


@each_grid
@pytest.mark.parametrize("schedule", [VPSchedule(), FlowSchedule(shift=3.0)])
def test_points_of_formulas_stay_on_their_schedule(schedule, grid):
    path = Path(schedule, DDIM(grid=grid), np.int32(7), "float64")
    points = [path(np.int32(i)) for i in range(7)]
    times = np.array([float(point.t) for point in points])
    assert (np.diff(times) < 0).all()
    # A rounding of the inverse of the schedule.
    assert schedule.min_time - 1e-9 <= times.min()
    assert times.max() <= schedule.max_time + 1e-9
    for point in points:
        there = schedule.point(point.t)
        # Inverse and schedule, one after the other, in float64.
        np.testing.assert_allclose(point.alpha, there.alpha, atol=1e-9)
        np.testing.assert_allclose(point.sigma, there.sigma, atol=1e-9)


@pytest.mark.parametrize("rho", [1.0, 7.0])
def test_karras_levels_are_even_in_their_root(rho):
    grid = KarrasGrid(rho=rho)
    path = Path(SCHEDULE, DDIM(grid=grid), np.int32(9), "float64")
    ratios = [float(path(np.int32(i)).noise_ratio) for i in range(9)]
    roots = np.array(ratios) ** (1 / rho)
    # Karras et al. 2022, Eq. 5, to rounding: log-SNR is interpolated.
    np.testing.assert_allclose(np.diff(roots, 2), 0, atol=1e-8)
    # samplers of the linear schedule go from 157.407 to 0.0100005.
    np.testing.assert_allclose(ratios[0], 157.40728, rtol=1e-7)
    np.testing.assert_allclose(ratios[-1], 0.0100005, rtol=1e-5)


def test_exponential_levels_are_even_in_log_snr():
    sampler = DDIM(grid=ExponentialGrid())
    path = Path(SCHEDULE, sampler, np.int32(9), "float64")
    levels = [float(path(np.int32(i)).half_log_snr) for i in range(9)]
    # Exact but for rounding.
    np.testing.assert_allclose(np.diff(levels, 2), 0, atol=1e-8)


def test_a_single_step_starts_at_the_noisiest_time():
    for grid in (LinspaceGrid(), TrailingGrid(), KarrasGrid()):
        path = Path(SCHEDULE, DDIM(grid=grid), np.int32(1), "float64")
        # To a rounding of the schedule's inverse.
        assert float(path(np.int32(0)).t) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("spacing", UNIFORM)
@pytest.mark.parametrize(
    "name, kind",
    [
        ("DDPMScheduler", DDIM),
        ("DDIMScheduler", DDIM),
        ("EulerDiscreteScheduler", Euler),
        ("DPMSolverMultistepScheduler", DPMSolverPP),
    ],
)
def test_steps_are_those_of_diffusers_for_any_number_of_them(
    name, kind, spacing
):
    diffusers = pytest.importorskip("diffusers")
    scheduler = getattr(diffusers, name)(timestep_spacing=spacing)
    counts = [*range(1, 151), 250, 333, 500, 999, 1000]
    sampler = kind(grid=UNIFORM[spacing], compat="diffusers")
    for num_steps, steps in steps_of(sampler, counts).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scheduler.set_timesteps(num_steps)
        expected = scheduler.timesteps.numpy()
        tolerance = np.full(num_steps, 1e-4)  # float32 of up to 999
        if spacing == "trailing":
            # For some numbers it takes one more step, at -1.
            assert len(expected) == num_steps or expected[-1] == -1
            expected = expected[:num_steps]
            # Midway between two steps either is right.
            exact = 1000 * (1 - np.arange(num_steps) / num_steps)
            tolerance[np.abs(exact % 1 - 0.5) < 1e-9] = 1 + 1e-4
        assert (np.abs(steps - expected) <= tolerance).all(), num_steps
