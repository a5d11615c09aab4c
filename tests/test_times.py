"""Distributions of training times, against their quantiles."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from keras import ops

from keras_unet_diffusion.diffusion import (
    ContinuousCosineSchedule,
    EDMSchedule,
    FlowSchedule,
    LinearSchedule,
    LogitNormalTimes,
    LogNormalTimes,
    LogUniformTimes,
    StratifiedTimes,
    UniformTimes,
    VESchedule,
    ZeroTerminalSNRSchedule,
)
from keras_unet_diffusion.diffusion.times import (
    second_moment_probabilities,
    times_by_probability,
)

UNIFORM = (np.arange(1000) + 0.5) / 1000
DISTRIBUTIONS = [
    UniformTimes(),
    StratifiedTimes(),
    LogNormalTimes(),
    LogitNormalTimes(),
    LogUniformTimes(),
]


def test_uniform_times_cover_each_step_once_and_never_zero():
    schedule = LinearSchedule(num_timesteps=50)
    uniform = (np.arange(50) + 0.5) / 50
    times = UniformTimes().times
    t = np.asarray(times(ops.convert_to_tensor(uniform), schedule))
    np.testing.assert_allclose(t, np.arange(1, 51) / 50, rtol=1e-12)
    # The largest float32 below 1 must not become step 50.
    ends = np.float32([0, np.nextafter(1, 0, dtype="float32")])
    np.testing.assert_allclose(times(ends, schedule), [1 / 50, 1], rtol=1e-6)
    np.testing.assert_array_equal(schedule.noise_level(t), np.arange(50))


def test_uniform_times_span_a_continuous_schedule():
    t = UniformTimes().times(np.array([0.0, 0.5, 1.0]), FlowSchedule())
    np.testing.assert_allclose(t, [0.001, 0.5005, 1.0], rtol=1e-12)


@pytest.mark.parametrize(
    "schedule",
    [
        LinearSchedule(num_timesteps=64),
        ZeroTerminalSNRSchedule(),
        ContinuousCosineSchedule(),
        FlowSchedule(),
        EDMSchedule(),
        VESchedule(),
    ],
    ids=lambda x: type(x).__name__,
)
@pytest.mark.parametrize("times", DISTRIBUTIONS, ids=lambda x: type(x).__name__)
def test_times_are_known_to_the_schedule(times, schedule):
    last = np.nextafter(1, 0, dtype="float32")
    uniform = np.float32([0.0, 1e-9, 0.3, 0.7, last, last])
    t = times.times(uniform, schedule)
    assert np.asarray(t).dtype == "float32"
    assert (np.asarray(t) > 0).all() and (np.asarray(t) <= 1).all()
    steps = schedule.num_timesteps
    if steps:
        position = np.asarray(t) * steps
        # Roundings of float32 at 1000.
        np.testing.assert_allclose(position, np.round(position), atol=1e-4)
    else:
        assert np.isfinite(np.asarray(schedule.point(t).sigma)).all()
        assert (np.asarray(schedule.point(t).sigma) > 0).all()


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("times", DISTRIBUTIONS, ids=lambda x: type(x).__name__)
def test_times_are_the_same_in_a_graph_of_any_batch(times, jit_compile):
    for schedule in (LinearSchedule(), EDMSchedule()):
        graph = tf.function(
            lambda uniform, schedule=schedule: times.times(uniform, schedule),
            input_signature=[tf.TensorSpec([None])],
            jit_compile=jit_compile,
        )
        uniform = UNIFORM[::50].astype("float32")
        # The compiler's functions differ in the last digits; no number
        # here is so near to the edge of a step.
        np.testing.assert_allclose(
            graph(uniform), times.times(uniform, schedule), rtol=1e-5
        )


def test_log_normal_times_have_the_quantiles_of_a_normal():
    schedule = EDMSchedule()
    t = LogNormalTimes(-0.4, 1.0).times(UNIFORM, schedule)
    expected = scipy.stats.norm(-0.4, 1.0).ppf(UNIFORM)
    # Float64 erfinv and back through time.
    np.testing.assert_allclose(np.log(schedule.sigma(t)), expected, atol=1e-9)


def test_log_normal_times_of_float32_keep_four_digits_in_the_tails():
    uniform = np.float32(2.0 ** np.arange(-24, -1))
    schedule = EDMSchedule()
    t = LogNormalTimes().times(uniform, schedule)
    expected = scipy.stats.norm(-1.2, 1.2).ppf(uniform.astype("float64"))
    np.testing.assert_allclose(np.log(schedule.sigma(t)), expected, rtol=1e-4)


def test_logit_normal_times_have_the_quantiles_of_a_normal():
    t = np.asarray(LogitNormalTimes(0.5, 0.8).times(UNIFORM, FlowSchedule()))
    expected = scipy.stats.norm(0.5, 0.8).ppf(UNIFORM)
    np.testing.assert_allclose(np.log(t / (1 - t)), expected, atol=1e-9)


def test_log_uniform_times_are_even_in_the_log():
    t = LogUniformTimes().times(UNIFORM, VESchedule())
    log_sigma = np.log(np.asarray(VESchedule().sigma(t)))
    expected = np.log(0.02) + UNIFORM * np.log(100 / 0.02)
    np.testing.assert_allclose(log_sigma, expected, atol=1e-9)


def test_an_end_without_image_leaves_log_uniform_times_a_middle():
    schedule = FlowSchedule()
    t = LogUniformTimes().times(np.array([0.5]), schedule)
    # Between 1 / 999 and 2**12 of noise per image, in the log.
    expected = (np.log(1 / 999) + 12 * np.log(2)) / 2
    ratio = np.asarray(schedule.point(t).noise_ratio)
    np.testing.assert_allclose(np.log(ratio), [expected], rtol=1e-9)


def test_stratified_times_use_each_images_own_number():
    t = StratifiedTimes().times(np.array([0.2, 0.7]), FlowSchedule())
    # Halves of [0.001, 1], of which a fifth and seven tenths have passed.
    np.testing.assert_allclose(t, [0.1009, 0.85015], rtol=1e-12)


def test_stratified_times_have_one_in_each_slice():
    random = np.random.default_rng(0).random(32)
    schedule = LinearSchedule(num_timesteps=32)
    t = np.asarray(StratifiedTimes().times(random, schedule))
    np.testing.assert_allclose(t, np.arange(1, 33) / 32, rtol=1e-12)
    # Another distribution, cut into slices of equal probability.
    inner = LogitNormalTimes()
    t = np.asarray(StratifiedTimes(inner).times(random, FlowSchedule()))
    bounds = scipy.special.expit(scipy.stats.norm().ppf(np.arange(33) / 32))
    assert ((bounds[:-1] <= t) & (t <= bounds[1:])).all()


def test_probabilities_are_the_root_of_the_second_moment():
    random = np.random.default_rng(0).random((5, 10))
    # Nichol and Dhariwal 2021, Eq. 18, one step at a time.
    roots = [sum(x * x for x in row) / 10 for row in random]
    expected = [0.9 * r**0.5 / sum(q**0.5 for q in roots) for r in roots]
    ours = second_moment_probabilities(random**2, uniform_share=0.1)
    np.testing.assert_allclose(ours, np.add(expected, 0.02), rtol=1e-12)


def test_times_come_as_often_as_their_probability():
    probabilities = np.array([0.1, 0.0, 0.65, 0.25])
    t = times_by_probability(UNIFORM, np.cumsum(probabilities))
    counts = np.bincount(np.round(np.asarray(t) * 4).astype(int), minlength=5)
    # 1000 even numbers: exact to one at each bound.
    np.testing.assert_allclose(counts[1:], probabilities * 1000, atol=1)
    # A sum rounded to below one.
    last = times_by_probability(
        np.float32([0.9999999]), np.float32([0.5, 0.99])
    )
    assert float(last[0]) == 1
    # A step of no probability is not drawn, even by the first number.
    first = times_by_probability(np.array([0.0]), np.array([0.0, 0.5, 1.0]))
    assert float(first[0]) == pytest.approx(2 / 3)
