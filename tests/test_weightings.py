"""Loss weights against their published forms."""

import numpy as np
import pytest

from keras_unet_diffusion.diffusion import (
    CosineSchedule,
    DiffusionProcess,
    EDMPrediction,
    EDMSchedule,
    EDMWeighting,
    FlowPrediction,
    FlowSchedule,
    ImagePrediction,
    LinearSchedule,
    MinSNRWeighting,
    NoisePrediction,
    P2Weighting,
    ScorePrediction,
    SigmoidWeighting,
    SoftMinSNRWeighting,
    VelocityPrediction,
    ZeroTerminalSNRSchedule,
)

PREDICTIONS = [
    NoisePrediction(),
    ImagePrediction(),
    VelocityPrediction(),
    FlowPrediction(),
    EDMPrediction(),
    ScorePrediction(),
]
WEIGHTINGS = [
    MinSNRWeighting(2.0),
    SoftMinSNRWeighting(2.0),
    P2Weighting(),
    EDMWeighting(),
    SigmoidWeighting(1.0),
]


def weight_of(weighting, prediction, schedule, t):
    _, alpha, sigma = schedule.point(t)
    a, b = prediction.coefficients(alpha, sigma)
    return np.asarray(weighting.weight(alpha, sigma, a, b))


@pytest.mark.parametrize(
    "prediction, divisor",
    # Hang et al. 2023, section 3.4: the error of x_0 is that of the noise
    # divided by SNR, and that of the velocity divided by SNR + 1.
    [
        (NoisePrediction(), lambda snr: snr),
        (ImagePrediction(), lambda snr: np.ones_like(snr)),
        (VelocityPrediction(), lambda snr: snr + 1),
    ],
    ids=lambda x: type(x).__name__,
)
@pytest.mark.parametrize(
    "weighting, of_image",
    [
        (MinSNRWeighting(5.0), lambda snr: np.minimum(snr, 5)),
        # Crowson et al. 2024, for SNR = 1 / sigma**2.
        (SoftMinSNRWeighting(5.0), lambda snr: snr * 5 / (snr + 5)),
        # Choi et al. 2022, Eq. 8, for the noise: times SNR for the image.
        (P2Weighting(0.5, 2.0), lambda snr: snr / np.sqrt(2 + snr)),
        # Karras et al. 2022, table 1, sigma = SNR**-0.5, sigma_data = 0.3.
        (EDMWeighting(0.3), lambda snr: (1 / snr + 0.09) / (0.09 / snr)),
        # Hoogeboom et al. 2024: exp(bias) sigmoid(log_snr - bias), the form
        # for the image.
        (
            SigmoidWeighting(-3.0),
            lambda snr: np.exp(-3) / (1 + np.exp(-3) / snr),
        ),
    ],
    ids=lambda x: type(x).__name__,
)
def test_weights_are_the_published_ones(
    weighting, of_image, prediction, divisor
):
    schedule = LinearSchedule()
    t = np.linspace(0.001, 1, 7)
    snr = np.exp(np.asarray(schedule.log_snr(t)))
    np.testing.assert_allclose(
        weight_of(weighting, prediction, schedule, t),
        of_image(snr) / divisor(snr),
        rtol=1e-9,
    )


def test_p2_weights_of_gamma_zero_are_even():
    t = np.linspace(0.001, 1, 7)
    weight = weight_of(P2Weighting(0.0), NoisePrediction(), CosineSchedule(), t)
    np.testing.assert_allclose(weight, 1, rtol=1e-12)


@pytest.mark.parametrize(
    "schedule",
    [EDMSchedule(), LinearSchedule(), ZeroTerminalSNRSchedule()],
    ids=lambda x: type(x).__name__,
)
def test_edm_weights_are_one_for_edm_predictions(schedule):
    t = np.linspace(schedule.min_time, schedule.max_time, 9)
    weight = weight_of(EDMWeighting(0.3), EDMPrediction(0.3), schedule, t)
    np.testing.assert_allclose(weight, 1, rtol=1e-12)


