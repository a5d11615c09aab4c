"""Guidance: pushing samples towards what they are conditioned on.

Each kind turns estimates of a network into a guided estimate. The strength,
`guidance_scale`, is a number of the call: 1.0 means no guidance. Estimates of
the image are combined; as x_t is the same for all of them, so are those of the
noise and of any other prediction type.
"""

import abc
import dataclasses
from typing import Any

from keras import ops

from keras_unet_diffusion.backends import with_pullback
from keras_unet_diffusion.network_calls import check_inputs, input_names
from keras_unet_diffusion.samplers import Estimate

# Of the image, where there is none and something is divided by its share.
_LEAST_ALPHA = 2.0**-12


def _check_interval(interval):
    if interval is None:
        return
    is_pair = isinstance(interval, tuple) and len(interval) == 2
    if not is_pair or not 0 <= interval[0] < interval[1]:
        raise ValueError(
            "An interval is a pair of noise levels sigma / alpha, the smaller "
            f"first. Received: interval={interval!r}. Pass for example (0.2, "
            "5.0), or None for all noise levels."
        )


def combine(estimate, x_t, point, x_0):
    """An estimate whose image is `x_0` and whose noise makes x_t of it."""
    noise = (x_t - point.alpha * x_0) / point.sigma
    return Estimate(x_0, noise, estimate.variance)


def interpolate(weak, strong, scale):
    """`weak` at scale 0, `strong` at 1, and beyond it above."""
    return weak + scale * (strong - weak)


@dataclasses.dataclass(frozen=True)
class Guidance(abc.ABC):
    """A kind of guidance. Abstract.

    Args:
        interval: pair of noise levels sigma / alpha, the smaller first,
            between which guidance works; None for all of them. Outside the
            network is called without guidance, at the usual cost.

    Raises:
        ValueError: `interval` is no such pair.

    Reference:
        Kynkäänniemi et al. 2024, "Applying Guidance in a Limited Interval
        Improves Sample and Distribution Quality", Eq. 6. Differences: none.
    """

    interval: tuple | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self):
        _check_interval(self.interval)

    @property
    def networks(self):
        """The networks that it calls beside the guided one, a tuple."""
        return ()

    def __call__(self, calls, x_t, point, scale):
        """The guided estimate.

        Args:
            calls: a `NetworkCalls`.
            x_t: noisy images, `(batch, height, width, channels)`.
            point: their `Point`, of scalars.
            scale: scalar, 1 for none.

        Returns:
            An `Estimate`.
        """
        if self.interval is None:
            return self.guided(calls, x_t, point, scale)
        low, high = self.interval
        ratio = point.noise_ratio
        return ops.cond(
            (low < ratio) & (ratio <= high),
            lambda: self.guided(calls, x_t, point, scale),
            lambda: calls.conditional(x_t, point),
        )

    @abc.abstractmethod
    def guided(self, calls, x_t, point, scale):
        """The guided estimate, wherever the point is."""


@dataclasses.dataclass(frozen=True)
class ClassifierFreeGuidance(Guidance):
    """Away from what the network says without a label.

    For a network with a null label, trained with `label_dropout`. One call of
    the network on a batch of two halves, so about twice the time.

    Args:
        rescale: float in [0, 1]. How far the spread of the guided images is
            brought back to that of the conditional ones; 0.7 is usual at large
            scales, where images become too bright.
        interval: see `Guidance`.

    Raises:
        ValueError: an argument is out of range.

    Example:

    ```python
    guidance = ClassifierFreeGuidance(interval=(0.2, 5.0))
    model.generate(8, labels=3, guidance_scale=3.0, guidance=guidance)
    ```

    Reference:
        Ho and Salimans 2022, "Classifier-Free Diffusion Guidance", Eq. 6, with
        guidance_scale = 1 + w; Lin et al. 2023, Eqs. 15 and 16 for `rescale`.
        Differences: `rescale` works on estimates of the image, so that it
        means the same for every prediction type.
    """

    rescale: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.rescale <= 1:
            raise ValueError(
                "rescale is the share of the spread that is brought back. "
                f"Received: rescale={self.rescale}. Pass a number from 0, "
                "none, to 1, all of it."
            )

    def guided(self, calls, x_t, point, scale):
        conditional, unconditional = calls.both(x_t, point)
        x_0 = interpolate(unconditional.x_0, conditional.x_0, scale)
        if self.rescale:
            spread = ops.std(conditional.x_0, axis=(1, 2, 3), keepdims=True)
            guided_spread = ops.std(x_0, axis=(1, 2, 3), keepdims=True)
            rescaled = x_0 * (spread / guided_spread)  # Eq. 15
            x_0 = interpolate(x_0, rescaled, self.rescale)  # Eq. 16
        return combine(conditional, x_t, point, x_0)


