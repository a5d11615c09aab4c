"""What blocks make of an image, and the way of a sampler, step by step."""

import keras
import numpy as np
import pytest
from command_fixtures import CHEAP_PRESET
from conftest import one_block_network, randomize

from keras_unet_diffusion import (
    DiffusionModel,
    DiffusionProcess,
    EDMPrediction,
    EDMSchedule,
    PlainCNN,
    UNet,
    VelocityPrediction,
)
from keras_unet_diffusion.diffusion import CosineSchedule
from keras_unet_diffusion.studies.denoising import denoise_step_by_step
from keras_unet_diffusion.studies.features import (
    Subject,
    block_outputs,
    inputs_at,
    low_resolution,
    noise_levels,
    shown_channels,
    shrunk,
    watch,
)

PROCESSES = [
    DiffusionProcess(CosineSchedule(), VelocityPrediction()),
    DiffusionProcess(EDMSchedule(), EDMPrediction()),
]


def an_image(shape=(8, 8, 1)):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")


def test_noise_grows_by_equal_factors_from_level_to_level():
    points = noise_levels(EDMSchedule(), 7)
    ratios = [point.sigma / point.alpha for point in points]
    # 0.05 to 20 in six equal factors of 400 ** (1 / 6).
    np.testing.assert_allclose(ratios, 0.05 * 400 ** (np.arange(7) / 6))


def test_levels_of_a_schedule_in_steps_are_steps():
    steps = [1000 * point.t for point in noise_levels(CosineSchedule(), 8)]
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-9)
    assert steps[0] >= 1 and (np.diff(steps) > 0).all()


def test_levels_do_not_leave_the_schedule():
    narrow = EDMSchedule(sigma_min=0.5, sigma_max=2.0)
    sigmas = [point.sigma for point in noise_levels(narrow, 3)]
    np.testing.assert_allclose(sigmas, [0.5, 1.0, 2.0])


def test_no_levels_at_all_are_refused():
    with pytest.raises(ValueError, match="Received: num_levels=0"):
        noise_levels(CosineSchedule(), 0)


def test_an_image_has_the_same_noise_at_all_levels():
    subject = Subject(an_image((64, 64, 3)), seed=3)
    noises = [
        (subject.noisy(point) - point.alpha * subject.image) / point.sigma
        for point in noise_levels(EDMSchedule(), 3)
    ]
    # float32 of images of size 1 beside noise of 0.05: 1e-7 / 0.05.
    np.testing.assert_allclose(noises[0], noises[2], atol=5e-6)
    # 12,288 numbers: the deviation of their deviation is 1 / sqrt(2 * 12288).
    assert abs(noises[2].std() - 1) < 5 / np.sqrt(2 * 12288)


def test_the_network_sees_what_it_was_trained_on():
    # EDM's c_in at sigma 1 and deviation 0.5 is 1 / sqrt(1.25), c_noise 0.
    process = DiffusionProcess(EDMSchedule(), EDMPrediction())
    network = PlainCNN(8, 1, channels=4, num_layers=2)
    subject = Subject(an_image())
    point = process.schedule.point(0.5)
    point = type(point)(*map(float, point))
    inputs = inputs_at(network, process, subject, point)
    assert set(inputs) == {"noisy_images", "noise_level"}
    np.testing.assert_allclose(inputs["noise_level"], [0.0], atol=1e-6)
    np.testing.assert_allclose(
        inputs["noisy_images"], subject.noisy(point) / 1.25**0.5, rtol=1e-6
    )


def test_a_self_conditioning_network_is_told_its_own_bounded_estimate():
    network = UNet(**CHEAP_PRESET, self_conditioning=True)
    randomize(network, scale=0.5)
    process = PROCESSES[0]
    point = noise_levels(process.schedule, 3)[2]
    subject = Subject(an_image())
    told = inputs_at(network, process, subject, point)
    untold = told | {"previous_estimate": keras.ops.zeros((1, 8, 8, 1))}
    prediction = np.asarray(network(untold, training=False))
    # Salimans and Ho 2022: x_0 = alpha x_t - sigma v.
    x_0 = point.alpha * subject.noisy(point) - point.sigma * prediction
    assert np.abs(x_0).max() > 1
    # float32 arithmetic of numbers up to ten.
    np.testing.assert_allclose(
        told["previous_estimate"], np.clip(x_0, -1, 1), atol=1e-4
    )


