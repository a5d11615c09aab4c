"""Likelihood of images under a network, in bits per dimension."""

import math

import numpy as np
from keras import ops

from keras_unet_diffusion import noise as random_numbers
from keras_unet_diffusion.backends import (
    compiled,
    in_float64,
    with_pullback,
)
from keras_unet_diffusion.diffusion.discrete_schedules import DiscreteSchedule
from keras_unet_diffusion.diffusion.likelihood import (
    sum_of_images,
    variational_bits_per_dimension,
)
from keras_unet_diffusion.network_calls import make_denoise, takes_labels

_DTYPE = "float64"
# Where the way to pure noise has no end, it ends at this much noise for each
# share of image.
_MAX_NOISE_RATIO = 2.0**12
# Stages of explicit Runge-Kutta methods, by their order: how far into the
# step each stage is, on the slope of the stage before, and the weight of its
# own slope. Heun's method and the classical one.
_STAGES = {
    2: ((0, 1 / 2), (1, 1 / 2)),
    4: ((0, 1 / 6), (1 / 2, 1 / 3), (1 / 2, 1 / 3), (1, 1 / 6)),
}


@in_float64
def bits_per_dimension(
    network,
    process,
    images,
    labels=None,
    method="variational",
    num_steps=None,
    variance=None,
    num_probes=1,
    seed=0,
    batch_size=64,
):
    """Measures how well a network knows images: bits per pixel and channel.

    The average over a test set is the usual number of papers: fewer bits are
    better. "variational" bounds it from above, for networks of DDPM's kind;
    "flow" takes the density that the deterministic samplers draw from, for
    any schedule, and is lower as a rule. Each costs as many network calls as
    there are steps, "flow" four times as many, each with its gradient.

    Args:
        network: see `DiffusionModel`; the averaged one as a rule.
        process: the `DiffusionProcess` that it was trained with.
        images: `(num_images, height, width, channels)`, bytes brought to
            [-1, 1].
        labels: `(num_images,)`, for a network with labels.
        method: "variational" or "flow".
        num_steps: int >= 2, with "variational" at most the schedule's. None
            for all of the schedule's steps with "variational", for 100 with
            "flow".
        variance: of "variational" alone, see
            `variational_bits_per_dimension`.
        num_probes: int >= 1, of "flow" alone. More make its estimate less
            noisy; each costs a gradient.
        seed: int. Image `k` depends on the seed and on `k`, not on the batch.
        batch_size: int >= 1.

    Returns:
        float64 numpy array `(num_images,)`.

    Raises:
        ValueError: an argument is out of range or does not fit the network,
            or images are no bytes.

    Example:

    ```python
    bits = bits_per_dimension(model.ema_network, model.process, images)
    print(bits.mean())
    ```

    Reference:
        Ho et al. 2020, section 3; Song et al. 2021, "Score-Based Generative
        Modeling through Stochastic Differential Equations", section 4.3.
        Differences: bins are 2/255 wide, so that 0 and 255 are -1 and 1, and
        bytes cost log2(127.5) bits more than densities, not 7.
    """
    images = _checked_images(images)
    for name, value in (
        ("num_steps", 2 if num_steps is None else num_steps),
        ("num_probes", num_probes),
        ("batch_size", batch_size),
    ):
        if value < (2 if name == "num_steps" else 1):
            raise ValueError(
                f"{name} is too small. Received: {name}={value}. Pass at "
                "least 2 steps, 1 probe and 1 image."
            )
    _check_network(network, labels, len(images))
    if method == "variational":
        measure = _variational(process.schedule, num_steps, variance)
    elif method == "flow":
        if variance is not None:
            raise ValueError(
                "The flow has no steps with a variance. Received: method="
                f"'flow', variance={variance!r}. Leave variance out, or pass "
                "method='variational'."
            )
        measure = _flow(process.schedule, num_steps or 100, num_probes)
    else:
        raise ValueError(
            f"There is no such method. Received: method={method!r}. Pass "
            "'variational' or 'flow'."
        )
    arrays = {"images": images}
    if labels is not None:
        arrays["labels"] = np.asarray(labels, "int32")

    def measured(batch):
        x_0 = batch["images"]

        def draw_noise(stream):
            noise = random_numbers.normal_images(
                int(seed),
                stream,
                ops.shape(x_0)[0],
                tuple(x_0.shape[1:]),
                batch["first_image"],
            )
            return ops.cast(noise, _DTYPE)

        denoise = make_denoise(network, process, batch.get("labels"))
        return measure(denoise, x_0, draw_noise)

    function, results = None, []
    for first in range(0, len(images), batch_size):
        batch = {
            name: ops.convert_to_tensor(array[first : first + batch_size])
            for name, array in arrays.items()
        }
        batch["first_image"] = ops.convert_to_tensor(first, "int32")
        function = function or compiled(measured, batch, [network])
        results.append(ops.convert_to_numpy(function(batch)))
    return np.concatenate(results)


