"""What a noise schedule is, and the points on the way that it describes."""

import abc
import math
from typing import Any, NamedTuple

from keras import ops

from keras_unet_diffusion.diffusion.component import Component


class Point(NamedTuple):
    """A point on the way from noise to image: `x_t = alpha x_0 + sigma noise`.

    Args:
        t: time in [0, 1], which names the point.
        alpha: share of the image, of the shape of `t`.
        sigma: share of the noise, likewise.
    """

    t: Any
    alpha: Any
    sigma: Any

    @property
    def noise_ratio(self):
        """Noise per image, sigma / alpha: the sigma of Karras et al. 2022."""
        return self.sigma / self.alpha

    @property
    def half_log_snr(self):
        """log(alpha / sigma): the lambda of Lu et al. 2022."""
        return ops.log(self.alpha) - ops.log(self.sigma)

    def of_images(self):
        """The point of each image, in a shape that multiplies images."""
        return Point(*(ops.reshape(x, (-1, 1, 1, 1)) for x in self))


class Schedule(Component, abc.ABC):
    """How much image and how much noise there is at a time t.

    Abstract: a schedule is its log-SNR, a falling function of time, the
    inverse of that, and how the two shares follow from it. At t = 0 the image
    is clean, whatever the schedule says of the times just after.

    All functions take times in float32 or float64, of any shape, and keep
    shape and dtype.
    """

    # Steps of a schedule that knows certain times only; None for any time.
    num_timesteps = None
    # Times between which a network is trained and asked.
    min_time = 1e-3
    max_time = 1.0
    # Whether these bound training, too; else sampling alone.
    is_bounded = True
    # Whether there is no image at all at `max_time`: alpha is 0.
    ends_without_image = False

    @abc.abstractmethod
    def log_snr(self, t):
        """Log of the signal-to-noise ratio, `2 log(alpha / sigma)`.

        Args:
            t: times in [0, 1]; infinite at 0.
        """

    @abc.abstractmethod
    def time(self, log_snr):
        """The time at which the log-SNR is this; the inverse of `log_snr`."""

    @abc.abstractmethod
    def alpha(self, t):
        """Share of the image in x_t, of times in [0, 1]."""

    @abc.abstractmethod
    def sigma(self, t):
        """Share of the noise in x_t, of times in [0, 1]."""

    @abc.abstractmethod
    def noise_level(self, t):
        """What a network is told of times in (0, 1]."""

    def prior_deviation(self, point):
        """Standard deviation of x_t at a point that is all but noise."""
        return point.sigma

    def point(self, t):
        """The `Point` at a time."""
        t = ops.convert_to_tensor(t)
        return Point(t, self.alpha(t), self.sigma(t))

    def point_of_ratio(self, noise_ratio):
        """The `Point` at which sigma / alpha is this, a positive number."""
        return self.point(self.time(-2 * ops.log(noise_ratio)))


class VariancePreserving(Schedule):
    """A schedule whose shares' squares sum to one, so noise at its end has a
    deviation of one.

    Abstract. Kingma et al. 2021, "Variational Diffusion Models", section 3.1.
    """

    def alpha(self, t):
        return ops.sqrt(ops.sigmoid(self.log_snr(t)))

    def sigma(self, t):
        return ops.sqrt(ops.sigmoid(-self.log_snr(t)))

    def prior_deviation(self, point):
        return ops.ones_like(point.sigma)


def check_time_scale(time_scale):
    """Raises a `ValueError` unless a network's scale of time is positive."""
    if not time_scale > 0:
        raise ValueError(
            "time_scale is the number that stands for pure noise. Received: "
            f"time_scale={time_scale}. Pass a positive number, such as 1000."
        )


def unless_clean(t, values, clean):
    """`values`, but `clean` where t is 0."""
    return ops.where(t > 0, values, ops.full_like(values, clean))


def check_order(**bounds):
    """Raises a `ValueError` unless two named numbers rise from above 0."""
    (low, small), (high, large) = bounds.items()
    if not 0 < small < large < math.inf:
        raise ValueError(
            f"{low} must be positive and below {high}. Received: {low}={small},"
            f" {high}={large}. Pass positive, rising numbers."
        )
