"""Generation: image k depends on the seed and on k alone."""

import numpy as np
import pytest
from conftest import SMALL, randomize

from keras_unet_diffusion import DDIM, DiffusionModel, DiffusionProcess, UNet
from keras_unet_diffusion.export.parity import denoise_cases, expected_outputs
from keras_unet_diffusion.generation import ImageGenerator, network_inputs

# Float32 roundings of a network's output, amplified by a few sampling steps
# of a random network: other batch sizes and compilers take other kernels.
ROUNDING = 1e-4


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_an_image_does_not_depend_on_the_batch(small_model, sampler):
    arguments = {"num_steps": 5, "seed": 3, "sampler": sampler}
    images = small_model.generate(7, **arguments)
    in_threes = small_model.generate(7, batch_size=3, **arguments)
    fewer = small_model.generate(2, **arguments)
    np.testing.assert_allclose(in_threes, images, atol=ROUNDING)
    np.testing.assert_allclose(fewer, images[:2], atol=ROUNDING)
    # And the images do differ from each other.
    assert np.abs(images[0] - images[1]).max() > 0.1


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
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


def test_the_loop_is_traced_once_whatever_the_steps_and_images(small_model):
    for num_images, num_steps in ((1, 2), (3, 2), (2, 7), (4, 11)):
        images = small_model.generate(num_images, num_steps=num_steps)
        assert images.shape == (num_images, 8, 8, 1)
    (generator,) = small_model._generators.values()
    (function,) = generator.functions.values()
    assert function.experimental_get_tracing_count() == 1


def test_images_lie_in_the_range_of_pixels(small_model):
    images = small_model.generate(4, num_steps=4, seed=0)
    assert images.dtype == np.float32
    assert images.min() >= -1 and images.max() <= 1


def test_eta_one_is_more_random_than_eta_zero(small_model):
    still, random = (
        small_model.generate(2, num_steps=5, seed=0, eta=eta)
        for eta in (0.0, 1.0)
    )
    by_object = small_model.generate(
        2,
        num_steps=5,
        seed=0,
        sampler=DDIM(small_model.process.schedule, eta=1.0),
    )
    np.testing.assert_array_equal(by_object, random)
    ancestral = small_model.generate(2, num_steps=5, seed=0, sampler="ddpm")
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
    network = randomize(
        UNet(**SMALL | {"image_size": None, "attention_resolutions": ()})
    )
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
        ({"sampler": "euler"}, "sampler='euler'"),
        ({"eta": 1.5}, "eta=1.5"),
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


def test_generate_works_on_a_model_that_was_never_compiled(small_network):
    model = DiffusionModel(small_network)
    assert model.generate(1, num_steps=1).shape == (1, 8, 8, 1)


def test_a_network_that_asks_how_images_were_augmented_is_told_not_at_all():
    network = randomize(UNet(**SMALL, augmentation_channels=3))
    process = DiffusionProcess()
    cases = denoise_cases(network, process, (8, 8, 1))
    inputs = network_inputs(network, **cases)
    np.testing.assert_array_equal(inputs["augmentation"], np.zeros((4, 3)))
    images = ImageGenerator(network, process).generate(2, num_steps=2, seed=0)
    assert np.isfinite(images).all()
    # What an export compares with.
    generate = {"num_images": np.int32(1), "num_steps": np.int32(1)}
    generate["seed"] = np.int64(0)
    sampler = DDIM(process.schedule)
    outputs = expected_outputs(network, process, sampler, cases, generate)
    np.testing.assert_array_equal(outputs["denoise"], network(inputs))
