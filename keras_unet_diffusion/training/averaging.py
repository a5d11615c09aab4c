"""Averages of the weights, from which diffusion models are sampled."""

import abc
import dataclasses
import math

import keras
import numpy as np
from keras import ops

from keras_unet_diffusion.diffusion.component import Component


class Average(Component, abc.ABC):
    """A running average of weights. Abstract: it is one rate.

    Each update moves the average towards the new weights by the share
    `rate`, so beta, the share of the old average in publications, is
    `1 - rate`. The rate is what is computed, since of a beta near 1 float32
    keeps few digits.
    """

    @abc.abstractmethod
    def rate(self, num_updates, images_per_update=None):
        """Share of the new weights in the average.

        Args:
            num_updates: updates of the weights before this one, an integer
                scalar.
            images_per_update: images of one update, all micro-batches and
                devices together, a scalar. Averages that count updates
                alone need none.

        Returns:
            float32 scalar in [0, 1].
        """

    def update(
        self,
        averages,
        weights,
        num_updates,
        images_per_update=None,
        is_due=True,
    ):
        """Moves each average towards its weight.

        Call it once per update of the weights, not per micro-batch. Numbers
        that are no floats are copied.

        Args:
            averages: list of `keras.Variable`, changed in place.
            weights: list of `keras.Variable` of the same shapes.
            num_updates: see `rate`.
            images_per_update: see `rate`.
            is_due: bool scalar. False leaves the averages as they are,
                whatever the weights: also if these are not finite.
        """
        rate = self.rate(num_updates, images_per_update)
        for average, weight in zip(averages, weights, strict=True):
            moved = ops.cast(weight, average.dtype)
            kept = ops.convert_to_tensor(average)
            if keras.backend.is_float_dtype(average.dtype):
                share = ops.cast(rate, average.dtype)
                moved = kept + share * (moved - kept)
            if is_due is not True:
                # Not a rate of zero: 0 * nan is nan.
                moved = ops.where(is_due, moved, kept)
            average.assign(moved)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class ExponentialMovingAverage(Average):
    """An exponential moving average, by default with warm-up.

    Use it as the average that needs no thought: most publications do. The
    warm-up keeps the first, random weights from lingering: after `n` updates
    the decay is at most `(1 + n) / (10 + n)`.

    Args:
        decay: float in [0, 1). Share of the old average that is kept; 0 makes
            the average a copy of the weights.
        warmup: bool. Whether the decay warms up; False keeps it constant.

    Raises:
        ValueError: `decay` is outside [0, 1).

    Example:

    ```python
    average = ExponentialMovingAverage(0.9999)
    average.update(averages, weights, num_updates)
    ```

    Reference:
        Ho et al. 2020, appendix B (decay 0.9999, without warm-up); the
        warm-up is that of `tf.train.ExponentialMovingAverage(num_updates=
        ...)`. Differences: none.
    """

    decay: float = 0.9999
    warmup: bool = True

    def __post_init__(self):
        if not 0 <= self.decay < 1:
            raise ValueError(
                "The decay of an average is the share of the old average "
                f"that is kept. Received: decay={self.decay}. Pass a number "
                "from 0 up to, not including, 1, such as 0.9999."
            )

    def rate(self, num_updates, images_per_update=None):
        rate = ops.convert_to_tensor(1 - self.decay, dtype="float32")
        if not self.warmup:
            return rate
        # 1 - min(decay, (1 + n) / (10 + n)).
        num_updates = ops.cast(num_updates, "float32")
        return ops.maximum(rate, 9 / (10 + num_updates))


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class HalfLifeAverage(Average):
    """An exponential moving average whose length is counted in images.

    Use it so that the average stays as long when the batch size changes. The
    ramp-up makes it shorter early on: its half-life is at most a fixed share
    of the images seen so far.

    Args:
        half_life_images: float > 0. Images after which the share of a set of
            weights in the average has halved.
        ramp_up_ratio: float > 0 or None. Bound of the half-life as a share of
            the images seen before the update; None for none.

    Raises:
        ValueError: `half_life_images` or `ramp_up_ratio` is not positive.

    Example:

    ```python
    average = HalfLifeAverage(500_000)
    average.update(averages, weights, num_updates, images_per_update=512)
    ```

    Reference:
        Karras et al. 2022, appendix F ("EMA half-life", 0.5 million images),
        and the authors' training loop, `ema_rampup_ratio`.
        Differences: the images seen are counted as `num_updates *
        images_per_update`, so all batches are taken to be of one size.
    """

    half_life_images: float = 500_000
    ramp_up_ratio: float | None = 0.05

    def __post_init__(self):
        ratio = self.ramp_up_ratio
        if not (self.half_life_images > 0 and (ratio is None or ratio > 0)):
            raise ValueError(
                "The half-life of an average and the ratio of its ramp-up "
                "must be positive. Received: half_life_images="
                f"{self.half_life_images}, ramp_up_ratio={ratio}. The "
                "published values are 500000 images and 0.05; a ratio of None "
                "is no ramp-up."
            )

    def rate(self, num_updates, images_per_update=None):
        if images_per_update is None:
            raise ValueError(
                "A half-life in images needs to know how many there are in "
                "an update. Received: images_per_update=None. Pass the batch "
                "size, all devices together."
            )
        # Floats first: the product may be beyond an int32.
        images = ops.cast(images_per_update, "float32")
        half_life = ops.convert_to_tensor(
            self.half_life_images, dtype="float32"
        )
        if self.ramp_up_ratio is not None:
            seen = ops.cast(num_updates, "float32") * images
            half_life = ops.minimum(half_life, self.ramp_up_ratio * seen)
        # The authors' bound: the first update takes the weights as they are.
        half_life = ops.maximum(half_life, 1e-8)
        # 1 - 0.5**(images / half_life), without losing digits.
        return -ops.expm1(-math.log(2) * images / half_life)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class PowerFunctionAverage(Average):
    """An average whose length is a fixed share of the training so far.

    Use it where the best length is not known beforehand: from two such
    averages, stored now and then, `post_hoc.reconstruct` makes the average of
    any length after training. After `n` updates the weights of update `k`
    count in proportion to `k**gamma`, so the random first weights are
    forgotten without a warm-up.

    Args:
        relative_deviation: float in (0, 0.2886]. Standard deviation of when
            the averaged weights are from, as a share of the training so far:
            sigma_rel. At 0.2886 all updates count the same.

    Raises:
        ValueError: `relative_deviation` is outside (0, 0.2886].

    Example:

    ```python
    average = PowerFunctionAverage(0.10)
    average.update(averages, weights, num_updates)
    ```

    Reference:
        Karras et al. 2024, section 3.1: beta_gamma(t) = (1 - 1 / t)**(gamma +
        1), Eq. 127, with t counting the updates from 1; gamma from sigma_rel
        by algorithm 2. Differences: none for batches of one size.
    """

    relative_deviation: float = 0.1

    def __post_init__(self):
        power_function_exponent(self.relative_deviation)

    def rate(self, num_updates, images_per_update=None):
        t = ops.cast(num_updates, "float32") + 1
        power = power_function_exponent(self.relative_deviation) + 1
        # 1 - (1 - 1 / t)**(gamma + 1), without losing digits at large t.
        return -ops.expm1(power * ops.log1p(-1 / t))