@dataclasses.dataclass(frozen=True)
class AutoGuidance(Guidance):
    """Away from what a worse version of the network says.

    The guide is smaller or less trained, and makes the same kind of errors.
    Needs no null label. Costs the guide's calls.

    Args:
        network: the guide, trained with the same process; its inputs are the
            network's, or some of them.
        interval: see `Guidance`.

    Raises:
        ValueError: the guide is no such network.

    Example:

    ```python
    guidance = AutoGuidance(early_model.ema_network)
    model.generate(8, labels=3, guidance_scale=2.0, guidance=guidance)
    ```

    Reference:
        Karras et al. 2024, "Guiding a Diffusion Model with a Bad Version of
        Itself", Eq. 1. Differences: none.
    """

    network: Any

    def __post_init__(self):
        super().__post_init__()
        check_inputs(self.network)

    @property
    def networks(self):
        return (self.network,)

    def guided(self, calls, x_t, point, scale):
        estimate = calls.conditional(x_t, point)
        guide = calls.of(self.network, x_t, point)
        x_0 = interpolate(guide.x_0, estimate.x_0, scale)
        return combine(estimate, x_t, point, x_0)


@dataclasses.dataclass(frozen=True)
class ClassifierGuidance(Guidance):
    """Towards what a classifier of noisy images takes for the label.

    The network may know no labels. `guidance_scale` is the strength of the
    classifier's gradient here, plus one, so that 1.0 means none.

    Args:
        classifier: a `keras.Model` of a dict of noisy_images and noise_level,
            as the network takes them, that returns logits `(batch, classes)`.
        interval: see `Guidance`.

    Raises:
        ValueError: the classifier has other inputs.

    Example:

    ```python
    guidance = ClassifierGuidance(classifier)
    model.generate(8, labels=3, guidance_scale=2.0, guidance=guidance)
    ```

    Reference:
        Dhariwal and Nichol 2021, "Diffusion Models Beat GANs on Image
        Synthesis", algorithm 2, which shifts the noise and so holds for every
        sampler. Differences: written as a shift of the image.
    """

    classifier: Any

    def __post_init__(self):
        super().__post_init__()
        if input_names(self.classifier) != {"noisy_images", "noise_level"}:
            raise ValueError(
                "A classifier is a functional keras.Model of a dict of "
                "noisy_images and noise_level. Received: classifier="
                f"{self.classifier!r}. Pass keras.Model({{'noisy_images': ..., "
                "'noise_level': ...}, logits)."
            )

    @property
    def networks(self):
        return (self.classifier,)

    def guided(self, calls, x_t, point, scale):
        estimate = calls.conditional(x_t, point)
        log_probability, pullback = with_pullback(
            lambda x: calls.log_probability(self.classifier, x, point), x_t
        )
        gradient = pullback(ops.ones_like(log_probability))
        # Algorithm 2: noise - sigma * scale * gradient of log p(y | x_t), so
        # that x_0 gains sigma**2 / alpha times as much.
        share = ops.square(point.sigma) / ops.maximum(point.alpha, _LEAST_ALPHA)
        x_0 = estimate.x_0 + (scale - 1) * share * gradient
        return combine(estimate, x_t, point, x_0)
