"""The variational bound: how many bits a discrete process needs for images."""

import math
import numbers

import keras
from keras import ops

from keras_unet_diffusion.diffusion.discrete_schedules import DiscreteSchedule
from keras_unet_diffusion.diffusion.learned_variance import (
    decoder_log_likelihood,
    learned_log_variance,
    normal_kl,
    posterior,
)

VARIANCES = ("fixed_small", "fixed_large", "learned_range", "learned")


def sum_of_images(x):
    """Sums `(batch, height, width, channels)` over each image, `(batch,)`."""
    return ops.sum(x, axis=(1, 2, 3))


def variational_bits_per_dimension(
    denoise, x_0, schedule, draw_noise, num_steps=None, variance=None
):
    """Bits per pixel and channel that suffice to send images, on average.

    An upper bound of the negative log-likelihood of images of bytes. It costs
    one network call a step, and is an unbiased estimate: each step is tried
    with one noise.

    Args:
        denoise: function `(x_t, point) -> Estimate`, or `(x_0, noise)`.
        x_0: images, bytes brought to [-1, 1], `(batch, height, width,
            channels)`, float32 or float64, whose dtype all of this keeps.
        schedule: the `DiscreteSchedule` that the network was trained with.
        draw_noise: function of the step's number, an int32 tensor from 0, to
            standard normal noise of the shape of x_0.
        num_steps: int from 2 to the schedule's steps, also as a scalar
            tensor, which is not checked: takes so many of the schedule's
            steps, evenly, the first and the last among them. None for all.
        variance: of the steps that the network takes: "fixed_small" (the
            posterior's), "fixed_large" (the noise of the step),
            "learned_range" or "learned" (as the network predicts). None for
            "learned_range" if it predicts any, otherwise "fixed_large".

    Returns:
        Bits per dimension of each image, `(batch,)`.

    Raises:
        ValueError: the schedule is of another kind or has fewer steps, or
            there is no such variance.

    Example:

    ```python
    bits = variational_bits_per_dimension(
        denoise, x_0, LinearSchedule(), draw_noise, num_steps=100
    )
    ```

    Reference:
        Ho et al. 2020, Eqs. 5 and 13; Nichol and Dhariwal 2021, Eqs. 15 and
        19 for learned variances and fewer steps. Differences: the decoder's
        variance, 0 for "fixed_small", is the posterior's at the second step.
    """
    if not isinstance(schedule, DiscreteSchedule):
        raise ValueError(
            "The variational bound is a sum over the steps of a schedule. "
            f"Received: schedule={schedule!r}. Take the bits per dimension of "
            "the flow, or a schedule of steps such as LinearSchedule()."
        )
    if variance is not None and variance not in VARIANCES:
        raise ValueError(
            "There is no variance of that name. Received: variance="
            f"{variance!r}. Pass one of {', '.join(VARIANCES)}, or None."
        )
    x_0 = ops.convert_to_tensor(x_0)
    most = schedule.num_timesteps
    if num_steps is None:
        num_steps = most
    if isinstance(num_steps, numbers.Integral) and not 2 <= num_steps <= most:
        raise ValueError(
            "The bound takes two or more of the schedule's steps. Received: "
            f"num_steps={num_steps}, with a schedule of {most}. Pass a number "
            f"from 2 to {most}, or None for all."
        )
    steps = _Steps(schedule, ops.cast(num_steps, "int32"), x_0.dtype)

    def body(i, nats):
        return nats + _term(denoise, x_0, steps, i, draw_noise(i), variance)

    last = steps.point(steps.num_steps)
    # L_T: what the last image still tells.
    told = normal_kl(
        last.alpha * x_0,
        2 * ops.log(last.sigma),
        ops.zeros_like(x_0),
        2 * ops.log(schedule.prior_deviation(last)),
    )
    nats = sum_of_images(told)
    zero = ops.cast(0, "int32")
    nats = ops.fori_loop(zero, steps.num_steps, body, nats)
    return nats / (math.prod(x_0.shape[1:]) * math.log(2))


class _Steps:
    """Some of a schedule's steps: point 0 is the clean image."""

    def __init__(self, schedule, num_steps, dtype):
        self.schedule = schedule
        self.num_steps = num_steps
        self.dtype = keras.backend.standardize_dtype(dtype)

    def point(self, i):
        steps = self.schedule.num_timesteps
        position = ops.cast(i - 1, self.dtype) * (steps - 1)
        position /= ops.cast(self.num_steps - 1, self.dtype)
        position = ops.where(i > 0, ops.round(position) + 1, 0.0)
        return self.schedule.point(position / steps)


def _term(denoise, x_0, steps, i, noise, variance):
    """The part of the bound of step `i`, from 0, in nats, `(batch,)`."""
    point, before = steps.point(i + 1), steps.point(i)
    x_t = point.alpha * x_0 + point.sigma * noise
    estimate = denoise(x_t, point)
    mean, log_small = posterior(x_0, x_t, point, before)
    own_mean, _ = posterior(estimate[0], x_t, point, before)
    # At the first step the posterior has no variance: the decoder takes that
    # of the second.
    is_first = ops.equal(i, 0)
    _, log_second = posterior(x_0, x_t, steps.point(2), steps.point(1))
    log_small = ops.where(is_first, log_second, log_small)
    share = point.alpha * before.sigma / before.alpha
    log_large = ops.log(ops.square(point.sigma) - ops.square(share))
    if variance is None:
        variance = (
            "fixed_large" if _predicted(estimate) is None else "learned_range"
        )
    if variance == "fixed_small":
        log_variance = log_small
    elif variance == "fixed_large":
        log_variance = ops.where(is_first, log_second, log_large)
    else:
        log_variance = _predicted(estimate)
        if log_variance is None:
            raise ValueError(
                "The network predicts no variance. Received: variance="
                f"{variance!r}. Pass 'fixed_small' or 'fixed_large'."
            )
        if variance == "learned_range":
            log_variance = learned_log_variance(
                log_variance, log_small, log_large
            )
    surprise = -decoder_log_likelihood(x_0, own_mean, log_variance)
    divergence = normal_kl(mean, log_small, own_mean, log_variance)
    return sum_of_images(ops.where(is_first, surprise, divergence))


def _predicted(estimate):
    return estimate[2] if len(estimate) > 2 else None
