"""Classifier guidance against what Bayes' rule makes of two groups."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from gaussian_networks import gaussian_network, gaussian_process

from keras_unet_diffusion import ImagePrediction
from keras_unet_diffusion.generation import ImageGenerator
from keras_unet_diffusion.guidance import ClassifierGuidance
from keras_unet_diffusion.network_calls import NetworkCalls
from keras_unet_diffusion.samplers import DDIM

MEAN, DEVIATION = 0.6, 0.3


@keras.saving.register_keras_serializable(package="tests")
class TwoGroups(keras.layers.Layer):
    """Single pixels around -MEAN or MEAN: an image, or logits of the two."""

    def __init__(self, process, tells_groups, **kwargs):
        super().__init__(**kwargs)
        self.process = process
        self.tells_groups = tells_groups

    def call(self, x_t, noise_level):
        steps = self.process.schedule.num_timesteps
        _, alpha, sigma = self.process.schedule.point(
            (noise_level + 1) / steps
        ).of_images()
        variance = (alpha * DEVIATION) ** 2 + sigma**2
        # log p(x_t | group) = -(x_t -+ alpha MEAN)**2 / 2 variance, less
        # what both have in common.
        logit = alpha * MEAN * x_t / variance
        if self.tells_groups:
            flat = keras.ops.reshape(logit, (-1, 1))
            return keras.ops.concatenate([-flat, flat], axis=-1)
        mean = MEAN * keras.ops.tanh(logit)
        x_0 = alpha * DEVIATION**2 * x_t + sigma**2 * mean
        return x_0 / variance  # E[x_0 | x_t] of the two groups together

    def network(self):
        inputs = {
            "noisy_images": keras.Input((1, 1, 1), name="noisy_images"),
            "noise_level": keras.Input((), name="noise_level"),
        }
        return keras.Model(inputs, self(*inputs.values()))


def two_groups():
    process = gaussian_process(prediction=ImagePrediction())
    return (
        process,
        TwoGroups(process, False).network(),
        TwoGroups(process, True).network(),
    )


def test_guidance_by_the_true_classifier_finds_the_group():
    """Bayes' rule: the score of all images plus the gradient of log p(label)
    is the score of the label's images, a normal distribution."""
    process, network, classifier = two_groups()
    labels = tf.constant([0, 1, 0, 1, 1])
    calls = NetworkCalls(network, process, labels=labels)
    x_t = tf.constant(np.random.default_rng(0).standard_normal((5, 1, 1, 1)))
    mean = np.reshape([-MEAN, MEAN, -MEAN, MEAN, MEAN], (5, 1, 1, 1))
    for t in (0.1, 0.4, 0.8):
        here = process.schedule.point(tf.constant(t, tf.float64))
        guided = ClassifierGuidance(classifier)(calls, x_t, here, 2.0)
        variance = (here.alpha * DEVIATION) ** 2 + here.sigma**2
        surprise = (x_t - here.alpha * mean) / variance
        # Float32 of the network and the classifier.
        np.testing.assert_allclose(
            guided.x_0,
            mean + here.alpha * DEVIATION**2 * surprise,
            atol=1e-5,
        )
        np.testing.assert_allclose(
            guided.noise, here.sigma * surprise, atol=1e-5
        )


def test_a_classifier_leads_a_network_without_labels():
    process, network, classifier = two_groups()
    images = ImageGenerator(network, process).generate(
        400,
        num_steps=50,
        seed=0,
        guidance=ClassifierGuidance(classifier),
        guidance_scale=2.0,
        sampler=DDIM(thresholding=None),
    )
    # Labels in turn. 200 of each: the mean is off by 0.02, four times that.
    np.testing.assert_allclose(images[0::2].mean(), -MEAN, atol=0.08)
    np.testing.assert_allclose(images[1::2].mean(), MEAN, atol=0.08)


def test_labels_that_a_classifier_does_not_know_are_refused():
    process, network, classifier = two_groups()
    with pytest.raises(ValueError, match="from 0 to 1"):
        ImageGenerator(network, process).generate(
            1, labels=2, guidance=ClassifierGuidance(classifier)
        )


def test_the_labels_are_those_that_network_and_classifier_know():
    process = gaussian_process()
    network = gaussian_network(process, means=(0.2, -0.1))
    generator = ImageGenerator(network, process)
    inputs = {
        "noisy_images": keras.Input((4, 4, 1), name="noisy_images"),
        "noise_level": keras.Input((), name="noise_level"),
    }
    flat = keras.layers.Flatten()(inputs["noisy_images"])
    guidance = ClassifierGuidance(
        keras.Model(inputs, keras.layers.Dense(1)(flat))
    )
    arguments = {"guidance": guidance, "guidance_scale": 2.0, "num_steps": 2}
    assert np.isfinite(generator.generate(3, **arguments)).all()
    with pytest.raises(ValueError, match="from 0 to 0"):
        generator.generate(3, labels=1, **arguments)
