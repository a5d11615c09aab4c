"""Schedules, predictions, weightings and the process, against closed forms."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

from keras_unet_diffusion import diffusion, samplers
from keras_unet_diffusion.diffusion import (
    CosineSchedule,
    DiffusionProcess,
    ImagePrediction,
    LinearSchedule,
    MinSNRWeighting,
    NoisePrediction,
    UniformWeighting,
    VelocityPrediction,
)

# Every public piece of the theory and every sampler, with its arguments.
COMPONENTS = [
    LinearSchedule(num_timesteps=10, beta_start=1e-3, beta_end=0.5),
    CosineSchedule(num_timesteps=10, offset=0.01, max_beta=0.9),
    NoisePrediction(),
    ImagePrediction(),
    VelocityPrediction(),
    UniformWeighting(),
    MinSNRWeighting(gamma=3.0),
    DiffusionProcess(
        CosineSchedule(20), VelocityPrediction(), MinSNRWeighting(2.0)
    ),
    samplers.DDIM(CosineSchedule(20), eta=0.5),
    samplers.DDPM(LinearSchedule(20)),
]
SCHEDULES = [LinearSchedule(), CosineSchedule()]
PREDICTIONS = [NoisePrediction(), ImagePrediction(), VelocityPrediction()]
each_schedule = pytest.mark.parametrize(
    "schedule", SCHEDULES, ids=lambda x: type(x).__name__
)
each_prediction = pytest.mark.parametrize(
    "prediction", PREDICTIONS, ids=lambda x: type(x).__name__
)


def random_images(seed, dtype="float64"):
    random = np.random.default_rng(seed)
    return random.standard_normal((5, 2, 2, 1)).astype(dtype)


def test_the_table_names_every_public_component():
    public = {
        value
        for package in (diffusion, samplers)
        for name in package.__all__
        if inspect.isclass(value := getattr(package, name))
        and not inspect.isabstract(value)
    }
    assert public == {type(component) for component in COMPONENTS}


@pytest.mark.parametrize(
    "component", COMPONENTS, ids=lambda x: type(x).__name__
)
def test_components_round_trip_through_their_config(component):
    config = keras.saving.serialize_keras_object(component)
    assert keras.saving.deserialize_keras_object(config) == component


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


@each_schedule
def test_alpha_is_the_product_of_the_steps(schedule):
    product = 1.0
    for step, beta in enumerate(schedule.betas(), start=1):
        product *= 1 - beta
        assert schedule.alphas[step] ** 2 == pytest.approx(product, rel=1e-10)


@each_schedule
def test_signal_and_noise_keep_unit_variance(schedule):
    total = schedule.alphas**2 + schedule.sigmas**2
    np.testing.assert_allclose(total, 1, rtol=1e-14)


@each_schedule
def test_time_runs_from_clean_to_noise(schedule):
    assert schedule.alphas[0] == 1 and schedule.sigmas[0] == 0
    log_snr = np.asarray(schedule.log_snr(np.linspace(0.001, 1, 1000)))
    assert (np.diff(log_snr) < 0).all()
    assert np.isposinf(np.asarray(schedule.log_snr(np.zeros(1)))).all()


def test_the_first_sigma_keeps_its_digits_in_float32():
    # In float32 throughout, 1 - alpha**2 would be off by 1.7e-4.
    sigma = LinearSchedule().sigma(np.float32([0.001]))
    assert float(sigma[0]) ** 2 == pytest.approx(1e-4, rel=1e-6)


@each_schedule
def test_every_grid_time_is_found_in_float32(schedule):
    t = np.arange(1001, dtype="float32") / np.float32(1000)
    expected = schedule.alphas.astype("float32")
    np.testing.assert_array_equal(schedule.alpha(t), expected)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: LinearSchedule(1), "num_timesteps=1"),
        (lambda: LinearSchedule(beta_end=1.0), "beta_end=1.0"),
        (lambda: CosineSchedule(offset=0), "offset=0"),
        (lambda: MinSNRWeighting(0), "gamma=0"),
        (lambda: DiffusionProcess("linear"), "schedule='linear'"),
        (lambda: DiffusionProcess(prediction="v"), "prediction='v'"),
        (lambda: samplers.DDIM(eta=2), "eta=2"),
    ],
)
def test_arguments_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


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
    ):
        process = DiffusionProcess(schedule, prediction)
        target = process.target(x_0, noise, t)
        np.testing.assert_allclose(target, expected, atol=1e-15)


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


@each_schedule
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


def test_float64_stays_float64_and_float32_float32():
    for dtype in ("float32", "float64"):
        process = DiffusionProcess(prediction=VelocityPrediction())
        t = np.full(5, 0.5, dtype)
        x_0, noise = random_images(0, dtype), random_images(1, dtype)
        loss = process.loss(x_0, x_0, noise, t)
        for result in (process.corrupt(x_0, noise, t), loss):
            assert keras.backend.standardize_dtype(result.dtype) == dtype


@pytest.mark.parametrize(
    "prediction, divisor",
    # Hang et al. 2023, section 3.4.
    [
        (NoisePrediction(), lambda snr: snr),
        (ImagePrediction(), lambda snr: np.ones_like(snr)),
        (VelocityPrediction(), lambda snr: snr + 1),
    ],
    ids=lambda x: type(x).__name__,
)
def test_min_snr_weights_are_the_published_ones(prediction, divisor):
    schedule = LinearSchedule()
    t = np.linspace(0.001, 1, 7)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    a, b = prediction.coefficients(alpha, sigma)
    snr = np.exp(np.asarray(schedule.log_snr(t)))
    np.testing.assert_allclose(
        MinSNRWeighting(5.0).weight(alpha, sigma, a, b),
        np.minimum(snr, 5) / divisor(snr),
        rtol=1e-9,
    )


def test_the_weighted_error_of_the_image_is_the_same_for_all_predictions():
    # One wrong estimate of the image, told through each prediction type.
    t = np.full(5, 0.4)
    x_0, noise, wrong = random_images(0), random_images(1), random_images(2)
    losses = []
    for prediction in PREDICTIONS:
        process = DiffusionProcess(
            CosineSchedule(), prediction, MinSNRWeighting(2.0)
        )
        alpha, sigma = process._alpha_sigma(t)
        x_t = process.corrupt(x_0, noise, t)
        implied_noise = (x_t - alpha * wrong) / sigma
        told = process.target(wrong, implied_noise, t)
        losses.append(process.loss(told, x_0, noise, t))
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-9)
    np.testing.assert_allclose(losses[2], losses[0], rtol=1e-9)


def test_the_plain_loss_is_the_mean_squared_error_of_each_image():
    x_0, noise, guess = random_images(0), random_images(1), random_images(2)
    loss = DiffusionProcess().loss(guess, x_0, noise, np.full(5, 0.5))
    expected = [
        np.mean((g - n) ** 2) for g, n in zip(guess, noise, strict=True)
    ]
    np.testing.assert_allclose(loss, expected, rtol=1e-12)


def test_training_times_cover_each_step_once_and_never_zero():
    process = DiffusionProcess(LinearSchedule(num_timesteps=50))
    uniform = (np.arange(50) + 0.5) / 50
    t = np.asarray(process.times(ops.convert_to_tensor(uniform)))
    np.testing.assert_allclose(t, np.arange(1, 51) / 50, rtol=1e-12)
    # The largest float32 below 1 must not become step 50.
    last = process.times(np.float32([0, np.nextafter(1, 0, dtype="float32")]))
    np.testing.assert_allclose(last, [1 / 50, 1], rtol=1e-6)
    np.testing.assert_array_equal(process.noise_level(t), np.arange(50))
