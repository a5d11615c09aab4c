"""Guidance against what it comes to for Gaussian images."""

import numpy as np
import pytest
import tensorflow as tf
from gaussian_networks import gaussian_network, gaussian_process

from keras_unet_diffusion import generation
from keras_unet_diffusion.generation import ImageGenerator
from keras_unet_diffusion.guidance import (
    AutoGuidance,
    ClassifierFreeGuidance,
    ClassifierGuidance,
)
from keras_unet_diffusion.network_calls import NetworkCalls
from keras_unet_diffusion.samplers import DDIM

MEANS = (0.2, -0.1)
UNBOUNDED = DDIM(thresholding=None)
# Networks compute in float32, guidance amplifies a little.
ROUNDING = 2e-5


def noise(shape=(3, 4, 4, 1)):
    return tf.constant(np.random.default_rng(0).standard_normal(shape))


@pytest.fixture(scope="module")
def labelled():
    """A generator of Gaussian images around the mean of their label."""
    process = gaussian_process()
    return ImageGenerator(gaussian_network(process, means=MEANS), process)


def calls_of(generator, labels=(0, 1, 0), function=None):
    labels = tf.constant(labels)
    return NetworkCalls(generator.network, generator.process, function, labels)


def at(generator, t):
    return generator.process.schedule.point(tf.constant(t, tf.float64))


def test_a_scale_of_one_is_no_guidance_bit_for_bit(labelled):
    arguments = {"num_steps": 5, "seed": 0}
    none = labelled.generate(4, **arguments)
    for guidance in (
        ClassifierFreeGuidance(rescale=0.7),
        AutoGuidance(labelled.network),
    ):
        images = labelled.generate(
            4, guidance=guidance, guidance_scale=1.0, **arguments
        )
        np.testing.assert_array_equal(images, none)


def test_scale_zero_leaves_what_the_network_says_without_a_label(labelled):
    arguments = {"num_steps": 5, "seed": 0}
    images = labelled.generate(3, labels=0, guidance_scale=0.0, **arguments)
    null = labelled.generate(3, labels=len(MEANS), **arguments)
    np.testing.assert_allclose(images, null, atol=ROUNDING)


@pytest.mark.parametrize("scale", [0.5, 2.0, 4.0])
def test_guided_images_have_means_that_grow_with_the_scale(labelled, scale):
    """Estimates are linear in the mean: a mean m guided by w, away from a
    mean of 0, is a mean of w m."""
    arguments = {"num_steps": 10, "seed": 0, "sampler": UNBOUNDED}
    process = labelled.process
    network = gaussian_network(process, means=[scale * m for m in MEANS])
    expected = ImageGenerator(network, process).generate(4, **arguments)
    images = labelled.generate(4, guidance_scale=scale, **arguments)
    np.testing.assert_allclose(images, expected, atol=ROUNDING)


def test_guided_image_and_noise_make_the_noisy_image(labelled):
    x_t, here = noise(), at(labelled, 0.4)
    estimate = ClassifierFreeGuidance(rescale=0.5)(
        calls_of(labelled), x_t, here, 3.0
    )
    np.testing.assert_allclose(
        here.alpha * estimate.x_0 + here.sigma * estimate.noise,
        x_t,
        atol=1e-12,  # float64
    )


def test_outside_its_interval_guidance_is_off_and_costs_nothing(labelled):
    batches = []

    def count(network):
        def call(inputs):
            batches.append(len(inputs["noisy_images"]))
            return network(inputs)

        return call

    guidance = ClassifierFreeGuidance(interval=(0.5, 2.0))
    everywhere = ClassifierFreeGuidance()
    calls = calls_of(labelled, function=count)
    for t, is_inside in ((0.1, False), (0.3, True), (0.9, False)):
        here = at(labelled, t)
        assert is_inside == (0.5 < here.noise_ratio < 2)
        batches.clear()
        found = guidance(calls, noise(), here, 3.0)
        assert batches == [6 if is_inside else 3]
        kind = everywhere if is_inside else None
        expected = (
            kind(calls, noise(), here, 3.0)
            if kind
            else calls.conditional(noise(), here)
        )
        np.testing.assert_array_equal(found.x_0, expected.x_0)
        np.testing.assert_array_equal(found.noise, expected.noise)


def test_an_interval_works_in_the_compiled_loop(labelled):
    arguments = {"num_steps": 10, "seed": 0}
    none = labelled.generate(4, **arguments)
    guided = labelled.generate(4, guidance_scale=3.0, **arguments)
    for interval, expected in (
        ((1e6, 1e7), none),
        ((0.0, 1e6), guided),
    ):
        images = labelled.generate(
            4,
            guidance=ClassifierFreeGuidance(interval=interval),
            guidance_scale=3.0,
            **arguments,
        )
        np.testing.assert_allclose(images, expected, atol=ROUNDING)
    assert np.abs(guided - none).max() > 0.1