def power_function_exponent(relative_deviation):
    """The exponent gamma of the power-function average of a relative width.

    Args:
        relative_deviation: float in (0, 0.2886], sigma_rel.

    Returns:
        float >= 0, gamma.

    Raises:
        ValueError: `relative_deviation` is outside (0, 0.2886].

    Example:

    ```python
    power_function_exponent(0.10)  # 6.94
    ```

    Reference:
        Karras et al. 2024, algorithm 2, which solves Eq. 123, sigma_rel =
        (gamma + 1)**(1/2) * (gamma + 2)**-1 * (gamma + 3)**(-1/2).
        Differences: exponents below 0, of averages in which the first
        weights count most, are refused.
    """
    if not 0 < relative_deviation <= 12**-0.5:
        raise ValueError(
            "A relative deviation is that of when the averaged weights are "
            "from, as a share of the training, and cannot be more than that "
            f"of all weights alike. Received: relative_deviation="
            f"{relative_deviation}. Pass a number above 0, up to 0.2886, such "
            "as 0.1."
        )
    # (gamma + 2)**2 * (gamma + 3) = (gamma + 1) / sigma_rel**2.
    inverse = float(relative_deviation) ** -2
    roots = np.roots([1, 7, 16 - inverse, 12 - inverse])
    # Where all weights count alike, 0 may be rounded to less.
    return max(float(roots.real.max()), 0.0)
