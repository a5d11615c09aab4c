"""Images from a network: its calling convention and the compiled loop."""

import secrets

import numpy as np
import tensorflow as tf

from keras_unet_diffusion import noise as random_numbers
from keras_unet_diffusion.samplers import (
    DDIM,
    DDPM,
    Sampler,
    clip_images,
    sample,
)

# What the loops here, training and export can give a network.
_INPUTS = {"noisy_images", "noise_level", "labels", "augmentation"}


def network_inputs(network, noisy_images, noise_level, labels=None):
    """Puts together what a network is called with.

    Args:
        network: see `DiffusionModel`.
        noisy_images: `(batch, height, width, channels)`.
        noise_level: `(batch,)`.
        labels: `(batch,)`, or None for a network without labels.

    Returns:
        A dict; see `UNet`. A network that asks how images were augmented is
        told that they were not: zeros.
    """
    inputs = {
        "noisy_images": tf.convert_to_tensor(noisy_images),
        "noise_level": tf.convert_to_tensor(noise_level),
    }
    if labels is not None:
        inputs["labels"] = tf.convert_to_tensor(labels)
    if "augmentation" in network.input:
        shape = (
            tf.shape(noisy_images)[0],
            network.input["augmentation"].shape[1],
        )
        inputs["augmentation"] = tf.zeros(shape)
    return inputs


def check_inputs(network):
    """Raises a `ValueError` for a network that nothing here can call."""
    inputs = getattr(network, "input", None)
    names = set(inputs) if isinstance(inputs, dict) else set()
    if not names >= {"noisy_images", "noise_level"}:
        raise ValueError(
            "network must be a functional keras.Model whose inputs are a "
            "dict of noisy_images, noise_level and perhaps labels. "
            f"Received: network={network!r}. Pass a UNet, or "
            "keras.Model({'noisy_images': ..., 'noise_level': ...}, ...)."
        )
    if not names <= _INPUTS:
        raise ValueError(
            "The network needs more than images, noise levels and labels. "
            f"Received: a network that takes {', '.join(sorted(names))}. Call "
            "it yourself with all of them, or build it without "
            f"{', '.join(sorted(names - _INPUTS))}."
        )


def num_labels(network):
    """How many labels a network knows, a null label included; None if it
    does not say."""
    num_classes = getattr(network, "num_classes", None)
    if num_classes is None:
        return None
    return num_classes + bool(getattr(network, "null_label", None))


def takes_labels(network):
    """Whether a network is conditioned on labels, bool."""
    return "labels" in network.input


def network_image_shape(network):
    """Height, width (None if any) and channels of a network's images."""
    return tuple(network.input["noisy_images"].shape[1:])


def make_sampler(sampler, schedule, eta=0.0):
    """Makes a `Sampler` of its name.

    Args:
        sampler: "ddim", "ddpm", or a `Sampler`, which is returned as it is.
        schedule: the `Schedule` that the network was trained with.
        eta: float in [0, 1], of "ddim".

    Returns:
        A `Sampler`.

    Raises:
        ValueError: there is no sampler of that name.
    """
    if isinstance(sampler, Sampler):
        return sampler
    if sampler == "ddim":
        return DDIM(schedule, eta)
    if sampler == "ddpm":
        return DDPM(schedule)
    raise ValueError(
        f"There is no such sampler. Received: sampler={sampler!r}. Pass "
        "'ddim', 'ddpm' or a Sampler object."
    )


def sampling_loop(network, process, sampler):
    """Makes the function that turns noise into images.

    Args:
        network: see `DiffusionModel`.
        process: the `DiffusionProcess` that it was trained with.
        sampler: a `Sampler`.

    Returns:
        A function of noise `(batch, height, width, channels)` of known
        height, width and channels, the number of steps, the seed (int64), the
        number of the first image (int32) and, for a network with labels,
        labels `(batch,)`; it returns images of the shape of the noise.
    """

    def run(x_1, num_steps, seed, first_image, labels=None):
        num_images, image_shape = tf.shape(x_1)[0], tuple(x_1.shape[1:])

        def denoise(x_t, t):
            noise_level = tf.fill([num_images], process.noise_level(t))
            inputs = network_inputs(network, x_t, noise_level, labels)
            # Channels beyond the image's are learned variances.
            prediction = network(inputs, training=False)
            prediction = prediction[..., : image_shape[-1]]
            return process.split(x_t, tf.cast(prediction, tf.float32), t)

        def draw_noise(step):  # stream 0 is x_1
            return random_numbers.normal_images(
                seed, step + 1, num_images, image_shape, first_image
            )

        return sample(
            sampler,
            clip_images(denoise, process.schedule),
            x_1,
            num_steps,
            draw_noise,
        )

    return run


