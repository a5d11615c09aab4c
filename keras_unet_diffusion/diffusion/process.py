"""The diffusion process: corrupt, target, split, loss."""

import dataclasses

import keras
from keras import ops

from keras_unet_diffusion.diffusion.component import Component
from keras_unet_diffusion.diffusion.discrete_schedules import (
    DiscreteSchedule,
    LinearSchedule,
)
from keras_unet_diffusion.diffusion.learned_variance import variational_term
from keras_unet_diffusion.diffusion.parameterizations import (
    NoisePrediction,
    Prediction,
    ScorePrediction,
)
from keras_unet_diffusion.diffusion.schedules import Point, Schedule
from keras_unet_diffusion.diffusion.times import TrainingTimes, UniformTimes
from keras_unet_diffusion.diffusion.weightings import (
    EDMWeighting,
    UniformWeighting,
    Weighting,
)

# Share of the image that stands for none at all in a loss's weight.
_LEAST_ALPHA = 2.0**-24


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
        times: a `TrainingTimes`; how often training visits each time.
        variance_weight: float > 0 or None. If given, the network has twice
            the channels of the images: the second half tells the variance of
            each step, and the variational bound in bits per dimension is
            added to the loss with this weight. Published: 0.001.

    Raises:
        ValueError: a part is of the wrong kind, the loss would have no bound,
            or `variance_weight` is given with a schedule that has no steps.

    Example:

    ```python
    process = DiffusionProcess(CosineSchedule(), VelocityPrediction())
    x_t = process.corrupt(x_0, noise, t)
    ```

    Reference:
        Ho et al. 2020, sections 2 and 3; Kingma et al. 2021, "Variational
        Diffusion Models", for alpha and sigma; Nichol and Dhariwal 2021,
        Eq. 16, for `variance_weight`. Differences: none.
    """

    schedule: Schedule = LinearSchedule()
    prediction: Prediction = NoisePrediction()
    weighting: Weighting = UniformWeighting()
    times: TrainingTimes = UniformTimes()
    variance_weight: float | None = None

    def __post_init__(self):
        for name, kind in (
            ("schedule", Schedule),
            ("prediction", Prediction),
            ("weighting", Weighting),
            ("times", TrainingTimes),
        ):
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise ValueError(
                    f"{name} must be a {kind.__name__}. Received: "
                    f"{name}={value!r}. Pass an object, such as "
                    f"{type(self).__dataclass_fields__[name].default!r}."
                )
        self._check_weighting()
        if self.variance_weight is None:
            return
        if not self.variance_weight > 0:
            raise ValueError(
                "The weight of the variational bound must be positive. "
                f"Received: variance_weight={self.variance_weight}. The "
                "published value is 0.001; None learns no variance."
            )
        if not isinstance(self.schedule, DiscreteSchedule):
            raise ValueError(
                "Only the steps of a schedule have a variance to learn. "
                f"Received: variance_weight={self.variance_weight}, schedule="
                f"{self.schedule!r}. Pass a schedule with num_timesteps, or "
                "variance_weight=None."
            )
        if self._is_blind_at_the_end:
            raise ValueError(
                "The variational bound needs an estimate of the image, of "
                "which that prediction says nothing where there is noise "
                f"alone. Received: schedule={self.schedule!r}, prediction="
                f"{self.prediction!r}, variance_weight="
                f"{self.variance_weight}. Pass VelocityPrediction()."
            )

    @property
    def _is_blind_at_the_end(self):
        """Whether a prediction says nothing of the image at the last time."""
        is_of_noise = isinstance(
            self.prediction, NoisePrediction | ScorePrediction
        )
        return is_of_noise and self.schedule.ends_without_image

    def _check_weighting(self):
        if isinstance(self.weighting, EDMWeighting) and (
            self._is_blind_at_the_end
        ):
            raise ValueError(
                "The weight of the noise's error is infinite where there is "
                f"no image. Received: schedule={self.schedule!r}, prediction="
                f"{self.prediction!r}, weighting={self.weighting!r}. Pass "
                "another prediction, such as VelocityPrediction(), or "
                "weighting=UniformWeighting()."
            )

    def noise_level(self, t):
        """What the network is told.

        Args:
            t: times in (0, 1], any shape.

        Returns:
            Numbers of the same shape: the prediction type's noise level or
            else the schedule's, such as the step number, 0 to T - 1.
        """
        return self.noise_level_at(self.schedule.point(t))

    def noise_level_at(self, point):
        """What the network is told at a `Point`; see `noise_level`."""
        level = self.prediction.noise_level(point.alpha, point.sigma)
        return self.schedule.noise_level(point.t) if level is None else level

    def network_input(self, x_t, t):
        """What the network sees of noisy images.

        Args:
            x_t: noisy images, `(batch, height, width, channels)`.
            t: times in (0, 1], `(batch,)` or `()`, or the `Point`.

        Returns:
            Images of the same shape, scaled if the prediction type says so.
        """
        point = t if isinstance(t, Point) else self.schedule.point(t)
        _, alpha, sigma = point.of_images()
        return self.prediction.input_scale(alpha, sigma) * x_t

    def corrupt(self, x_0, noise, t):
        """Adds noise to images.

        Args:
            x_0: clean images, `(batch, height, width, channels)`.
            noise: standard normal noise of the same shape.
            t: times in [0, 1], `(batch,)` or `()`.

        Returns:
            x_t, noisy images of the same shape. Ho et al. 2020, Eq. 4.
        """
        _, alpha, sigma = self.schedule.point(t).of_images()
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
        _, alpha, sigma = self.schedule.point(t).of_images()
        a, b = self.prediction.coefficients(alpha, sigma)
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
        return self.estimate(x_t, prediction, self.schedule.point(t))

    def estimate(self, x_t, prediction, point):
        """Does the same as `split` at a `Point`, of all or of each image."""
        _, alpha, sigma = point.of_images()
        return self.prediction.split(x_t, prediction, alpha, sigma)

    def outputs(self, prediction):
        """Parts what the network gave into prediction and variance.

        Args:
            prediction: output of the network, `(batch, height, width,
                channels)`; twice the channels if a variance is learned.

        Returns:
            `(prediction, variance)` with the channels of the images; None for
            the variance if none is learned.
        """
        if self.variance_weight is None:
            return prediction, None
        return tuple(ops.split(prediction, 2, axis=-1))

    def loss(self, prediction, x_0, noise, t):
        """Weighted squared error of a prediction.

        Args:
            prediction: output of the network at x_t, `(batch, height, width,
                channels)`; twice the channels if a variance is learned.
            x_0: clean images, `(batch, height, width, channels)`.
            noise: the noise in x_t, same shape.
            t: times in (0, 1], `(batch,)`.

        Returns:
            Loss of each image, mean over its pixels, `(batch,)`; with the
            variational bound if a variance is learned.
        """
        prediction, variance = self.outputs(prediction)
        error = ops.square(prediction - self.target(x_0, noise, t))
        loss = self._weight(t) * ops.mean(error, axis=(1, 2, 3))
        if variance is None:
            return loss
        return loss + self._variance_loss(prediction, variance, x_0, noise, t)

    def _weight(self, t):
        _, alpha, sigma = self.schedule.point(t)
        # Where there is no image, a weight by the SNR would be 0 / 0: almost
        # no image gives its limit.
        alpha = ops.where(alpha > 0, alpha, ops.full_like(alpha, _LEAST_ALPHA))
        a, b = self.prediction.coefficients(alpha, sigma)
        return self.weighting.weight(alpha, sigma, a, b)

    def _variance_loss(self, prediction, variance, x_0, noise, t):
        """The bound, which teaches the variance alone, not the mean."""
        x_t = self.corrupt(x_0, noise, t)
        estimate, _ = self.split(x_t, ops.stop_gradient(prediction), t)
        term = variational_term(x_0, x_t, estimate, variance, t, self.schedule)
        # Nichol and Dhariwal 2021, Eq. 16: the bound is the sum over all
        # steps, of which one was drawn.
        return self.variance_weight * self.schedule.num_timesteps * term