def test_a_super_resolution_network_gets_the_means_of_squares():
    network = UNet(**CHEAP_PRESET, super_resolution_factor=2)
    image = an_image()
    small = low_resolution(network, image)
    expected = [
        [image[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean() for j in range(4)]
        for i in range(4)
    ]
    np.testing.assert_allclose(small[0, ..., 0], expected, atol=1e-6)
    assert low_resolution(PlainCNN(8, 1), image) is None


def test_outputs_are_those_of_the_layers_in_the_network():
    network = one_block_network()
    inputs = {
        "noisy_images": an_image()[None],
        "noise_level": np.array([500.0], "float32"),
    }
    last = network.layers[-1].name
    first = next(
        layer
        for layer in network.layers
        if isinstance(layer, keras.layers.Conv2D)
    )
    found = block_outputs(network, inputs, [first.name, last])
    np.testing.assert_array_equal(
        found[first.name], first(inputs["noisy_images"])
    )
    np.testing.assert_array_equal(found[last], network(inputs))


def test_few_channels_are_shown_and_all_are_measured():
    network = PlainCNN(8, 1, channels=40, num_layers=2)
    process, subject = PROCESSES[0], Subject(an_image())
    points = noise_levels(process.schedule, 2)
    features = watch(network, process, subject, points, ["conv_1"], 4)
    conv = features["conv_1"]
    assert conv.values.shape == (2, 4, 4, 16)
    inputs = inputs_at(network, process, subject, points[1])
    output = block_outputs(network, inputs, ["conv_1"])["conv_1"]
    assert conv.rms[1] == pytest.approx(np.sqrt((output**2).mean()), rel=1e-6)
    channel = conv.channels[5]
    assert conv.values[1, 0, 0, 5] == pytest.approx(
        output[0, :2, :2, channel].mean(), abs=1e-6
    )


@pytest.mark.parametrize(
    ("count", "expected"),
    [(3, (0, 1, 2)), (16, tuple(range(16))), (32, tuple(range(0, 32, 2)))],
)
def test_channels_are_evenly_chosen(count, expected):
    assert shown_channels(count) == expected


def test_shrinking_takes_means_and_leaves_small_images():
    image = np.arange(48, dtype="float32").reshape(4, 4, 3)
    np.testing.assert_array_equal(shrunk(image, 4), image)
    # Means of rows 0 and 1, columns 2 and 3 of channel 1.
    expected = np.mean([image[i, j, 1] for i in (0, 1) for j in (2, 3)])
    assert shrunk(image, 2)[0, 1, 1] == expected


@pytest.mark.parametrize("process", PROCESSES, ids=lambda x: repr(x.schedule))
def test_the_steps_are_those_of_the_sampler(process):
    network = one_block_network()
    model = DiffusionModel(network, process)
    expected, frames = model.generate(
        1, num_steps=3, seed=5, num_frames=4, verbose=0
    )
    steps, image = denoise_step_by_step(model.ema_network, process, 3, seed=5)
    # The same arithmetic, once in a graph and once not.
    np.testing.assert_allclose(image, expected[0], atol=1e-5)
    for step, frame in zip(steps, frames, strict=False):
        scale = np.abs(frame).max()
        np.testing.assert_allclose(step.x_t, frame[0], atol=1e-5 * scale)


def test_an_estimate_is_what_the_prediction_says():
    steps, _ = denoise_step_by_step(one_block_network(), PROCESSES[0], 3)
    for step in steps:
        # Salimans and Ho 2022, appendix D: x_0 = alpha x_t - sigma v.
        expected = (
            step.point.alpha * step.x_t - step.point.sigma * step.prediction
        )
        # float32 of numbers up to ten.
        np.testing.assert_allclose(step.x_0, expected, atol=1e-5)


def test_each_step_is_told_the_estimate_of_the_step_before():
    images = keras.Input((8, 8, 1), name="noisy_images")
    estimate = keras.Input((8, 8, 1), name="previous_estimate")
    level = keras.Input((), name="noise_level")
    outputs = keras.layers.Conv2D(1, 3, padding="same")(
        keras.layers.Concatenate()([images, estimate])
    )
    network = keras.Model(
        {
            "noisy_images": images,
            "previous_estimate": estimate,
            "noise_level": level,
        },
        outputs,
    )
    steps, _ = denoise_step_by_step(network, PROCESSES[0], 3)
    for before, step in zip(steps, steps[1:], strict=False):
        prediction = network(
            {
                "noisy_images": step.x_t[None],
                "previous_estimate": np.clip(before.x_0, -1, 1)[None],
                "noise_level": np.array([0.0], "float32"),
            }
        )
        # float32 arithmetic of numbers up to ten.
        np.testing.assert_allclose(step.prediction, prediction[0], atol=1e-5)
