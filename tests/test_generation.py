"""Generation: image k depends on the seed and on k alone."""

import keras
import numpy as np
import pytest
from conftest import SMALL, one_block_network, randomize
from gaussian_networks import (
    gaussian_network,
    gaussian_process,
    one_layer_network,
)

from keras_unet_diffusion import (
    DDIM,
    DiffusionModel,
    DiffusionProcess,
    ImagePrediction,
    UNet,
)
from keras_unet_diffusion import progress as progress_module
from keras_unet_diffusion.generation import ImageGenerator
from keras_unet_diffusion.samplers import (
    DDPM,
    LMS,
    DPMSolverPP,
    Heun,
    LeadingGrid,
)

# Float32 roundings of a network's output, amplified by a few sampling steps
# of a random network: other batch sizes and compilers take other kernels.
ROUNDING = 1e-4


# It attends in its middle; a second level would take as long to trace again.
ONE_LEVEL = {"channel_multipliers": (1,), "attention_resolutions": ()}


@pytest.fixture(scope="module")
def small_model():
    """A model with labels that all tests share: none changes it."""
    network = UNet(**SMALL | ONE_LEVEL, num_classes=10)
    return DiffusionModel(randomize(network))


# "ddpm" draws noise in its steps too.
each_sampler = pytest.mark.parametrize(
    "sampler", [pytest.param("ddim", marks=pytest.mark.slow), "ddpm"]
)


@each_sampler
def test_an_image_does_not_depend_on_the_batch(small_model, sampler):
    arguments = {"num_steps": 5, "seed": 3, "sampler": sampler}
    images = small_model.generate(7, **arguments)
    in_threes = small_model.generate(7, batch_size=3, **arguments)
    fewer = small_model.generate(2, **arguments)
    np.testing.assert_allclose(in_threes, images, atol=ROUNDING)
    np.testing.assert_allclose(fewer, images[:2], atol=ROUNDING)
    # And the images do differ from each other.
    assert np.abs(images[0] - images[1]).max() > 0.1


@each_sampler
def test_xla_generates_the_same_images(small_model, sampler):
    images = [
        ImageGenerator(
            small_model.ema_network, small_model.process, jit_compile
        ).generate(3, num_steps=5, seed=3, sampler=sampler)
        for jit_compile in (False, True)
    ]
    np.testing.assert_allclose(images[1], images[0], atol=ROUNDING)