def flow_log_density(denoise, x_0, schedule, probes, num_steps=100, order=4):
    """Log density of images, as the flow from noise to images has it.

    Images are followed along the probability-flow ODE to noise, whose density
    is known; how much the flow contracts on the way, the trace of its
    Jacobian, is estimated by probes. All arithmetic keeps the dtype of x_0.

    Args:
        denoise: function `(x_t, point) -> Estimate`, or `(x_0, noise)`, which
            can be differentiated.
        x_0: images, `(batch, height, width, channels)`.
        schedule: the `Schedule` that the network was trained with.
        probes: list of tensors of the shape of x_0, random signs; each costs
            a gradient. `basis_probes(x_0)` makes the trace exact.
        num_steps: int >= 1. Steps, even in the log of the noise ratio.
        order: 2 for Heun's method, two network calls a step; 4 for the
            classical Runge-Kutta method, four.

    Returns:
        Natural logarithm of the density of each image, `(batch,)`.

    Raises:
        ValueError: there is no method of that order.

    Example:

    ```python
    log_density = flow_log_density(
        denoise, x_0, EDMSchedule(), basis_probes(x_0), num_steps=50
    )
    ```

    Reference:
        Song et al. 2021, Eqs. 13 and 39 and appendix D.2; Hutchinson 1990 for
        the trace; Karras et al. 2022, Eq. 4 for the flow of x_t / alpha, whose
        slope is the noise. Differences: steps of a fixed number instead of an
        adaptive solver.
    """
    if order not in _STAGES:
        raise ValueError(
            f"There is no method of that order. Received: order={order}. Pass "
            "2 or 4."
        )
    x_0 = ops.convert_to_tensor(x_0)
    least, greatest = _noise_ratios(schedule)
    begin = ops.cast(ops.log(least), x_0.dtype)
    length = ops.cast(ops.log(greatest / least), x_0.dtype)
    step = length / ops.cast(num_steps, x_0.dtype)

    def slopes(log_ratio, x):
        """Of x = x_t / alpha and of its log density, by the log ratio."""
        point = _point_of_ratio(schedule, ops.exp(log_ratio))
        noise, pullback = with_pullback(
            lambda x: denoise(point.alpha * x, point)[1], x
        )
        traces = [
            sum_of_images(probe * pullback(probe + ops.zeros_like(noise)))
            for probe in probes
        ]
        ratio = point.noise_ratio
        return ratio * noise, ratio * sum(traces) / len(traces)

    def body(i, variables):
        x, contraction = variables
        at = begin + ops.cast(i, x_0.dtype) * step
        slope = ops.zeros_like(x)
        ways = []
        for share, weight in _STAGES[order]:
            slope, trace = slopes(at + share * step, x + share * step * slope)
            ways.append((weight * step * slope, weight * step * trace))
        moves, traces = zip(*ways, strict=True)
        return x + sum(moves), contraction + sum(traces)

    x, contraction = ops.fori_loop(
        ops.cast(0, "int32"),
        ops.cast(num_steps, "int32"),
        body,
        (x_0, ops.zeros_like(x_0[:, 0, 0, 0])),
    )
    last = _point_of_ratio(schedule, ops.exp(begin + length))
    deviation = schedule.prior_deviation(last) / last.alpha
    log_normal = -0.5 * ops.square(x / deviation) - ops.log(
        deviation * math.sqrt(2 * math.pi)
    )
    return sum_of_images(log_normal) + contraction