@pytest.mark.parametrize(
    "weighting", WEIGHTINGS, ids=lambda x: type(x).__name__
)
def test_the_weighted_error_is_the_same_for_all_predictions(weighting):
    # One wrong estimate of the image, told through each prediction type.
    t = np.full(5, 0.4)
    x_0, noise, wrong = np.random.default_rng(0).standard_normal(
        (3, 5, 2, 2, 1)
    )
    losses = []
    for prediction in PREDICTIONS:
        process = DiffusionProcess(CosineSchedule(), prediction, weighting)
        _, alpha, sigma = process.schedule.point(t).of_images()
        x_t = process.corrupt(x_0, noise, t)
        implied_noise = (x_t - alpha * wrong) / sigma
        told = process.target(wrong, implied_noise, t)
        losses.append(process.loss(told, x_0, noise, t))
    for loss in losses[1:]:
        np.testing.assert_allclose(loss, losses[0], rtol=1e-9)


def test_soft_min_snr_is_by_default_that_of_k_diffusion():
    schedule = EDMSchedule()
    sigma = np.array([0.002, 0.1, 0.5, 3.0, 80.0])
    t = schedule.time(-2 * np.log(sigma))
    weight = weight_of(SoftMinSNRWeighting(), EDMPrediction(), schedule, t)
    # "soft-min-snr" of the code of Crowson et al. 2024, sigma_data = 0.5.
    expected = (sigma * 0.5) ** 2 / (sigma**2 + 0.5**2) ** 2
    np.testing.assert_allclose(weight, expected, rtol=1e-9)


def weight_of_noise_alone(weighting, prediction, schedule, dtype):
    """The loss of a prediction that is off by one everywhere, at the end."""
    process = DiffusionProcess(schedule, prediction, weighting)
    x_0, noise = np.random.default_rng(0).standard_normal((2, 1, 2, 2, 1))
    x_0, noise, t = (x.astype(dtype) for x in (x_0, noise, np.ones(1)))
    told = process.target(x_0, noise, t) + 1
    return np.asarray(process.loss(told, x_0, noise, t))


def is_infinite(weighting, prediction):
    says_nothing = isinstance(prediction, NoisePrediction | ScorePrediction)
    return says_nothing and isinstance(weighting, EDMWeighting)


ENDS = pytest.mark.parametrize(
    "schedule",
    [ZeroTerminalSNRSchedule(), FlowSchedule()],
    ids=lambda x: type(x).__name__,
)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@ENDS
@pytest.mark.parametrize(
    "weighting", WEIGHTINGS, ids=lambda x: type(x).__name__
)
def test_weights_are_finite_where_there_is_no_image(weighting, schedule, dtype):
    for prediction in PREDICTIONS:
        if is_infinite(weighting, prediction):
            continue
        weight = weight_of_noise_alone(weighting, prediction, schedule, dtype)
        assert np.isfinite(weight).all() and (weight >= 0).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "weighting",
    [
        MinSNRWeighting(),
        SoftMinSNRWeighting(),
        P2Weighting(),
        SigmoidWeighting(),
    ],
    ids=lambda x: type(x).__name__,
)
@pytest.mark.parametrize(
    "prediction",
    [NoisePrediction(), ScorePrediction()],
    ids=lambda x: type(x).__name__,
)
def test_the_noise_counts_in_full_where_there_is_no_image(
    prediction, weighting, dtype
):
    # The limit for an SNR of 0 of min(SNR, 5) / SNR, 4 / (SNR + 4),
    # 1 / (1 + SNR) and sigmoid(-log SNR).
    weight = weight_of_noise_alone(
        weighting, prediction, ZeroTerminalSNRSchedule(), dtype
    )
    # Float32's roundings of an error of one.
    np.testing.assert_allclose(weight, 1, rtol=1e-6)


@ENDS
@pytest.mark.parametrize("prediction", [NoisePrediction(), ScorePrediction()])
def test_a_weight_that_would_be_infinite_is_refused(prediction, schedule):
    with pytest.raises(ValueError, match="infinite where there is no image"):
        DiffusionProcess(schedule, prediction, EDMWeighting())
    # Others of the kind are not.
    DiffusionProcess(CosineSchedule(), prediction, EDMWeighting())
    DiffusionProcess(schedule, VelocityPrediction(), EDMWeighting())
