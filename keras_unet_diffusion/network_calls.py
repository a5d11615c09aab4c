"""How a network is called: its inputs, and estimates from its predictions."""

import dataclasses
from typing import Any

from keras import ops

from keras_unet_diffusion.backends import compiled, is_jax
from keras_unet_diffusion.samplers import Estimate

# What training, the loops and export can give a network.
_INPUTS = {
    "noisy_images",
    "noise_level",
    "labels",
    "augmentation",
    "low_resolution_images",
    "previous_estimate",
}


def network_inputs(network, noisy_images, noise_level, labels=None, **others):
    """Puts together what a network is called with.

    Args:
        network: see `DiffusionModel`.
        noisy_images: `(batch, height, width, channels)`.
        noise_level: `(batch,)`.
        labels: `(batch,)`, or None for a network without labels.
        **others: further inputs by name, those of None left out.

    Returns:
        A dict; see `UNet`. A network that asks how images were augmented, or
        what was estimated before, is told by zeros if nothing was given.
    """
    inputs = {
        "noisy_images": noisy_images,
        "noise_level": noise_level,
        "labels": labels,
    } | others
    inputs = {
        name: ops.convert_to_tensor(value)
        for name, value in inputs.items()
        if value is not None and name in network.input
    }
    if "augmentation" in network.input and "augmentation" not in inputs:
        width = network.input["augmentation"].shape[1]
        num_images = ops.shape(noisy_images)[0]
        inputs["augmentation"] = ops.zeros((num_images, width))
    if "previous_estimate" in network.input:
        inputs.setdefault(
            "previous_estimate", ops.zeros_like(inputs["noisy_images"])
        )
    return inputs


def check_inputs(network):
    """Raises a `ValueError` for a network that nothing here can call."""
    names = input_names(network)
    if not names >= {"noisy_images", "noise_level"}:
        raise ValueError(
            "network must be a functional keras.Model whose inputs are a "
            "dict of noisy_images, noise_level and perhaps labels. "
            f"Received: network={network!r}. Pass a UNet, or "
            "keras.Model({'noisy_images': ..., 'noise_level': ...}, ...)."
        )
    if not names <= _INPUTS:
        raise ValueError(
            "The network needs inputs that are not known here. "
            f"Received: a network that takes {', '.join(sorted(names))}. Call "
            "it yourself with all of them, or build it without "
            f"{', '.join(sorted(names - _INPUTS))}."
        )


def input_names(network):
    """Names of a network's inputs, a set; empty if they have none."""
    inputs = getattr(network, "input", None)
    return set(inputs) if isinstance(inputs, dict) else set()


def num_labels(network):
    """How many labels a network knows, a null label included; None if it
    does not say."""
    num_classes = getattr(network, "num_classes", None)
    if num_classes is None:
        return None
    return num_classes + has_null_label(network)


def has_null_label(network):
    """Whether a network knows the label that says nothing, bool."""
    return bool(getattr(network, "null_label", None))


def takes_labels(network):
    """Whether a network is conditioned on labels, bool."""
    return "labels" in network.input


def network_image_shape(network):
    """Height, width (None if any) and channels of a network's images."""
    return tuple(network.input["noisy_images"].shape[1:])


def network_function(network, jit_compile=False):
    """A network as one compiled function of the dict of its inputs.

    The sampling loops call it: on TensorFlow, however many there are, the
    network is traced and compiled once. On JAX it is compiled with each loop.

    Args:
        network: a built `keras.Model`.
        jit_compile: bool. Whether XLA compiles it.

    Returns:
        A function with dynamic batch size.
    """

    def call(inputs):
        return network(inputs, training=False)

    if is_jax():
        return call
    return compiled(call, network.input, [network], jit_compile)


@dataclasses.dataclass(frozen=True)
class NetworkCalls:
    """The calls of a network that samplers and guidance ask for.

    Args:
        network: see `DiffusionModel`.
        process: the `DiffusionProcess` that it was trained with.
        function: function of a network to what is called in its place, such as
            `network_function` keeps; None for the network itself.
        labels: int32 `(batch,)`, or None.
        others: dict of further inputs, see `network_inputs`.
    """

    network: Any
    process: Any
    function: Any = None
    labels: Any = None
    others: dict = dataclasses.field(default_factory=dict)

    def after(self, x_0):
        """The same calls, told what was estimated before.

        Bounded to [-1, 1], as in training, whatever bounds the sampler's
        estimates.
        """
        bounded = ops.clip(x_0, -1.0, 1.0)
        others = self.others | {"previous_estimate": bounded}
        return dataclasses.replace(self, others=others)

    def conditional(self, x_t, point):
        """The `Estimate` of images `(batch, height, width, channels)` at a
        `Point` of scalars, with their labels."""
        return self.of(self.network, x_t, point)

    def of(self, network, x_t, point):
        """Likewise by another network."""
        return self._estimate(network, x_t, point, self.labels, self.others)

    def both(self, x_t, point):
        """Estimates with the labels and without, in one batch of two."""

        def twice(x):
            return None if x is None else ops.concatenate([x, x], axis=0)

        null = ops.full_like(self.labels, self.network.num_classes)
        estimate = self._estimate(
            self.network,
            twice(x_t),
            point,
            ops.concatenate([self.labels, null], axis=0),
            {name: twice(value) for name, value in self.others.items()},
        )
        halves = zip(*(_halves(x) for x in estimate), strict=True)
        return tuple(Estimate(*half) for half in halves)

    def log_probability(self, classifier, x_t, point):
        """Sum over images of a classifier's log probability of the labels."""
        images, level = self._told(x_t, point)
        logits = classifier(
            {"noisy_images": images, "noise_level": level}, training=False
        )
        return -ops.sum(
            ops.sparse_categorical_crossentropy(
                self.labels, ops.cast(logits, x_t.dtype), from_logits=True
            )
        )

    def _told(self, x_t, point):
        """Images and noise levels as networks take them, float32."""
        level = self.process.noise_level_at(point)
        return (
            ops.cast(self.process.network_input(x_t, point), "float32"),
            ops.full((ops.shape(x_t)[0],), level, "float32"),
        )

    def _estimate(self, network, x_t, point, labels, others):
        images, level = self._told(x_t, point)
        others = {
            name: None if value is None else ops.cast(value, "float32")
            for name, value in others.items()
        }
        inputs = network_inputs(network, images, level, labels, **others)
        call = network if self.function is None else self.function(network)
        prediction = ops.cast(call(inputs), x_t.dtype)
        channels = x_t.shape[-1]
        x_0, noise = self.process.estimate(
            x_t, prediction[..., :channels], point
        )
        # Channels beyond the images' are learned variances.
        has_variance = prediction.shape[-1] > channels
        return Estimate(
            x_0, noise, prediction[..., channels:] if has_variance else None
        )


def _halves(x):
    return (None, None) if x is None else ops.split(x, 2, axis=0)


def make_denoise(network, process, labels=None, **others):
    """All that a sampler knows about a network.

    Args:
        network: see `DiffusionModel`.
        process: the `DiffusionProcess` that it was trained with.
        labels: int32 `(batch,)`, or None.
        **others: further inputs, see `network_inputs`.

    Returns:
        A function `(x_t, point) -> Estimate`; the network itself is called in
        float32.
    """
    calls = NetworkCalls(network, process, labels=labels, others=others)
    return calls.conditional
