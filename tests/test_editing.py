"""Images to begin with: varied and completed."""

import keras
import numpy as np
import pytest
from gaussian_networks import (
    gaussian_model,
    gaussian_network,
    gaussian_process,
)

from keras_unet_diffusion import DDIM, DDPM, ImagePrediction
from keras_unet_diffusion.generation import ImageGenerator
from keras_unet_diffusion.generation_methods import GenerationMethods
from keras_unet_diffusion.samplers import (
    DPMSolverPP,
    FlowEuler,
    Heun,
    LeadingGrid,
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


def test_little_strength_changes_little(model, images):
    differences = [
        np.abs(
            model.image_to_image(images, strength, num_steps=100, seed=0)
            - images
        ).max()
        for strength in (0.01, 0.1, 0.3, 0.6)
    ]
    assert (np.diff(differences) > 0).all()
    # sigma is 0.04 after one of a hundred steps: four of them, less what the
    # network takes away.
    assert differences[0] < 0.16


def test_all_strength_is_generation_anew(model, images):
    arguments = {"num_steps": 20, "seed": 0}
    varied = model.image_to_image(images, 1.0, **arguments)
    anew = model.generate(3, **arguments)
    # alpha is 0.0064 at the noisiest time; what is left of pixels below 0.7
    # is multiplied by that, and on the way to a deviation of 1/4 by 1/4.
    np.testing.assert_allclose(varied, anew, atol=0.0064 * 0.7 / 4)


@pytest.mark.parametrize(
    "sampler, error",
    # Of the steps, on pixels of up to 0.5: a first-order one, two of higher
    # order. Memories from before the first step would give no numbers.
    [(DDIM(thresholding=None), 0.05), (Heun(), 0.02), (DPMSolverPP(3), 0.02)],
    ids=["ddim", "heun", "dpm_solver_3"],
)
def test_half_the_way_ends_where_the_exact_path_does(
    model, images, sampler, error
):
    """For Gaussian images x_t keeps its place in units of its deviation.
    Samplers that remember steps must not remember any at the first."""
    varied, frames = model.image_to_image(
        images, 0.5, num_steps=100, seed=0, sampler=sampler, num_frames=2
    )
    request = model.generator.request(3, num_steps=100, sampler=sampler)
    point = model.generator.point(request, 50)
    deviation = np.sqrt((point.alpha * DEVIATION) ** 2 + point.sigma**2)
    expected = frames[0] / deviation * DEVIATION
    assert np.abs(varied - expected).max() < error


def test_kept_pixels_are_kept_exactly(model, images, untraced_loops):
    mask = np.eye(4)
    for sampler in ("ddim", "ddpm", "heun"):
        made = model.inpaint(
            images, mask, 2, num_steps=4, seed=0, sampler=sampler
        )
        kept = images.astype("float32")
        np.testing.assert_array_equal(made[:, mask == 1], kept[:, mask == 1])
        assert np.abs(made - kept)[:, mask == 0].max() > 0.1


def test_each_image_may_have_its_own_mask(model, images):
    masks = np.stack([np.ones((4, 4)), np.zeros((4, 4)), np.eye(4)])
    made = model.inpaint(images, masks, 1, num_steps=4, seed=0, batch_size=2)
    changed = np.abs(made[..., 0] - images[..., 0]) > 1e-6
    assert not changed[masks == 1].any() and changed[masks == 0].all()


SHARED = 0.8


@keras.saving.register_keras_serializable(package="tests")
class CorrelatedPair(keras.layers.Layer):
    """The optimal estimate of two pixels with a correlation of SHARED."""

    def __init__(self, process, **kwargs):
        super().__init__(**kwargs)
        self.process = process

    def call(self, x_t, noise_level):
        t = (noise_level + 1) / self.process.schedule.num_timesteps
        _, alpha, sigma = self.process.schedule.point(t).of_images()
        mean = keras.ops.mean(x_t, axis=2, keepdims=True)
        rest = x_t - mean
        # Sum and difference of the two are independent.
        gains = (
            alpha * v / (alpha**2 * v + sigma**2)
            for v in (1 + SHARED, 1 - SHARED)
        )
        return next(gains) * mean + next(gains) * rest


@pytest.mark.slow
def test_new_pixels_follow_from_the_known_as_they_should():
    """Of two normal pixels with correlation r, given one, c, the other has
    the mean r c and the variance 1 - r**2."""
    process = gaussian_process(prediction=ImagePrediction())
    inputs = {
        "noisy_images": keras.Input((1, 2, 1), name="noisy_images"),
        "noise_level": keras.Input((), name="noise_level"),
    }
    network = keras.Model(inputs, CorrelatedPair(process)(*inputs.values()))

    class Pair(GenerationMethods):
        ema_network = network
        generator = ImageGenerator(network, process)

    known = np.full((2000, 1, 2, 1), 1.5)
    once, often = (
        Pair().inpaint(
            known,
            np.array([[1, 0]]),
            num_resamples=num_resamples,
            num_steps=50,
            seed=0,
            sampler=DDPM(variance="fixed_large", thresholding=None),
        )[:, 0, 1, 0]
        for num_resamples in (1, 10)
    )
    # The standard error of the mean is 0.013. RePaint is an approximation: it
    # comes near with resampling, and does not without.
    np.testing.assert_allclose(often.mean(), SHARED * 1.5, atol=0.1)
    np.testing.assert_allclose(often.var(), 1 - SHARED**2, rtol=0.15)
    assert once.mean() < SHARED * 1.5 - 0.3


def test_given_images_need_their_labels(images):
    process = gaussian_process()
    network = gaussian_network(process, means=(0.2, -0.2))

    class Labelled(GenerationMethods):
        ema_network = network
        generator = ImageGenerator(network, process)

    labelled = Labelled()
    with pytest.raises(ValueError, match="labels=None"):
        labelled.invert(images)
    arguments = {"labels": 1, "num_steps": 40, "sampler": Heun()}
    again = labelled.decode(labelled.invert(images, **arguments), **arguments)
    np.testing.assert_allclose(again, images, atol=1e-2)  # second order


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m, x: m.image_to_image(x, 0.0), "strength=0.0"),
        (lambda m, x: m.image_to_image(x, 1.1), "strength=1.1"),
        (
            lambda m, x: m.image_to_image(x, 0.1, num_steps=4),
            "strength=0.1 of 4 steps",
        ),
        (
            lambda m, x: m.image_to_image(x, 0.1, noise_level=0.2),
            "strength=0.1 and noise_level=0.2",
        ),
        (
            lambda m, x: m.image_to_image(x, noise_level=1e-4),
            "noise_level=0.0001. Pass a number from 0.07617 to",
        ),
        (
            lambda m, x: m.image_to_image(x, noise_level=1e4),
            "noise_level=10000.0. Pass a number from 0.07617 to",
        ),
        (
            lambda m, x: m.image_to_image(x, sampler=FlowEuler()),
            "straight paths of a FlowSchedule",
        ),
        (lambda m, x: m.image_to_image(x[0]), "pass image"),
        (lambda m, x: m.image_to_image(x[:0]), r"shape \(0, 4"),
        (lambda m, x: m.image_to_image(x[:, :2]), r"shape \(2, 4, 1\)"),
        (lambda m, x: m.image_to_image(x, labels=1), "takes no labels"),
        (lambda m, x: m.inpaint(x, np.ones((3, 3))), r"shape \(3, 3\)"),
        (lambda m, x: m.inpaint(x, np.full((4, 4), 0.5)), "from 0.5 to 0.5"),
        (lambda m, x: m.inpaint(x, np.eye(4), 0), "num_resamples=0"),
        (lambda m, x: m.invert(x, sampler="ddpm"), "sampler=DDPM"),
        (lambda m, x: m.invert(x, sampler="unipc"), "sampler=UniPC"),
        (
            lambda m, x: m.decode(x, sampler=DDIM(compat="diffusers")),
            "as published",
        ),
        (lambda m, x: m.interpolate(x[0], x[1], 1), "num_images=1"),
    ],
)
def test_what_cannot_be_done_is_refused(model, images, call, message):
    with pytest.raises(ValueError, match=message):
        call(model, images)