class ImageGenerator:
    """Generates images by one network, with its loops compiled and kept.

    `DiffusionModel.generate` is the usual way to it; use it alone for a
    network that has no model around it.

    Args:
        network: a built `keras.Model`, see `DiffusionModel`.
        process: the `DiffusionProcess` that it was trained with.
        jit_compile: bool. Whether XLA compiles the loops.

    Example:

    ```python
    generator = ImageGenerator(network, process)
    images = generator.generate(16, num_steps=50, seed=0)
    ```
    """

    def __init__(self, network, process, jit_compile=False):
        self.network = network
        self.process = process
        self.jit_compile = jit_compile
        self.functions = {}

    def generate(
        self,
        num_images,
        labels=None,
        num_steps=50,
        seed=None,
        sampler="ddim",
        eta=0.0,
        batch_size=None,
        image_size=None,
    ):
        """See `DiffusionModel.generate`."""
        batch_size = num_images if batch_size is None else batch_size
        self._check_counts(num_images, num_steps, batch_size)
        seed = secrets.randbits(63) if seed is None else seed
        if not 0 <= seed < 2**63:
            raise ValueError(
                "A seed is a whole number from 0 to 2**63 - 1. Received: "
                f"seed={seed}. Pass such a number, or None for a random one."
            )
        labels = self._labels(num_images, labels)
        image_shape = self.image_shape(image_size)
        run = self.function(
            make_sampler(sampler, self.process.schedule, eta), image_shape
        )
        seed = tf.constant(seed, tf.int64)
        batches = []
        for first in range(0, num_images, batch_size):
            count = min(batch_size, num_images - first)
            x_1 = random_numbers.normal_images(
                seed, 0, count, image_shape, first
            )
            arguments = [
                x_1,
                tf.constant(num_steps, tf.int32),
                seed,
                tf.constant(first, tf.int32),
            ]
            if labels is not None:
                arguments.append(tf.constant(labels[first : first + count]))
            batches.append(run(*arguments).numpy())
        return np.concatenate(batches)

    def function(self, sampler, image_shape):
        """The compiled loop of a sampler; batch size and steps are dynamic."""
        key = (sampler, image_shape)
        if key not in self.functions:
            signature = [
                tf.TensorSpec((None, *image_shape), tf.float32),
                tf.TensorSpec((), tf.int32),
                tf.TensorSpec((), tf.int64),
                tf.TensorSpec((), tf.int32),
            ]
            if takes_labels(self.network):
                signature.append(tf.TensorSpec((None,), tf.int32))
            self.functions[key] = tf.function(
                sampling_loop(self.network, self.process, sampler),
                input_signature=signature,
                jit_compile=self.jit_compile,
            )
        return self.functions[key]

    def _check_counts(self, num_images, num_steps, batch_size):
        counts = {
            "num_images": num_images,
            "num_steps": num_steps,
            "batch_size": batch_size,
        }
        for name, value in counts.items():
            if not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(
                    f"{name} must be at least 1. Received: {name}={value}. "
                    "Pass a positive whole number."
                )
        grid_steps = self.process.schedule.num_timesteps
        if num_steps > grid_steps:
            raise ValueError(
                f"The schedule has {grid_steps} steps. Received: num_steps="
                f"{num_steps}. Pass a number from 1 to {grid_steps}."
            )

    def _labels(self, num_images, labels):
        if not takes_labels(self.network):
            if labels is not None:
                raise ValueError(
                    "The network takes no labels. Received: labels="
                    f"{labels}. Leave labels out."
                )
            return None
        num_classes = getattr(self.network, "num_classes", None)
        if labels is None:
            labels = np.arange(num_images) % (num_classes or 1)
        labels = np.asarray(labels)
        if labels.ndim == 0:
            labels = np.full(num_images, labels)
        is_whole = np.issubdtype(labels.dtype, np.integer)
        if not is_whole or labels.shape != (num_images,):
            raise ValueError(
                f"{num_images} images need one label, or {num_images} labels, "
                f"whole numbers. Received: labels of shape {labels.shape} and "
                f"dtype {labels.dtype}. Pass whole numbers."
            )
        upper = num_labels(self.network) or np.iinfo("int32").max
        if labels.min() < 0 or labels.max() >= upper:
            raise ValueError(
                f"Labels are numbers from 0 to {upper - 1}. Received: labels "
                f"from {labels.min()} to {labels.max()}. Leave the others out."
            )
        return labels.astype("int32")

    def image_shape(self, image_size=None):
        """Height, width and channels of the images that are made.

        Args:
            image_size: int, height and width in pixels, for a network of any
                size; None otherwise.

        Raises:
            ValueError: a size is missing, superfluous, or does not fit.
        """
        height, width, channels = network_image_shape(self.network)
        if height is not None and width is not None:
            if image_size not in (None, height):
                raise ValueError(
                    f"The network makes images of {height} pixels. Received: "
                    f"image_size={image_size}. Leave image_size out."
                )
            return height, width, channels
        stride = getattr(self.network, "total_stride", 1)
        if image_size is None or image_size < 1 or image_size % stride:
            raise ValueError(
                "The network takes images of any size, so one must be given, "
                f"a multiple of {stride}. Received: image_size={image_size}. "
                "Pass height and width in pixels as one number."
            )
        return image_size, image_size, channels
