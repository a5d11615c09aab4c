"""Cascades: each model enlarges what the one before it made."""

import keras
import numpy as np
import pytest

from keras_unet_diffusion import (
    DiffusionModel,
    DiffusionProcess,
    ImagePrediction,
)
from keras_unet_diffusion.cascade import Cascade

PROCESS = DiffusionProcess(prediction=ImagePrediction())


def small_model(size=2, labels=False):
    """Makes grey images: half the noise it is given."""
    inputs = {
        "noisy_images": keras.Input((size, size, 1), name="noisy_images"),
        "noise_level": keras.Input((), name="noise_level"),
    }
    outputs = keras.layers.Rescaling(0.5)(inputs["noisy_images"])
    if labels:
        inputs["labels"] = keras.Input((), name="labels", dtype="int32")
        table = keras.layers.Embedding(3, 1, embeddings_initializer="ones")
        label = keras.layers.Reshape((1, 1, 1))(table(inputs["labels"]))
        outputs = keras.layers.Add()([outputs, label])
    return DiffusionModel(keras.Model(inputs, outputs), PROCESS)


def enlarging_model(size=2, factor=2):
    """Enlarges images, whatever the noise."""
    large = None if size is None else size * factor
    inputs = {
        "noisy_images": keras.Input((large, large, 1), name="noisy_images"),
        "noise_level": keras.Input((), name="noise_level"),
        "low_resolution_images": keras.Input(
            (size, size, 1), name="low_resolution_images"
        ),
    }
    enlarge = keras.layers.UpSampling2D(factor, interpolation="nearest")
    outputs = enlarge(inputs["low_resolution_images"])
    return DiffusionModel(keras.Model(inputs, outputs), PROCESS)


def test_each_model_enlarges_the_images_of_the_one_before():
    small = small_model()
    cascade = Cascade([small, enlarging_model(2), enlarging_model(4, 3)])
    images = cascade.generate(3, num_steps=(5, 2, 1), seed=0)
    first = small.generate(3, num_steps=5, seed=0)
    expected = first.repeat(6, axis=1).repeat(6, axis=2)
    np.testing.assert_allclose(images, expected, atol=1e-6)  # float32
    assert np.abs(first).max() > 0.01


def test_frames_are_those_of_the_last_model():
    cascade = Cascade([small_model(), enlarging_model()])
    images, frames = cascade.generate(3, num_steps=4, seed=0, num_frames=3)
    assert images.shape == (3, 4, 4, 1)
    assert frames.shape == (3, 3, 4, 4, 1)
    np.testing.assert_array_equal(frames[-1], images)


def test_labels_go_to_the_models_that_take_them():
    cascade = Cascade([small_model(labels=True), enlarging_model()])
    assert cascade.generate(2, labels=1, num_steps=2).shape == (2, 4, 4, 1)


def test_the_noise_of_each_model_is_its_own():
    seeds = []

    class Seen(DiffusionModel):
        def generate(self, num_images, seed=None, **options):
            seeds.append(seed)
            return super().generate(num_images, seed=seed, **options)

    small, large = small_model(), enlarging_model()
    models = [Seen(m.network, PROCESS) for m in (small, large)]
    Cascade(models).generate(1, num_steps=1, seed=2**63 - 1)
    assert seeds == [2**63 - 1, 0]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: [], "Received: none"),
        (lambda: [small_model().network], r"models\[0\]="),
        (lambda: [enlarging_model()], r"models\[0\], which takes low"),
        (
            lambda: [small_model(), small_model()],
            r"models\[1\], which takes no low",
        ),
        (
            lambda: [small_model(3), enlarging_model(2)],
            r"shape \(3, 3, 1\) for a model that takes \(2, 2, 1\)",
        ),
    ],
)
def test_models_that_do_not_fit_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        Cascade(make())


def test_a_cascade_needs_a_number_of_steps_for_each_model():
    cascade = Cascade([small_model(), enlarging_model()])
    with pytest.raises(ValueError, match=r"num_steps=\(1, 2, 3\)"):
        cascade.generate(1, num_steps=(1, 2, 3))


@pytest.mark.slow
def test_each_model_may_have_its_own_sampler_and_guidance():
    calls = []

    class Recorded(DiffusionModel):
        def generate(self, num_images, **options):
            calls.append(options)
            return super().generate(num_images, **options)

    def recorded(model):
        return Recorded(model.network, model.process)

    cascade = Cascade([recorded(small_model()), recorded(enlarging_model())])
    cascade.generate(
        2, num_steps=2, seed=0, sampler=("ddpm", "ddim"), guidance_scale=[1, 1]
    )
    assert [options["sampler"] for options in calls] == ["ddpm", "ddim"]
    with pytest.raises(ValueError, match=r"sampler=\('ddim',\)"):
        cascade.generate(1, sampler=("ddim",))


@pytest.mark.parametrize("sizes", [(None, None), (None, 3), (3, None)])
def test_models_of_any_size_are_told_theirs(sizes):
    first, second = sizes
    large = enlarging_model(second)
    large.ema_network.super_resolution_factor = 2
    cascade = Cascade([small_model(first), large])
    image_size = 3 if first is None else None
    images = cascade.generate(2, num_steps=2, image_size=image_size)
    assert images.shape == (2, 6, 6, 1)
