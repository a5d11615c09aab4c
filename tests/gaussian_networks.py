"""Networks that know Gaussian images exactly, whatever they predict."""

import keras
import numpy as np
from keras import ops

from keras_unet_diffusion import (
    DiffusionModel,
    DiffusionProcess,
    VelocityPrediction,
)


@keras.saving.register_keras_serializable(package="tests")
class GaussianExpert(keras.layers.Layer):
    """The optimal prediction for images around a mean for each label.

    Pixels are independent, with one deviation; the last mean is that of the
    null label.
    """

    def __init__(self, process, deviation, means, **kwargs):
        super().__init__(**kwargs)
        if isinstance(process, dict):
            process = keras.saving.deserialize_keras_object(process)
        self.process = process
        self.deviation = deviation
        self.means = tuple(means)

    def call(self, noisy_images, noise_level, labels=None):
        schedule, prediction = self.process.schedule, self.process.prediction
        # The levels of the steps: which of them is told is the time.
        steps = np.arange(1, schedule.num_timesteps + 1)
        levels = self.process.noise_level(steps / schedule.num_timesteps)
        levels = ops.cast(levels, "float32")
        gaps = ops.abs(ops.expand_dims(noise_level, -1) - levels)
        step = ops.cast(ops.argmin(gaps, axis=-1), "float32") + 1
        point = schedule.point(step / schedule.num_timesteps)
        _, alpha, sigma = point.of_images()
        x_t = noisy_images / prediction.input_scale(alpha, sigma)
        means = ops.convert_to_tensor(self.means, "float32")
        mean = 0.0 if labels is None else ops.take(means, labels)
        mean = mean if labels is None else ops.reshape(mean, (-1, 1, 1, 1))
        # Bayes' rule for normal distributions.
        variance = ops.square(alpha * self.deviation) + ops.square(sigma)
        surprise = (x_t - alpha * mean) / variance
        x_0 = mean + alpha * self.deviation**2 * surprise
        a, b = prediction.coefficients(alpha, sigma)
        return a * x_0 + b * sigma * surprise

    def get_config(self):
        return super().get_config() | {
            "process": keras.saving.serialize_keras_object(self.process),
            "deviation": self.deviation,
            "means": self.means,
        }


def gaussian_network(process, deviation=0.25, means=(), shape=(4, 4, 1)):
    """A network for images around the mean of their label.

    Args:
        process: a `DiffusionProcess` with a discrete schedule.
        deviation: float, of each pixel.
        means: of each label; none for images around 0 without labels.
        shape: of the images.
    """
    inputs = {
        "noisy_images": keras.Input(shape, name="noisy_images"),
        "noise_level": keras.Input((), name="noise_level"),
    }
    if means:
        inputs["labels"] = keras.Input((), name="labels", dtype="int32")
    expert = GaussianExpert(process, deviation, (*means, 0.0))
    network = keras.Model(inputs, expert(*inputs.values()))
    if means:
        network.num_classes, network.null_label = len(means), "learned"
    return network


def gaussian_process(**options):
    """The process of most tests: velocities are well conditioned."""
    return DiffusionProcess(**{"prediction": VelocityPrediction()} | options)


def gaussian_model(deviation):
    """A `DiffusionModel` of Gaussian images, and three of them."""
    process = gaussian_process()
    model = DiffusionModel(gaussian_network(process, deviation), process)
    random = np.random.default_rng(0)
    return model, deviation * random.standard_normal((3, 4, 4, 1))


def one_layer_network(layer, shape=(4, 4, 1), **inputs):
    """A functional network of one layer, which is called with the dict.

    Args:
        layer: function of the dict of inputs.
        shape: of the images.
        **inputs: `keras.Input`s besides images and noise level.
    """
    inputs = {
        "noisy_images": keras.Input(shape, name="noisy_images"),
        "noise_level": keras.Input((), name="noise_level"),
    } | inputs
    return keras.Model(inputs, keras.layers.Lambda(layer)(inputs))