def test_the_same_seed_gives_the_same_bits_and_another_others(small_model):
    first, again, other, unseeded = (
        small_model.generate(2, num_steps=3, seed=seed)
        for seed in (5, 5, 2**62, None)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    assert np.abs(first - unseeded).max() > 0.1


def test_the_network_is_traced_once_whatever_is_asked():
    """Whatever the steps, images and samplers."""
    traces = []

    def layer(inputs):
        traces.append(1)
        return inputs["noisy_images"]

    generator = ImageGenerator(one_layer_network(layer), DiffusionProcess())
    traces.clear()
    for num_images, num_steps in ((1, 2), (3, 2), (2, 7), (4, 11)):
        for sampler in ("ddim", DDIM(eta=0.5), DDPM(), Heun(), DPMSolverPP()):
            images = generator.generate(
                num_images, num_steps=num_steps, sampler=sampler
            )
            assert images.shape == (num_images, 4, 4, 1)
    assert len(traces) == 1


def test_a_loop_is_traced_once_whatever_the_steps_and_images():
    traces = []

    class Traced(DDIM):
        def step(self, *arguments):
            traces.append(1)
            return super().step(*arguments)

    model = DiffusionModel(one_block_network())
    sampler = Traced(eta=1.0)
    for num_images, num_steps in ((1, 2), (3, 2), (2, 7), (4, 11)):
        model.generate(num_images, num_steps=num_steps, sampler=sampler)
    images = np.zeros((2, 8, 8, 1))
    model.image_to_image(images, 0.5, num_steps=8, sampler=sampler)
    assert len(traces) == 1


def test_images_lie_in_the_range_of_pixels(small_model):
    images = small_model.generate(4, num_steps=4, seed=0)
    assert images.dtype == np.float32
    assert images.min() >= -1 and images.max() <= 1


def test_eta_one_is_more_random_than_eta_zero(small_model):
    still, random, ancestral = (
        small_model.generate(2, num_steps=5, seed=0, sampler=sampler)
        for sampler in (DDIM(), DDIM(eta=1.0), "ddpm")
    )
    np.testing.assert_allclose(random, ancestral, atol=ROUNDING)
    assert np.abs(still - random).max() > 0.1


def test_labels_are_taken_in_turn_or_as_given(small_model):
    arguments = {"num_steps": 2, "seed": 1}
    in_turn = small_model.generate(12, **arguments)
    given = small_model.generate(12, labels=[*range(10), 0, 1], **arguments)
    np.testing.assert_array_equal(in_turn, given)
    threes = small_model.generate(12, labels=3, **arguments)
    np.testing.assert_array_equal(threes[3], given[3])
    assert np.abs(threes[4] - given[4]).max() > 1e-3


def test_a_network_of_any_size_needs_one_to_generate():
    network = randomize(UNet(**SMALL | ONE_LEVEL | {"image_size": None}))
    model = DiffusionModel(network)
    with pytest.raises(ValueError, match="image_size=None"):
        model.generate(1)
    assert model.generate(1, num_steps=1, image_size=12).shape[1:3] == (12, 12)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_images": 0}, "num_images=0"),
        ({"num_steps": 0}, "num_steps=0"),
        ({"num_steps": 1001}, "num_steps=1001. Pass a number from 1 to 1000"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 0.5}, "seed=0.5"),
        ({"sampler": "best"}, "sampler='best'. Pass one of ddpm, "),
        (
            {"sampler": DDIM(final_denoising=False), "num_steps": 1000},
            "num_steps=1000. Pass a number from 1 to 999",
        ),
        ({"num_frames": 1}, "num_frames=1 of 50 steps"),
        ({"num_frames": 52}, "Pass a number from 2 to 51"),
        ({"verbose": 3}, "verbose=3"),
        ({"guidance_scale": -1.0}, "guidance_scale=-1.0"),
        ({"guidance_scale": "2"}, "guidance_scale='2'"),
        ({"guidance_scale": None}, "guidance_scale=None"),
        ({"sampler": "flow_euler"}, "straight paths of a FlowSchedule"),
        # Each of these asked the network at one noise level twice, and
        # divided by the difference.
        (
            {
                "sampler": DPMSolverPP(grid=LeadingGrid(offset=1)),
                "num_steps": 1000,
            },
            "Two steps of the grid coincide",
        ),
        (
            {
                "sampler": LMS(grid=LeadingGrid(), compat="openai"),
                "num_steps": 90,
            },
            "num_steps=90, sampler=LMS.* Pass fewer steps",
        ),
        ({"guidance_scale": 2.0}, "Train it with UNet"),
        ({"guidance": "free"}, "guidance='free'"),
        ({"low_resolution_images": np.zeros((2, 4, 4, 1))}, "takes no low-"),
        ({"labels": [1, 2, 3]}, r"shape \(3,\)"),
        ({"labels": 10}, "from 0 to 9. Received: labels from 10"),
        ({"labels": 0.5}, "dtype float64"),
        ({"image_size": 16}, "makes images of 8 pixels"),
    ],
)
def test_arguments_out_of_range_are_refused(small_model, arguments, message):
    with pytest.raises(ValueError, match=message):
        small_model.generate(**{"num_images": 2} | arguments)


def test_labels_for_a_network_without_are_refused(small_network):
    with pytest.raises(ValueError, match="takes no labels"):
        DiffusionModel(small_network).generate(1, labels=3)


def test_generate_works_on_a_model_that_was_never_compiled():
    model = DiffusionModel(one_block_network())
    assert model.generate(1, num_steps=1).shape == (1, 8, 8, 1)


