"""Prediction types and the process, against closed forms."""

import keras
import numpy as np
import pytest

from keras_unet_diffusion.diffusion import (
    ContinuousCosineSchedule,
    CosineSchedule,
    DiffusionProcess,
    EDMPrediction,
    EDMSchedule,
    FlowPrediction,
    FlowSchedule,
    ImagePrediction,
    LinearSchedule,
    NoisePrediction,
    ScorePrediction,
    VelocityPrediction,
    VESchedule,
    VPSchedule,
    ZeroTerminalSNRSchedule,
)

SCHEDULES = [
    LinearSchedule(),
    CosineSchedule(),
    VPSchedule(),
    EDMSchedule(),
    FlowSchedule(),
]
PREDICTIONS = [
    NoisePrediction(),
    ImagePrediction(),
    VelocityPrediction(),
    FlowPrediction(),
    EDMPrediction(),
    ScorePrediction(),
]
each_schedule = pytest.mark.parametrize(
    "schedule", SCHEDULES, ids=lambda x: type(x).__name__
)
each_prediction = pytest.mark.parametrize(
    "prediction", PREDICTIONS, ids=lambda x: type(x).__name__
)


def random_images(seed, dtype="float64"):
    random = np.random.default_rng(seed)
    return random.standard_normal((5, 2, 2, 1)).astype(dtype)


def test_targets_are_what_their_names_say():
    t = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    x_0, noise = random_images(0), random_images(1)
    schedule = CosineSchedule()
    alpha = np.asarray(schedule.alpha(t)).reshape(-1, 1, 1, 1)
    sigma = np.asarray(schedule.sigma(t)).reshape(-1, 1, 1, 1)
    for prediction, expected in (
        (NoisePrediction(), noise),
        (ImagePrediction(), x_0),
        (VelocityPrediction(), alpha * noise - sigma * x_0),
        (FlowPrediction(), noise - x_0),
        (ScorePrediction(), -noise),
    ):
        process = DiffusionProcess(schedule, prediction)
        target = process.target(x_0, noise, t)
        np.testing.assert_allclose(target, expected, atol=1e-15)


def test_the_flow_target_is_the_derivative_of_the_noisy_image():
    process = DiffusionProcess(FlowSchedule(), FlowPrediction())
    x_0, noise = random_images(0), random_images(1)
    t, step = np.full(5, 0.4), 1e-3
    later = np.asarray(process.corrupt(x_0, noise, t + step))
    earlier = np.asarray(process.corrupt(x_0, noise, t - step))
    # A straight line has no other error than rounding, divided by the step.
    np.testing.assert_allclose(
        (later - earlier) / (2 * step),
        process.target(x_0, noise, t),
        atol=1e-12,
    )


@each_schedule
@each_prediction
def test_split_undoes_corrupt_and_target(schedule, prediction):
    process = DiffusionProcess(schedule, prediction)
    t = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
    x_0, noise = random_images(0), random_images(1)
    x_t = process.corrupt(x_0, noise, t)
    again = process.split(x_t, process.target(x_0, noise, t), t)
    # float64, divided by shares of at least 0.01.
    np.testing.assert_allclose(again[0], x_0, atol=1e-12)
    np.testing.assert_allclose(again[1], noise, atol=1e-12)


@pytest.mark.parametrize(
    "schedule", SCHEDULES[:2], ids=lambda x: type(x).__name__
)
@each_prediction
def test_split_is_finite_and_right_at_the_bounds(schedule, prediction):
    process = DiffusionProcess(schedule, prediction)
    x_0, noise = random_images(0, "float32"), random_images(1, "float32")
    for bound in (0.001, 1.0):
        t = np.full(5, bound, "float32")
        x_t = np.asarray(process.corrupt(x_0, noise, t))
        target = np.asarray(process.target(x_0, noise, t))
        again = process.split(x_t, target, t)
        alpha = float(schedule.alpha(np.float32(bound)))
        sigma = float(schedule.sigma(np.float32(bound)))
        # A rounding of x_t, 2.4e-7 at size 4, divided by the smaller share.
        np.testing.assert_allclose(again[0], x_0, atol=5e-7 / alpha + 1e-6)
        np.testing.assert_allclose(again[1], noise, atol=5e-7 / sigma + 1e-6)


@pytest.mark.parametrize(
    "prediction",
    [VelocityPrediction(), FlowPrediction(), EDMPrediction()],
    ids=lambda x: type(x).__name__,
)
@pytest.mark.parametrize(
    "schedule",
    [ZeroTerminalSNRSchedule(), FlowSchedule()],
    ids=lambda x: type(x).__name__,
)
def test_noise_alone_can_still_be_split(schedule, prediction):
    process = DiffusionProcess(schedule, prediction)
    x_0, noise, t = random_images(0), random_images(1), np.ones(5)
    again = process.split(noise, process.target(x_0, noise, t), t)
    # Roundings of float64.
    np.testing.assert_allclose(again[0], x_0, atol=1e-14)
    np.testing.assert_allclose(again[1], noise, atol=1e-14)


NOISE_ALONE = [ZeroTerminalSNRSchedule(), FlowSchedule()]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "schedule",
    [*SCHEDULES, *NOISE_ALONE[:1], VESchedule(), ContinuousCosineSchedule()],
    ids=lambda x: type(x).__name__,
)
@each_prediction
def test_all_is_finite_at_the_last_time(prediction, schedule, dtype):
    process = DiffusionProcess(schedule, prediction)
    t = np.full(5, schedule.max_time, dtype)
    x_0, noise = random_images(0, dtype), random_images(1, dtype)
    told = random_images(2, dtype)
    x_t = process.corrupt(x_0, noise, t)
    results = [
        x_t,
        process.noise_level(t),
        process.network_input(x_t, t),
        process.target(x_0, noise, t),
        process.loss(told, x_0, noise, t),
    ]
    says_nothing = isinstance(prediction, NoisePrediction | ScorePrediction)
    if not (says_nothing and schedule in NOISE_ALONE):
        results += process.split(x_t, told, t)
    for result in results:
        assert np.isfinite(np.asarray(result)).all()


