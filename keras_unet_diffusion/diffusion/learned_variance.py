"""Learned variances of the steps, and the variational bound they are for.

A network of twice the channels tells, beside its prediction, how large the
variance of each step is between the two values that make sense. It is trained
with the variational bound of the log-likelihood.
"""

import math

from keras import ops

# Greatest density of pixel values: 256 bins between -1 and 1.
_HALF_BIN = 1 / 255
_LEAST_PROBABILITY = 1e-12


def posterior(x_0, x_t, point, next_point):
    """The distribution of the next, cleaner images of a noisy image.

    Args:
        x_0: clean images, known or estimated, `(batch, height, width,
            channels)`.
        x_t: noisy images, same shape.
        point: `Point` of x_t, in a shape that multiplies images.
        next_point: `Point` of the cleaner images, likewise.

    Returns:
        `(mean, log_variance)`: the mean of the shape of x_0 and the log of
        the variance, of the shape of `point.t`; -inf if `next_point` is
        clean.

    Reference:
        Ho et al. 2020, Eqs. 6 and 7. Differences: the two points need not be
        neighbours.
    """
    share = point.alpha / next_point.alpha
    kept = share * ops.square(next_point.sigma) / ops.square(point.sigma)
    beta = _step_variance(point, next_point)
    new = next_point.alpha * beta / ops.square(point.sigma)
    log_variance = 2 * (
        ops.log(next_point.sigma) - ops.log(point.sigma)
    ) + ops.log(beta)
    return new * x_0 + kept * x_t, log_variance


def _step_variance(point, next_point):
    """Beta of the step from `next_point` to `point`."""
    share = point.alpha / next_point.alpha
    # The same as 1 - share**2 without its loss of digits where noise is small.
    return ops.square(point.sigma) - ops.square(share * next_point.sigma)


def learned_log_variance(variance, log_variance, log_beta):
    """Turns what a network tells into the log of a step's variance.

    Args:
        variance: the network's second half of channels; -1 is the least and
            1 the greatest variance that makes sense.
        log_variance: log of the posterior's variance, the least.
        log_beta: log of the step's own variance, the greatest.

    Returns:
        Log of the variance, of the shape of `variance`.

    Reference:
        Nichol and Dhariwal 2021, Eq. 15, with v = (variance + 1) / 2 as in
        OpenAI's improved-diffusion. Differences: none.
    """
    share = (variance + 1) / 2
    return share * log_beta + (1 - share) * log_variance


def normal_kl(mean, log_variance, other_mean, other_log_variance):
    """Kullback-Leibler divergence of two normal distributions, in nats.

    Args:
        mean: mean of the first, any shape.
        log_variance: log of its variance, a shape that can be broadcast.
        other_mean: mean of the second, likewise.
        other_log_variance: log of its variance, likewise.

    Returns:
        Divergence at each element.
    """
    log_ratio = other_log_variance - log_variance
    distance = ops.square(mean - other_mean) * ops.exp(-other_log_variance)
    return 0.5 * (log_ratio - 1 + ops.exp(-log_ratio) + distance)


def decoder_log_likelihood(x_0, mean, log_variance):
    """Log-probability of pixels of 256 values under a normal distribution.

    Args:
        x_0: images of pixels at `2 k / 255 - 1`, any shape.
        mean: mean of the distribution, same shape.
        log_variance: log of its variance, a shape that can be broadcast.

    Returns:
        Log-probability of each pixel in nats, at least log(1e-12).

    Reference:
        Ho et al. 2020, Eq. 13. Differences: none; OpenAI's code has an
        approximate distribution function.
    """
    inverse_deviation = ops.exp(-0.5 * log_variance)
    distance = x_0 - mean

    def below(bound):
        return 0.5 * (1 + ops.erf(bound * inverse_deviation / math.sqrt(2)))

    # The outermost bins reach to infinity; half a bin is enough of a margin.
    upper = ops.where(x_0 > 1 - _HALF_BIN, 1.0, below(distance + _HALF_BIN))
    lower = ops.where(x_0 < -1 + _HALF_BIN, 0.0, below(distance - _HALF_BIN))
    return ops.log(ops.maximum(upper - lower, _LEAST_PROBABILITY))


def variational_term(x_0, x_t, estimate_x_0, variance, t, schedule):
    """The term of the variational bound that belongs to a step.

    Summed over all steps of the schedule it is the bound of the negative
    log-likelihood, less a constant near 0 for the prior.

    Args:
        x_0: clean images, `(batch, height, width, channels)`.
        x_t: noisy images, same shape.
        estimate_x_0: the network's estimate of x_0, same shape.
        variance: the network's second half of channels, same shape.
        t: times on the grid, `(batch,)`.
        schedule: a `DiscreteSchedule`.

    Returns:
        Bits per dimension of each image, `(batch,)`: a divergence, or at the
        first step the decoder's negative log-likelihood.

    Reference:
        Nichol and Dhariwal 2021, Eqs. 4 to 7 and 15; Ho et al. 2020, Eq. 13.
        Differences: none; as in their code, the first step, whose posterior
        has no variance, borrows that of the second.
    """
    step = 1 / schedule.num_timesteps
    t = ops.convert_to_tensor(t)
    is_first = t < 1.5 * step
    second = ops.maximum(t, 2 * step)
    point = schedule.point(t).of_images()
    next_point = schedule.point(ops.where(is_first, 0.0, t - step)).of_images()
    mean, _ = posterior(x_0, x_t, point, next_point)
    own_mean, _ = posterior(estimate_x_0, x_t, point, next_point)
    _, log_variance = posterior(
        x_0,
        x_t,
        schedule.point(second).of_images(),
        schedule.point(second - step).of_images(),
    )
    own_log_variance = learned_log_variance(
        variance, log_variance, ops.log(_step_variance(point, next_point))
    )
    divergence = normal_kl(mean, log_variance, own_mean, own_log_variance)
    surprise = -decoder_log_likelihood(x_0, own_mean, own_log_variance)
    is_first = ops.reshape(is_first, (-1, 1, 1, 1))
    nats = ops.where(is_first, surprise, divergence)
    return ops.mean(nats, axis=(1, 2, 3)) / math.log(2)
