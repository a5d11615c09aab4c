"""One step of DDIM for other hosts: it makes the images of this package."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from labelled_network import labelled_network

from keras_unet_diffusion import (
    DDIM,
    CosineSchedule,
    DiffusionProcess,
    EDMPrediction,
    EDMSchedule,
    FlowPrediction,
    FlowSchedule,
    ImagePrediction,
    LinearSchedule,
    NoisePrediction,
    ScorePrediction,
    VelocityPrediction,
    VESchedule,
)
from keras_unet_diffusion.export.seeded_noise import seeded_noise
from keras_unet_diffusion.export.step import generate_function, step_function
from keras_unet_diffusion.export.step_table import (
    MOST_CONTINUOUS_STEPS,
    rounded_down,
    row_of_step,
    step_rows,
)
from keras_unet_diffusion.generation import ImageGenerator
from keras_unet_diffusion.noise import normal_images
from keras_unet_diffusion.samplers import Path

SHAPE = (8, 8, 1)
COSINE = DiffusionProcess(CosineSchedule(), VelocityPrediction())
PROCESSES = {
    "cosine": COSINE,
    "noise": DiffusionProcess(LinearSchedule(), NoisePrediction()),
    "image": DiffusionProcess(CosineSchedule(100), ImagePrediction()),
    "flow": DiffusionProcess(FlowSchedule(), FlowPrediction()),
    "edm": DiffusionProcess(EDMSchedule(), EDMPrediction()),
    "score": DiffusionProcess(VESchedule(), ScorePrediction()),
}


def scalar(number, dtype="int32"):
    return tf.constant(number, dtype)


def sampled(step, noise, num_steps, **given):
    """The images of a host's loop."""
    x_t, remembers = noise, "previous_estimate" in str(step.input_signature)
    x_0 = tf.zeros_like(noise)
    for i in range(num_steps):
        now = given | ({"previous_estimate": x_0} if remembers else {})
        order = [spec.name for spec in step.input_signature]
        now |= {"x_t": x_t, "step": scalar(i), "num_steps": scalar(num_steps)}
        x_t, x_0 = map(step(*(now[x] for x in order)).get, ("x_next", "x_0"))
    return x_t.numpy()


def assert_same(images, expected):
    # Float32 roundings, amplified by the steps of a random network.
    assert np.abs(images - expected).max() < 2e-5 * expected.std()


@pytest.mark.parametrize("name", PROCESSES)
def test_a_loop_of_steps_makes_the_models_images(name):
    process, network = PROCESSES[name], labelled_network()
    noise = normal_images(3, 0, 2, SHAPE)
    static = step_function(network, process, (2, *SHAPE))
    dynamic = step_function(network, process, (None, *SHAPE), as_bits=False)
    generator = ImageGenerator(network, process)
    # 48 steps, as some of theirs lie midway between two of the schedule.
    for num_steps, scale in ((48, 1.0), (5, 2.5)):
        expected = generator.generate(
            2,
            labels=[1, 3],
            num_steps=num_steps,
            seed=3,
            sampler=DDIM(),
            guidance_scale=scale,
        )
        given = {
            "labels": scalar([1, 3]),
            "guidance_scale": scalar(scale, "float32"),
        }
        for step in (static, dynamic):
            images = sampled(step, noise, num_steps, **given)
            assert_same(images, expected)


def test_a_network_is_told_its_previous_estimate():
    network = labelled_network(remembers=True)
    network.null_label = None
    noise = normal_images(3, 0, 2, SHAPE)
    labels = scalar([1, 3])
    expected = ImageGenerator(network, COSINE).generate(
        2, labels=[1, 3], num_steps=5, seed=3, sampler=DDIM()
    )
    step = step_function(network, COSINE, (2, *SHAPE))
    assert_same(sampled(step, noise, 5, labels=labels), expected)
    generate = generate_function(network, COSINE, (2, *SHAPE))
    assert_same(generate(noise, scalar(5), labels)["images"], expected)


@pytest.mark.parametrize("num_timesteps", [60, 1000])
def test_rows_of_steps_are_those_of_the_samplers_grid(num_timesteps):
    counts = np.arange(1, num_timesteps + 1)
    num_steps = np.repeat(counts, counts)
    number = np.concatenate([np.arange(n) for n in counts])
    path = Path(
        CosineSchedule(num_timesteps), DDIM(), scalar(num_steps), "float64"
    )
    expected = np.round(path(scalar(number)).t * num_timesteps)
    row = row_of_step(number, num_steps, num_timesteps)
    down = np.isin(
        num_steps * num_timesteps + number, rounded_down(num_timesteps)
    )
    # Else rounding the other way would not be tested.
    assert down.any()
    np.testing.assert_array_equal(row - down, expected)