def basis_probes(x_0):
    """Probes that make the trace of `flow_log_density` exact.

    As many as an image has dimensions: for small images, in tests.

    Args:
        x_0: images, `(batch, height, width, channels)`.

    Returns:
        List of tensors of the shape `(1, height, width, channels)`.
    """
    shape = x_0.shape[1:]
    size = math.prod(shape)
    # Traces are averaged over the probes, hence the root.
    basis = math.sqrt(size) * np.eye(size)
    return [
        ops.convert_to_tensor(x.reshape(1, *shape), x_0.dtype) for x in basis
    ]


def _check_network(network, labels, num_images):
    """Raises a `ValueError` unless images and labels are all it needs."""
    if "low_resolution_images" in network.input:
        raise ValueError(
            "Likelihoods are of networks that make images from noise alone. "
            "Received: a network that takes low_resolution_images. Pass one "
            "without super_resolution_factor."
        )
    if takes_labels(network) != (labels is not None):
        needs = "needs" if labels is None else "takes no"
        raise ValueError(
            f"The network {needs} labels. Received: labels={labels}. Pass "
            "the label of each image to a network with labels, and to no "
            "other."
        )
    if labels is not None and np.shape(labels) != (num_images,):
        raise ValueError(
            "Each image has one label. Received: labels of shape "
            f"{np.shape(labels)} for {num_images} images. Pass labels of the "
            f"shape ({num_images},)."
        )


def _variational(schedule, num_steps, variance):
    def measure(denoise, x_0, draw_noise):
        def within_range(x_t, point):
            estimate = denoise(x_t, point)
            # As sampling does: no byte lies outside.
            return estimate._replace(x_0=ops.clip(estimate.x_0, -1, 1))

        return variational_bits_per_dimension(
            within_range, x_0, schedule, draw_noise, num_steps, variance
        )

    return measure


def _flow(schedule, num_steps, num_probes):
    def measure(denoise, x_0, draw_noise):
        # Uniform in the bin of the byte, which is 2/255 wide. On average the
        # density there is at most the byte's probability over that width.
        uniform = 0.5 * ops.erf(math.sqrt(0.5) * draw_noise(0))
        x_0 += uniform / 127.5
        one = ops.ones_like(x_0)
        probes = [
            ops.where(draw_noise(k + 1) < 0, -one, one)
            for k in range(num_probes)
        ]
        log_density = flow_log_density(
            denoise, x_0, schedule, probes, num_steps
        )
        size = math.prod(x_0.shape[1:])
        return math.log2(127.5) - log_density / (size * math.log(2))

    return measure


def _noise_ratios(schedule):
    """The least and the greatest sigma / alpha that a network knows."""
    if isinstance(schedule, DiscreteSchedule):
        has_image = schedule.alphas > 0
        ratios = schedule.sigmas[has_image] / schedule.alphas[has_image]
        return ratios[1], ratios[-1]
    ends = [schedule.min_time, schedule.max_time]
    ends = ops.convert_to_tensor(ends, _DTYPE)
    ratios = schedule.point(ends).noise_ratio
    return ratios[0], ops.minimum(ratios[1], _MAX_NOISE_RATIO)


def _point_of_ratio(schedule, ratio):
    point = schedule.point_of_ratio(ratio)
    # Schedules round times that are close to their grid; the ratio must not
    # be rounded.
    return point._replace(sigma=point.alpha * ratio)


def _checked_images(images):
    images = np.asarray(images, "float64")
    # float32 is off by up to 2e-5 of a byte.
    bytes_ = (images + 1) * 127.5
    is_byte = np.abs(bytes_ - np.clip(np.round(bytes_), 0, 255)) < 1e-3
    if images.ndim != 4 or not len(images) or not is_byte.all():
        raise ValueError(
            "Bits are counted of bytes brought to [-1, 1]. Received: images "
            f"of shape {images.shape}"
            + (f" from {images.min()} to {images.max()}" if images.size else "")
            + ". Pass (num_images, height, width, channels), such as "
            "to_model_range makes of bytes."
        )
    return images