def test_frames_go_from_the_noise_to_the_image():
    process = gaussian_process()
    generator = ImageGenerator(gaussian_network(process), process)
    arguments = {"num_steps": 6, "seed": 0}
    images = generator.generate(5, **arguments)
    for num_frames in (2, 4, 7):
        again, frames = generator.generate(
            5, num_frames=num_frames, batch_size=3, **arguments
        )
        assert frames.shape == (num_frames, 5, 4, 4, 1)
        assert frames.dtype == np.float32
        # Other batches take other kernels: float32 roundings.
        np.testing.assert_allclose(again, images, atol=1e-6)
        np.testing.assert_array_equal(frames[-1], again)
        noise = generator.noise(0, (4, 4, 1), 0, 5).numpy()
        np.testing.assert_array_equal(frames[0], noise.astype("float32"))
        # Ever less noise: from a deviation of 1 to one of 1/4.
        spreads = frames.std(axis=(1, 2, 3, 4))
        assert (np.diff(spreads) < 0).all()


def test_frames_are_stops_on_the_same_way():
    process = gaussian_process()
    generator = ImageGenerator(gaussian_network(process), process)
    arguments = {"num_steps": 6, "seed": 0, "sampler": DPMSolverPP(order=3)}
    _, all_frames = generator.generate(2, num_frames=7, **arguments)
    _, some = generator.generate(2, num_frames=4, **arguments)
    np.testing.assert_array_equal(some, all_frames[::2])


@pytest.mark.parametrize("patience, is_shown", [(0.0, True), (60.0, False)])
def test_a_progress_bar_appears_where_sampling_takes_long(
    monkeypatch, capsys, patience, is_shown
):
    monkeypatch.setattr(progress_module, "PATIENCE_SECONDS", patience)
    monkeypatch.setattr(progress_module, "PIECE_SECONDS", 0.0)
    process = gaussian_process()
    generator = ImageGenerator(gaussian_network(process), process)
    arguments = {"num_steps": 6, "seed": 0, "batch_size": 2}
    pieces = generator.generate(3, verbose=1, **arguments)
    shown = capsys.readouterr().out
    assert ("18/18" in shown) == is_shown  # steps of all images
    assert is_shown or not shown
    np.testing.assert_array_equal(
        generator.generate(3, verbose=0, **arguments), pieces
    )
    assert not capsys.readouterr().out


@pytest.mark.parametrize("verbose, num_runs", [(0, 1), (1, 6)])
def test_without_a_bar_all_steps_are_one_run(monkeypatch, verbose, num_runs):
    monkeypatch.setattr(progress_module, "PIECE_SECONDS", 0.0)
    process = gaussian_process()
    generator = ImageGenerator(gaussian_network(process), process)
    find, runs = generator.function, []

    def function(task, inputs):
        loop = find(task, inputs)

        def counted(inputs):
            runs.append((int(inputs["first"]), int(inputs["last"])))
            return loop(inputs)

        return counted

    monkeypatch.setattr(generator, "function", function)
    generator.generate(2, num_steps=6, seed=0, verbose=verbose)
    assert len(runs) == num_runs
    assert runs[0][0] == 0 and runs[-1][1] == 6


def upsampler():
    """A network that enlarges what it is given, whatever the noise."""
    small = keras.Input((2, 2, 1), name="low_resolution_images")

    def layer(inputs):
        images = inputs["low_resolution_images"]
        return keras.ops.repeat(keras.ops.repeat(images, 2, 1), 2, 2)

    return one_layer_network(layer, low_resolution_images=small)


def test_a_low_resolution_image_reaches_the_network():
    process = DiffusionProcess(prediction=ImagePrediction())
    generator = ImageGenerator(upsampler(), process)
    small = np.random.default_rng(0).uniform(-1, 1, (3, 2, 2, 1))
    images = generator.generate(
        3, low_resolution_images=small, num_steps=3, batch_size=2
    )
    expected = small.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(images, expected, atol=1e-6)  # float32


@pytest.mark.parametrize(
    "images, message",
    [
        (None, "needs low-resolution images"),
        (np.zeros((2, 3, 3, 1)), r"of shape \(2, 2, 1\)"),
        (np.zeros((1, 2, 2, 1)), "2 images need as many"),
        (np.zeros((2, 2)), "2 images need as many"),
    ],
)
def test_low_resolution_images_must_fit(images, message):
    process = DiffusionProcess(prediction=ImagePrediction())
    generator = ImageGenerator(upsampler(), process)
    with pytest.raises(ValueError, match=message):
        generator.generate(2, low_resolution_images=images)
