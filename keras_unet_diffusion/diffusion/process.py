"""The diffusion process: corrupt, target, split, loss."""

import dataclasses

import keras
from keras import ops

from keras_unet_diffusion.diffusion.component import Component
from keras_unet_diffusion.diffusion.parameterizations import (
    NoisePrediction,
    Prediction,
)
from keras_unet_diffusion.diffusion.schedules import LinearSchedule, Schedule
from keras_unet_diffusion.diffusion.weightings import (
    UniformWeighting,
    Weighting,
)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class DiffusionProcess(Component):
    """A schedule, a prediction type and a loss weighting, put together.

    Give it to a `DiffusionModel`. All of it is pure arithmetic in the dtype
    of the images, which must be float32 or float64.

    Args:
        schedule: a `Schedule`; how noise grows with time.
        prediction: a `Prediction`; what the network predicts.
        weighting: a `Weighting`; how much each noise level counts.

    Raises:
        ValueError: a part is of the wrong kind.

    Example:

    ```python
    process = DiffusionProcess(CosineSchedule(), VelocityPrediction())
    x_t = process.corrupt(x_0, noise, t)
    ```

    Reference:
        Ho et al. 2020, sections 2 and 3; Kingma et al. 2021, "Variational
        Diffusion Models", for alpha and sigma. Differences: none.
    """

    schedule: Schedule = LinearSchedule()
    prediction: Prediction = NoisePrediction()
    weighting: Weighting = UniformWeighting()

    def __post_init__(self):
        for name, kind in (
            ("schedule", Schedule),
            ("prediction", Prediction),
            ("weighting", Weighting),
        ):
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise ValueError(
                    f"{name} must be a {kind.__name__}. Received: "
                    f"{name}={value!r}. Pass an object, such as "
                    f"{type(self).__dataclass_fields__[name].default!r}."
                )

    def times(self, uniform):
        """Turns uniform numbers into times to train at.

        Args:
            uniform: numbers in [0, 1), any shape.

        Returns:
            Times in (0, 1] of the same shape, every grid time after t = 0
            equally likely.
        """
        steps = self.schedule.num_timesteps
        return (ops.floor(uniform * steps) + 1) / steps

    def noise_level(self, t):
        """What the network is told: the step number, 0 to T - 1.

        Args:
            t: times in (0, 1], any shape.

        Returns:
            Numbers of the same shape.
        """
        return ops.round(t * self.schedule.num_timesteps) - 1

    def corrupt(self, x_0, noise, t):
        """Adds noise to images.

        Args:
            x_0: clean images, `(batch, height, width, channels)`.
            noise: standard normal noise of the same shape.
            t: times in [0, 1], `(batch,)` or `()`.

        Returns:
            x_t, noisy images of the same shape. Ho et al. 2020, Eq. 4.
        """
        alpha, sigma = self._alpha_sigma(t)
        return alpha * x_0 + sigma * noise

    def target(self, x_0, noise, t):
        """What the network ought to predict.

        Args:
            x_0: clean images, `(batch, height, width, channels)`.
            noise: the noise in x_t, of the same shape.
            t: times in [0, 1], `(batch,)` or `()`.

        Returns:
            Target of the same shape.
        """
        a, b = self.prediction.coefficients(*self._alpha_sigma(t))
        return a * x_0 + b * noise

    def split(self, x_t, prediction, t):
        """Recovers image and noise from what the network predicted.

        Args:
            x_t: noisy images, `(batch, height, width, channels)`.
            prediction: output of the network, same shape.
            t: times in (0, 1], `(batch,)` or `()`.

        Returns:
            `(x_0, noise)`, the one pair with both this x_t and this
            prediction.
        """
        alpha, sigma = self._alpha_sigma(t)
        a, b = self.prediction.coefficients(alpha, sigma)
        determinant = alpha * b - sigma * a
        x_0 = (b * x_t - sigma * prediction) / determinant
        noise = (alpha * prediction - a * x_t) / determinant
        return x_0, noise

    def loss(self, prediction, x_0, noise, t):
        """Weighted squared error of a prediction.

        Args:
            prediction: output of the network at x_t, `(batch, height, width,
                channels)`.
            x_0: clean images, same shape.
            noise: the noise in x_t, same shape.
            t: times in (0, 1], `(batch,)`.

        Returns:
            Loss of each image, mean over its pixels, `(batch,)`.
        """
        error = ops.square(prediction - self.target(x_0, noise, t))
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        a, b = self.prediction.coefficients(alpha, sigma)
        weight = self.weighting.weight(alpha, sigma, a, b)
        return weight * ops.mean(error, axis=(1, 2, 3))

    def _alpha_sigma(self, t):
        """Alpha and sigma in a shape that multiplies images."""
        t = ops.reshape(t, (-1, 1, 1, 1))
        return self.schedule.alpha(t), self.schedule.sigma(t)