def test_rescale_one_restores_the_spread_of_each_conditional_image(labelled):
    x_t, here = noise(), at(labelled, 0.6)
    calls = calls_of(labelled)
    # Guidance by a worse network changes spreads; means alone would not.
    half = tf.constant(0.5, tf.float64)

    class Spread(NetworkCalls):
        def both(self, x_t, point):
            estimate = self.conditional(x_t, point)
            return estimate, estimate._replace(x_0=half * estimate.x_0)

    calls = Spread(calls.network, calls.process, labels=calls.labels)
    plain, rescaled, between = (
        ClassifierFreeGuidance(rescale=rescale)(calls, x_t, here, 4.0).x_0
        for rescale in (0.0, 1.0, 0.7)
    )
    spreads = np.std(calls.conditional(x_t, here).x_0, axis=(1, 2, 3))
    np.testing.assert_allclose(
        np.std(rescaled, axis=(1, 2, 3)), spreads, rtol=1e-12
    )
    # 4 - 3 / 2 times the spread without.
    np.testing.assert_allclose(
        np.std(plain, axis=(1, 2, 3)), 2.5 * spreads, rtol=1e-12
    )
    np.testing.assert_allclose(
        between, 0.3 * plain + 0.7 * rescaled, atol=1e-12
    )


def test_guidance_by_the_network_itself_is_none(labelled):
    arguments = {"num_steps": 5, "seed": 0}
    images = labelled.generate(
        4,
        guidance=AutoGuidance(labelled.network),
        guidance_scale=3.0,
        **arguments,
    )
    none = labelled.generate(4, **arguments)
    np.testing.assert_allclose(images, none, atol=ROUNDING)


def test_autoguidance_goes_away_from_the_guide():
    """A mean m guided by w away from a mean g is g + w (m - g)."""
    process = gaussian_process()
    network, guide, expected = (
        gaussian_network(process, means=(mean,))
        for mean in (0.2, 0.1, 0.1 + 3 * (0.2 - 0.1))
    )
    arguments = {"num_steps": 10, "seed": 0, "sampler": UNBOUNDED}
    images = ImageGenerator(network, process).generate(
        3, guidance=AutoGuidance(guide), guidance_scale=3.0, **arguments
    )
    expected = ImageGenerator(expected, process).generate(3, **arguments)
    np.testing.assert_allclose(images, expected, atol=ROUNDING)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ClassifierFreeGuidance(rescale=1.5), "rescale=1.5"),
        (lambda: ClassifierFreeGuidance(interval=(2, 1)), r"\(2, 1\)"),
        (lambda: ClassifierFreeGuidance(interval=[0, 1]), r"\[0, 1\]"),
        (lambda: AutoGuidance(None), "network=None"),
        (lambda: ClassifierGuidance(None), "classifier=None"),
    ],
)
def test_guidance_out_of_range_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_interval_excludes_its_lower_end_and_includes_its_upper(labelled):
    ratios = [float(at(labelled, t).noise_ratio) for t in (0.3, 0.5)]
    guidance = ClassifierFreeGuidance(interval=tuple(ratios))
    calls = calls_of(labelled)
    # Kynkaanniemi et al. 2024, Eq. 6: sigma in (low, high].
    for t, kind in ((0.3, None), (0.5, ClassifierFreeGuidance())):
        here = at(labelled, t)
        found = guidance(calls, noise(), here, 3.0)
        expected = (
            kind(calls, noise(), here, 3.0)
            if kind
            else calls.conditional(noise(), here)
        )
        np.testing.assert_array_equal(found.x_0, expected.x_0)


@pytest.mark.parametrize(
    "make_guide",
    [
        lambda process: gaussian_network(process, means=(0.1,)),
        lambda process: gaussian_network(process, shape=(8, 8, 1)),
    ],
    ids=["labels", "size"],
)
def test_a_guide_that_does_not_fit_is_refused(make_guide):
    process = gaussian_process()
    generator = ImageGenerator(gaussian_network(process), process)
    with pytest.raises(ValueError, match="Received: a guide of images"):
        generator.generate(
            1, guidance_scale=2.0, guidance=AutoGuidance(make_guide(process))
        )


@pytest.mark.slow
def test_loops_of_guides_are_forgotten_in_the_end(monkeypatch):
    monkeypatch.setattr(generation, "_MOST_FUNCTIONS", 2)
    process = gaussian_process()
    generator = ImageGenerator(gaussian_network(process), process)
    images = []
    for _ in range(2):
        for deviation in (0.1, 0.2, 0.3, 0.4):
            guide = AutoGuidance(gaussian_network(process, deviation))
            images.append(
                generator.generate(
                    1,
                    num_steps=2,
                    seed=0,
                    guidance_scale=2.0,
                    guidance=guide,
                )
            )
            assert len(generator.functions) <= 2
            # The network's own, and those of two guides.
            assert len(generator._network_functions) <= 3
    np.testing.assert_array_equal(images[:4], images[4:])