def test_diffusers_stride_is_that_of_the_whole_grid(model, images):
    # On this grid, where n divides T, diffusers' DDIM is the published one.
    arguments = {"num_steps": 50, "seed": 0}
    paper, theirs = (
        model.image_to_image(
            images,
            0.5,
            sampler=DDIM(grid=LeadingGrid(), thresholding=None, compat=compat),
            **arguments,
        )
        for compat in ("paper", "diffusers")
    )
    np.testing.assert_allclose(theirs, paper, atol=ROUNDING)


def test_a_noise_level_is_where_the_first_step_begins(model, images):
    zeros = 0 * images
    arguments = {"num_steps": 20, "seed": 0, "num_frames": 2}
    generator = model.generator
    request = generator.request(3, num_steps=20)
    for level in (0.3, 1.0, 5.0):
        _, frames = model.image_to_image(zeros, noise_level=level, **arguments)
        points = [generator.point(request, i) for i in range(20)]
        # By hand: the noisiest point with no more noise than that.
        begin = max(
            (x for x in points if x.noise_ratio <= level),
            key=lambda x: x.noise_ratio,
        )
        noise = generator.noise(0, (4, 4, 1), 0, 3)
        np.testing.assert_allclose(
            frames[0], begin.sigma * noise, atol=ROUNDING
        )


@pytest.mark.parametrize("num_steps", [20, 50])
def test_a_strength_and_its_noise_level_are_the_same(model, images, num_steps):
    arguments = {"num_steps": num_steps, "seed": 0}
    request = model.generator.request(3, num_steps=num_steps)
    begin = model.generator.point(request, num_steps // 2)
    level = float(begin.noise_ratio) * (1 + 1e-9)
    np.testing.assert_array_equal(
        model.image_to_image(images, noise_level=level, **arguments),
        model.image_to_image(images, strength=0.5, **arguments),
    )
