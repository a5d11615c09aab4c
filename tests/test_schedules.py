"""Schedules against closed forms, published figures and diffusers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_unet_diffusion.diffusion import (
    ContinuousCosineSchedule,
    CosineSchedule,
    EDMSchedule,
    FlowSchedule,
    LinearSchedule,
    ScaledLinearSchedule,
    ShiftedSchedule,
    SigmoidBetaSchedule,
    SigmoidSchedule,
    VESchedule,
    VPSchedule,
    ZeroTerminalSNRSchedule,
)

DISCRETE = [
    LinearSchedule(),
    LinearSchedule(num_timesteps=50, scale_betas=True),
    CosineSchedule(),
    ScaledLinearSchedule(),
    SigmoidBetaSchedule(),
    ZeroTerminalSNRSchedule(LinearSchedule()),
]
PRESERVING = [
    VPSchedule(),
    ContinuousCosineSchedule(),
    SigmoidSchedule(),
    ShiftedSchedule(image_size=256),
]
CONTINUOUS = [*PRESERVING, EDMSchedule(), VESchedule(), FlowSchedule(shift=3.0)]


def each(schedules):
    return pytest.mark.parametrize(
        "schedule", schedules, ids=lambda x: type(x).__name__
    )


def known_times(schedule, dtype="float64"):
    steps = schedule.num_timesteps or 1000
    t = np.arange(1, steps + 1) / steps
    return t[t <= schedule.max_time].astype(dtype)


def test_the_linear_schedule_ends_where_the_published_one_does():
    schedule = LinearSchedule()
    # Published figures of the linear schedule in float64.
    assert schedule.alphas[-1] ** 2 == pytest.approx(
        4.035829765375676e-05, rel=1e-12
    )
    sigma_max = schedule.sigmas[-1] / schedule.alphas[-1]
    assert sigma_max == pytest.approx(157.40728, abs=1e-5)
    sigma_min = schedule.sigmas[1] / schedule.alphas[1]
    assert sigma_min == pytest.approx(0.0100005, abs=1e-7)


def test_scaled_betas_keep_the_end_of_a_longer_schedule():
    scaled = LinearSchedule(num_timesteps=4000, scale_betas=True)
    # Published figures, to the digits given.
    assert scaled.betas()[0] == pytest.approx(2.5e-5, rel=1e-12)
    assert scaled.alphas[-1] ** 2 == pytest.approx(4.2467e-05, abs=1e-9)
    plain = LinearSchedule(num_timesteps=4000)
    assert plain.alphas[-1] ** 2 == pytest.approx(2.65e-18, abs=1e-20)


def test_the_cosine_schedule_ends_where_the_published_one_does():
    alpha_squared = CosineSchedule().alphas[-1] ** 2
    assert alpha_squared == pytest.approx(2.4288e-9, abs=1e-13)


def test_the_cosine_schedule_is_a_squared_cosine():
    # Before the bound on the last step's variance, the product telescopes.
    t = np.arange(999) / 1000
    f = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(
        CosineSchedule().alphas[:999] ** 2, f / f[0], rtol=1e-9
    )


@pytest.mark.parametrize(
    "schedule, name, beta_start, beta_end",
    [
        (LinearSchedule(), "linear", 1e-4, 0.02),
        (CosineSchedule(), "squaredcos_cap_v2", 1e-4, 0.02),
        (ScaledLinearSchedule(), "scaled_linear", 0.00085, 0.012),
        (SigmoidBetaSchedule(), "sigmoid", 1e-4, 0.02),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_betas_are_those_of_diffusers(schedule, name, beta_start, beta_end):
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDPMScheduler(
        beta_schedule=name, beta_start=beta_start, beta_end=beta_end
    )
    # Theirs are made in float32, the cosine's from a difference to one.
    np.testing.assert_allclose(
        schedule.betas(), theirs.betas.numpy(), rtol=2e-6, atol=1e-7
    )


def test_zero_terminal_snr_is_that_of_diffusers():
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDIMScheduler(rescale_betas_zero_snr=True)
    ours = ZeroTerminalSNRSchedule(LinearSchedule())
    # Their betas are rounded to float32, a thousand of them are multiplied.
    np.testing.assert_allclose(
        ours.alphas[1:] ** 2, theirs.alphas_cumprod.numpy(), atol=1e-6
    )


def test_zero_terminal_snr_begins_as_before_and_ends_without_an_image():
    ours = ZeroTerminalSNRSchedule(LinearSchedule())
    assert ours.alphas[-1] == 0 and ours.sigmas[-1] == 1
    assert ours.alphas[1] == pytest.approx(np.sqrt(1 - 1e-4), rel=1e-12)


def test_zero_terminal_snr_keeps_the_steps_and_scale_of_its_schedule():
    inner = CosineSchedule(num_timesteps=20, time_scale=1000.0)
    schedule = ZeroTerminalSNRSchedule(inner)
    assert schedule.num_timesteps == 20 and schedule.time_scale == 1000.0
    assert schedule.get_config() == {"schedule": inner}


def test_a_time_scale_tells_the_network_other_numbers():
    t = np.arange(1, 51) / 50
    schedule = LinearSchedule(num_timesteps=50, time_scale=1000.0)
    np.testing.assert_allclose(schedule.noise_level(t), np.arange(50) * 20.0)


@each(DISCRETE)
def test_alpha_is_the_product_of_the_steps(schedule):
    product = 1.0
    for step, beta in enumerate(schedule.betas(), start=1):
        product *= 1 - beta
        # Absolute for the one that ends at 0.
        assert schedule.alphas[step] ** 2 == pytest.approx(
            product, rel=1e-9, abs=1e-15
        )


@each(DISCRETE + PRESERVING)
def test_signal_and_noise_keep_unit_variance(schedule):
    t = known_times(schedule)
    total = np.square(schedule.alpha(t)) + np.square(schedule.sigma(t))
    np.testing.assert_allclose(total, 1, rtol=1e-14)


@each(DISCRETE + CONTINUOUS)
def test_time_runs_from_clean_to_noise(schedule):
    clean = schedule.point(np.zeros(1))
    assert clean.alpha == 1 and clean.sigma == 0
    assert not np.signbit(clean.sigma).any()
    assert np.isposinf(np.asarray(schedule.log_snr(np.zeros(1)))).all()
    log_snr = np.asarray(schedule.log_snr(known_times(schedule)))
    assert (np.diff(log_snr[:-1]) < 0).all() and log_snr[-1] <= log_snr[-2]


@each(DISCRETE + CONTINUOUS)
@pytest.mark.parametrize("dtype, ulps", [("float32", 8), ("float64", 8)])
def test_log_snr_is_that_of_the_shares(schedule, dtype, ulps):
    t = known_times(schedule, dtype)[:-1]
    point = schedule.point(t)
    assert keras.backend.standardize_dtype(point.alpha.dtype) == dtype
    # A few roundings of numbers up to 20.
    np.testing.assert_allclose(
        2 * point.half_log_snr,
        schedule.log_snr(t),
        atol=20 * ulps * np.finfo(dtype).eps,
    )


@each(DISCRETE + CONTINUOUS)
def test_time_undoes_log_snr(schedule):
    t = known_times(schedule)
    again = np.asarray(schedule.time(schedule.log_snr(t)))
    # The sigmoid schedule is flat beyond its bound at 1 - 3.4e-5.
    atol = 4e-5 if isinstance(schedule, SigmoidSchedule) else 1e-12
    np.testing.assert_allclose(again, t, atol=atol)


@each(DISCRETE + CONTINUOUS)
def test_a_noise_ratio_names_its_point_also_between_steps(schedule):
    t = known_times(schedule)
    between = (t[:-2] + t[1:-1]) / 2
    ratio = np.asarray(schedule.point(between).noise_ratio)
    again = schedule.point_of_ratio(ratio)
    np.testing.assert_allclose(again.t, between, atol=1e-12)
    # Roundings of the time, times the slope of log-SNR, up to 1e4.
    np.testing.assert_allclose(again.noise_ratio, ratio, rtol=1e-10)


@each(DISCRETE + CONTINUOUS)
def test_schedules_are_keys_equal_by_their_arguments(schedule):
    again = type(schedule).from_config(schedule.get_config())
    assert {schedule: 1}[again] == 1


@each([LinearSchedule(), VPSchedule(), VESchedule()])
def test_schedules_are_the_same_compiled(schedule):
    t = known_times(schedule, "float32")[:-1]
    compiled = tf.function(
        lambda t: schedule.time(schedule.log_snr(t)), jit_compile=True
    )
    # Roundings of the log-SNR and of the time.
    np.testing.assert_allclose(compiled(tf.constant(t)), t, atol=5e-7)


def test_the_first_sigma_keeps_its_digits_in_float32():
    # In float32 throughout, 1 - alpha**2 would be off by 1.7e-4.
    sigma = LinearSchedule().sigma(np.float32([0.001]))
    assert float(sigma[0]) ** 2 == pytest.approx(1e-4, rel=1e-6)


@each(DISCRETE)
def test_every_grid_time_is_found_in_float32(schedule):
    steps = schedule.num_timesteps
    t = np.arange(steps + 1, dtype="float32") / np.float32(steps)
    expected = schedule.alphas.astype("float32")
    np.testing.assert_array_equal(schedule.alpha(t), expected)
    np.testing.assert_array_equal(schedule.noise_level(t)[1:], np.arange(steps))


def test_the_vp_schedule_is_the_integral_of_its_rate():
    t = np.linspace(0.01, 1, 7)
    for time in t:
        u = (np.arange(100_000) + 0.5) / 100_000 * time
        integral = np.mean(0.1 + u * 19.9) * time
        alpha = VPSchedule().alpha(np.array([time]))
        # The midpoint rule is exact for a line.
        np.testing.assert_allclose(alpha, np.exp(-integral / 2), rtol=1e-9)
    # Karras et al. 2022, table 1 with M = 1000.
    np.testing.assert_allclose(VPSchedule().noise_level(t), 999 * t)


def test_the_continuous_cosine_is_a_cosine_between_its_bounds():
    schedule = ContinuousCosineSchedule(max_log_snr=60.0, min_log_snr=-60.0)
    t = np.linspace(0.01, 0.99, 9)
    # Bounds so far out, exp(-30), move nothing.
    np.testing.assert_allclose(
        schedule.alpha(t), np.cos(np.pi * t / 2), rtol=1e-9
    )
    ends = ContinuousCosineSchedule().log_snr(np.array([1e-12, 1.0]))
    np.testing.assert_allclose(ends, [15, -15], atol=1e-6)


def test_the_sigmoid_schedule_is_the_published_function():
    def gamma(t):  # Jabri et al. 2022, algorithm 2, one number at a time.
        def sigmoid(x):
            return 1 / (1 + np.exp(-x))

        low, high = sigmoid(-3 / 0.7), sigmoid(3 / 0.7)
        value = (high - sigmoid((t * 6 - 3) / 0.7)) / (high - low)
        return min(max(value, 1e-9), 1)

    schedule = SigmoidSchedule(temperature=0.7)
    t = np.linspace(0.001, 0.999, 50)
    np.testing.assert_allclose(
        np.square(schedule.alpha(t)), [gamma(time) for time in t], rtol=1e-9
    )
    # At its ends ours keeps 1e-5 of image and of noise.
    ends = np.array([1e-9, 1.0])
    np.testing.assert_allclose(
        np.square(schedule.alpha(ends)),
        [gamma(time) for time in ends],
        atol=1.001e-5,
        rtol=0,
    )
    np.testing.assert_allclose(schedule.alpha(ends[1:]) ** 2, 1e-5)


def test_a_sigmoid_of_almost_no_temperature_is_a_step():
    schedule = SigmoidSchedule(temperature=0.003)
    t = np.array([0.1, 0.49, 0.5, 0.51, 0.9])
    # Half the image in the middle; elsewhere the bounds.
    np.testing.assert_allclose(
        np.square(schedule.alpha(t)), [1, 1, 0.5, 0, 0], atol=1.001e-5
    )


def test_a_shift_lowers_the_log_snr_by_that_of_the_sizes():
    # Hoogeboom et al. 2023, Eq. 4: 2 log(64 / 256) = -2.7726.
    base = ContinuousCosineSchedule()
    shifted = ShiftedSchedule(base, image_size=256, base_size=64)
    t = np.linspace(0.1, 1, 5)
    np.testing.assert_allclose(
        np.asarray(shifted.log_snr(t)) - np.asarray(base.log_snr(t)),
        np.full(5, -2.772588722239781),
        rtol=1e-12,
    )


@pytest.mark.parametrize(
    "schedule, low, high",
    [(EDMSchedule(), 0.002, 80.0), (VESchedule(), 0.02, 100.0)],
)
def test_exploding_schedules_run_over_the_published_range(schedule, low, high):
    ends = schedule.point(np.array([schedule.min_time, schedule.max_time]))
    np.testing.assert_allclose(ends.sigma, [low, high], rtol=1e-12)
    np.testing.assert_array_equal(ends.alpha, [1, 1])
    # The noise that sampling starts from.
    assert float(schedule.prior_deviation(ends)[-1]) == pytest.approx(high)


def test_edm_networks_are_told_a_quarter_of_the_log():
    schedule = EDMSchedule()
    t = schedule.time(-2 * np.log([80.0, 57.586]))
    # Published figures, to the digits given.
    np.testing.assert_allclose(
        schedule.noise_level(t), [1.0955, 1.0133], atol=5e-5
    )


def test_ve_noise_grows_geometrically():
    t = np.linspace(0.001, 1, 11)
    sigma = np.asarray(VESchedule().sigma(t))
    np.testing.assert_allclose(sigma[1:] / sigma[:-1], 5000**0.1, rtol=1e-12)


def test_the_flow_schedule_is_a_shifted_straight_line():
    t = np.linspace(0, 1, 11)
    plain = FlowSchedule().point(t)
    np.testing.assert_allclose(plain.alpha, 1 - t, atol=1e-15)
    np.testing.assert_allclose(plain.sigma, t, atol=1e-15)


def test_the_shift_of_flows_is_that_of_diffusers():
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0).sigmas
    t = np.arange(1000, 0, -1) / 1000
    shifted = FlowSchedule(shift=3.0).point(t)
    # Theirs are float32.
    np.testing.assert_allclose(shifted.sigma, theirs[:1000], atol=2e-7)
    np.testing.assert_allclose(shifted.alpha + shifted.sigma, 1, rtol=1e-14)