@pytest.mark.parametrize(
    "schedule", NOISE_ALONE, ids=lambda x: type(x).__name__
)
def test_noise_alone_is_told_to_edm_networks_as_more_noise_than_any(schedule):
    process = DiffusionProcess(schedule, EDMPrediction())
    level = np.asarray(process.noise_level(np.linspace(0.5, 1, 6)))
    assert (np.diff(level) > 0).all()
    # Of the largest sigma of EDM's sampling, 80, table 1's c_noise is 1.0955.
    assert 1.0955 < level[-1] < 5


def test_edm_is_the_published_preconditioning():
    # Karras et al. 2022, Eq. 7 and table 1, as a network of one number F:
    # D(x; sigma) = c_skip x + c_out F.
    process = DiffusionProcess(EDMSchedule(), EDMPrediction(sigma_data=0.6))
    sigma = np.array([0.002, 0.1, 1.0, 10.0, 80.0])
    t = process.schedule.time(-2 * np.log(sigma))
    sigma = sigma.reshape(-1, 1, 1, 1)
    x_t, output = random_images(0), random_images(1)
    variance = sigma**2 + 0.6**2
    c_skip, c_out = 0.6**2 / variance, sigma * 0.6 / np.sqrt(variance)
    expected = c_skip * x_t + c_out * output
    x_0, noise = process.split(x_t, output, t)
    # Relative errors of sigma, up to 1e-13 by way of t, and of x_t.
    np.testing.assert_allclose(x_0, expected, atol=1e-12)
    np.testing.assert_allclose(x_0 + sigma * noise, x_t, atol=1e-12)
    np.testing.assert_allclose(
        process.network_input(x_t, t), x_t / np.sqrt(variance), rtol=1e-11
    )
    np.testing.assert_allclose(
        process.noise_level(t), np.log(sigma.ravel()) / 4, rtol=1e-11
    )


def test_edm_inputs_and_targets_have_a_variance_of_one():
    # In expectation, for any schedule: the sum of the squared shares.
    for schedule in SCHEDULES:
        point = schedule.point(np.linspace(0.05, 0.95, 9))
        prediction = EDMPrediction(sigma_data=0.3)
        _, alpha, sigma = point
        a, b = prediction.coefficients(alpha, sigma)
        scale = prediction.input_scale(alpha, sigma)
        target = np.square(a) * 0.3**2 + np.square(b)
        seen = np.square(scale * alpha) * 0.3**2 + np.square(scale * sigma)
        np.testing.assert_allclose(target, 1, rtol=1e-12)
        np.testing.assert_allclose(seen, 1, rtol=1e-12)


def test_edm_sees_only_the_ratio_of_a_schedule():
    prediction = EDMPrediction()
    vp, edm = VPSchedule(), EDMSchedule()
    point = vp.point(np.array([0.1, 0.5, 0.9, 0.95, 0.99]))
    same = edm.point_of_ratio(point.noise_ratio)
    x, output = random_images(0), random_images(1)
    ours = DiffusionProcess(vp, prediction)
    theirs = DiffusionProcess(edm, prediction)
    scaled = np.asarray(point.of_images().alpha) * x
    # Roundings of a ratio that went through time and back.
    for one, other in (
        (
            ours.network_input(scaled, point),
            theirs.network_input(x, same),
        ),
        (
            ours.estimate(scaled, output, point)[0],
            theirs.estimate(x, output, same)[0],
        ),
        (ours.noise_level_at(point), theirs.noise_level_at(same)),
    ):
        np.testing.assert_allclose(one, other, rtol=1e-9)


def test_score_networks_are_told_the_log_of_half_the_noise():
    process = DiffusionProcess(VESchedule(), ScorePrediction())
    # Karras et al. 2022, table 1: log(100 / 2).
    assert float(process.noise_level(np.ones(1))[0]) == pytest.approx(
        np.log(50)
    )


def test_a_point_and_its_time_are_the_same_to_a_process():
    process = DiffusionProcess(CosineSchedule(), VelocityPrediction())
    x_t, output, t = random_images(0), random_images(1), np.full(5, 0.3)
    one = process.schedule.point(np.array(0.3))
    for ours, theirs in zip(
        process.estimate(x_t, output, one),
        process.split(x_t, output, t),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(process.network_input(x_t, one), x_t)
    np.testing.assert_array_equal(process.noise_level_at(one), 299)


def test_float64_stays_float64_and_float32_float32():
    for dtype in ("float32", "float64"):
        for prediction in PREDICTIONS:
            process = DiffusionProcess(prediction=prediction)
            t = np.full(5, 0.5, dtype)
            x_0, noise = random_images(0, dtype), random_images(1, dtype)
            loss = process.loss(x_0, x_0, noise, t)
            x_t = process.corrupt(x_0, noise, t)
            seen = process.network_input(x_t, t)
            for result in (x_t, seen, loss, process.noise_level(t)):
                assert keras.backend.standardize_dtype(result.dtype) == dtype


def test_the_plain_loss_is_the_mean_squared_error_of_each_image():
    x_0, noise, guess = random_images(0), random_images(1), random_images(2)
    loss = DiffusionProcess().loss(guess, x_0, noise, np.full(5, 0.5))
    expected = [
        np.mean((g - n) ** 2) for g, n in zip(guess, noise, strict=True)
    ]
    np.testing.assert_allclose(loss, expected, rtol=1e-12)