class Counting(keras.layers.Layer):
    """Counts the images that pass."""

    def build(self, _):
        self.count = self.add_weight(
            shape=(), initializer="zeros", trainable=False
        )

    def call(self, images):
        count = keras.ops.cast(keras.ops.shape(images)[0], "float32")
        self.count.assign_add(count)
        return images


@pytest.mark.parametrize("batch", [2, None])
def test_without_guidance_the_network_is_called_once(batch):
    layer = Counting()
    network = labelled_network(marked=layer)
    step = step_function(network, COSINE, (batch, *SHAPE))
    for scale, images in ((1.0, 2), (3.0, 4)):
        layer.count.assign(0.0)
        noise = normal_images(0, 0, 2, SHAPE)
        step(
            noise,
            scalar(0),
            scalar(5),
            scalar([0, 1]),
            scalar(scale, "float32"),
        )
        assert layer.count.numpy() == images


@pytest.mark.parametrize("name", ["cosine", "flow"])
def test_steps_that_do_not_exist_are_refused(name):
    process = PROCESSES[name]
    step = step_function(labelled_network(), process, (1, *SHAPE))
    most = process.schedule.num_timesteps or MOST_CONTINUOUS_STEPS
    given = scalar([0]), scalar(1.0, "float32")
    noise = normal_images(0, 0, 1, SHAPE)
    for i, num_steps in ((-1, 5), (5, 5), (0, 0), (0, most + 1), (0, 2**30)):
        with pytest.raises(tf.errors.InvalidArgumentError):
            step(noise, scalar(i), scalar(num_steps), *given)
    last = step(noise, scalar(most - 1), scalar(most), *given)["x_next"]
    assert np.isfinite(last).all()


def test_a_network_that_says_nothing_of_the_first_image_is_refused():
    process = DiffusionProcess(FlowSchedule(), NoisePrediction())
    with pytest.raises(ValueError, match="says nothing of the image.*Received"):
        step_rows(process)


def test_a_schedule_whose_steps_overflow_is_refused():
    process = DiffusionProcess(CosineSchedule(40000))
    with pytest.raises(ValueError, match="num_timesteps=40000"):
        step_rows(process)


def hashed(x):
    """lowbias32 of Wellons on 32-bit words without a sign."""
    x = x ^ (x >> np.uint32(16))
    x = x * np.uint32(0x7FEB352D)
    x = x ^ (x >> np.uint32(15))
    x = x * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


@pytest.mark.parametrize("seed", [0, 5, -1, 2**31 - 1])
def test_seeded_noise_is_that_of_its_reference(seed):
    words = np.array([seed & 0xFFFFFFFF], "uint32")
    first = hashed(words)
    second = hashed(words + np.uint32(0x9E3779B9))
    number = np.arange(60, dtype="uint32")
    bits = hashed(hashed(number + first) ^ second)
    uniform = (bits >> np.uint32(8)).astype("float64") / 2**24
    uniform = uniform.reshape(2, 2, 15)
    radius = np.sqrt(-2 * np.log1p(-uniform[:, 0]))
    angle = 2 * np.pi * uniform[:, 1]
    expected = np.concatenate(
        [radius * np.cos(angle), radius * np.sin(angle)], axis=1
    )
    noise = seeded_noise(scalar(seed), (2, 3, 5, 2)).numpy()
    # Float32 roundings of angles up to 6 and radii up to 6.
    np.testing.assert_allclose(noise.reshape(2, 30), expected, atol=1e-5)


def test_seeded_noise_is_normal_and_its_own_for_each_seed():
    noise = np.stack(
        [seeded_noise(scalar(k), (2, 32, 32, 3)).numpy() for k in range(30)]
    ).astype("float64")
    values = noise.ravel()  # 184,320 of them
    # Five standard errors: of mean 1 / sqrt(n), of variance sqrt(2 / n), of
    # the fourth moment sqrt(96 / n).
    error = 5 / np.sqrt(values.size)
    assert abs(values.mean()) < error
    assert abs(values.var() - 1) < error * np.sqrt(2)
    assert abs((values**4).mean() - 3) < error * np.sqrt(96)
    images = noise.reshape(60, -1)
    correlations = np.corrcoef(images)[np.triu_indices(60, 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(images.shape[1])
    neighbours = (values[1:] * values[:-1]).mean()
    assert abs(neighbours) < error
