"""The noise that images come from: found, mixed, and decoded again."""

import itertools

import numpy as np
import pytest
from gaussian_networks import (
    gaussian_model,
    gaussian_network,
    gaussian_process,
)

from keras_unet_diffusion import DDIM, DiffusionModel
from keras_unet_diffusion.diffusion import (
    EDMPrediction,
    FlowPrediction,
    ImagePrediction,
    NoisePrediction,
    ScorePrediction,
)
from keras_unet_diffusion.inversion import spherical
from keras_unet_diffusion.samplers import (
    FlowEuler,
    Heun,
    LinspaceGrid,
    TrailingGrid,
)

DEVIATION = 0.25
# Networks compute in float32.
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def gaussian():
    return gaussian_model(DEVIATION)


@pytest.fixture
def model(gaussian):
    return gaussian[0]


@pytest.fixture
def images(gaussian):
    return gaussian[1]


@pytest.mark.parametrize(
    "sampler, order",
    [
        (DDIM(), 1),
        # Its order by default in test_sampler_orders.py, forwards.
        pytest.param(Heun(), 2, marks=pytest.mark.slow),
    ],
    ids=["ddim", "heun"],
)
def test_the_way_there_and_back_is_exact_to_the_samplers_order(
    model, images, sampler, order
):
    errors = []
    for num_steps in (20, 40, 80):
        arguments = {"num_steps": num_steps, "sampler": sampler}
        noise = model.invert(images, **arguments)
        again = model.decode(noise, **arguments)
        errors.append(np.abs(again - images).max())
    rates = np.log2(np.divide(errors[:-1], errors[1:]))
    # Twice the steps divide the error by 2**order, in the limit.
    assert (rates > 0.8 * order).all()
    assert errors[-1] < {1: 0.1, 2: 0.01}[order]


def test_images_are_inverted_to_standard_normal_noise(model):
    noise = np.random.default_rng(1).standard_normal((50, 4, 4, 1))
    images = DEVIATION * noise
    found = model.invert(images, num_steps=100, sampler=Heun())
    # The exact path keeps pixels in units of their deviation; it begins at a
    # noise of 0.01, which is said to be in the images.
    begun = noise / np.sqrt(1 + (0.01 / DEVIATION) ** 2)
    # Second order: 0.3% of values up to 3.6 at a hundred steps.
    np.testing.assert_allclose(found, begun, rtol=0.003, atol=1e-5)


def test_an_arc_of_images_ends_at_both(model, images):
    arguments = {"num_steps": 10}
    between = model.interpolate(images[0], images[1], 5, **arguments)
    assert between.shape == (5, 4, 4, 1)
    ends = model.decode(model.invert(images[:2], **arguments), **arguments)
    np.testing.assert_allclose(between[[0, -1]], ends, atol=ROUNDING)
    steps = np.abs(np.diff(between, axis=0)).max(axis=(1, 2, 3))
    assert steps.max() < 2 * steps.min()


def test_an_arc_between_noises_keeps_their_length():
    random = np.random.default_rng(0)
    first, second = random.standard_normal((2, 8, 8, 3))
    second *= np.linalg.norm(first) / np.linalg.norm(second)
    arc = spherical(first, second, np.linspace(0, 1, 7))
    lengths = [np.linalg.norm(between) for between in arc]
    np.testing.assert_allclose(lengths, np.linalg.norm(first), rtol=1e-12)
    angles = np.arccos(
        [np.vdot(a, b) / np.vdot(a, a) for a, b in itertools.pairwise(arc)]
    )
    np.testing.assert_allclose(angles, angles[0], rtol=1e-9)
    with pytest.raises(ValueError, match="opposite noises"):
        spherical(first, -first, [0.5])
    same = spherical(first, first, [0.0, 0.5, 1.0])
    np.testing.assert_allclose(same, [first] * 3, atol=1e-12)


def test_a_grid_that_is_given_is_used(model, images):
    trailing, linear, usual = (
        model.invert(images, num_steps=5, sampler=DDIM(grid=grid))
        for grid in (TrailingGrid(), LinspaceGrid(), None)
    )
    np.testing.assert_array_equal(usual, linear)
    assert np.abs(trailing - linear).max() > 0.01


@pytest.mark.parametrize(
    "prediction",
    [
        # That of the noise is the most sensitive. What each says of image and
        # noise, test_predictions.py has.
        NoisePrediction(),
        pytest.param(ImagePrediction(), marks=pytest.mark.slow),
        EDMPrediction(),
        pytest.param(FlowPrediction(), marks=pytest.mark.slow),
        pytest.param(ScorePrediction(), marks=pytest.mark.slow),
    ],
)
def test_every_prediction_type_has_the_same_inverse(model, images, prediction):
    process = gaussian_process(prediction=prediction)
    other = DiffusionModel(gaussian_network(process, DEVIATION), process)
    arguments = {"num_steps": 10}
    noise = model.invert(images, **arguments)
    # Float32 roundings of predictions; of those of the noise where it is 157
    # times the image, so 157 times as large.
    np.testing.assert_allclose(
        other.invert(images, **arguments), noise, atol=1e-4
    )
    np.testing.assert_allclose(
        other.decode(noise, **arguments),
        model.decode(noise, **arguments),
        atol=1e-4,
    )


def test_a_seed_changes_nothing(model, images):
    arguments = {"num_steps": 5}
    np.testing.assert_array_equal(
        model.invert(images, seed=3, **arguments),
        model.invert(images, **arguments),
    )


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m, x: m.interpolate(x[0], x[1, :2], 3), r"\(2, 4, 1\)"),
        (lambda m, x: m.interpolate(x, x, 3), r"\(3, 4, 4, 1\) and"),
        (
            lambda m, x: m.interpolate(x[0], x[1], 3, labels=[1, 2]),
            r"labels=\[1, 2\]. Pass one label",
        ),
        (
            lambda m, x: m.invert(x, sampler=FlowEuler()),
            "straight paths of a FlowSchedule",
        ),
    ],
)
def test_what_has_no_way_between_is_refused(model, images, call, message):
    with pytest.raises(ValueError, match=message):
        call(model, images)
