"""The training objective: what is drawn, what is asked, what it costs."""

import dataclasses

import tensorflow as tf

from keras_unet_diffusion import noise as random_numbers
from keras_unet_diffusion.diffusion import DiffusionProcess
from keras_unet_diffusion.network_calls import has_null_label, network_inputs

# Share of the images that a self-conditioning network trains on with an
# estimate: Chen et al. 2022, "Analog Bits", section 3.2.
_SELF_CONDITIONED = 0.5


@dataclasses.dataclass(frozen=True)
class Objective:
    """Draws times and noise, and weighs the error of the network's prediction.

    Args:
        process: a `DiffusionProcess`.
        label_dropout: float in [0, 1). Share of the labels that are replaced
            by the null label, for classifier-free guidance.
        offset_noise: float >= 0. Deviation of a further noise that is the same
            in all pixels of a channel, so that brightness is learned too.
        low_resolution_noise: float >= 0. Largest deviation of the noise on the
            low-resolution images of super-resolution networks, which makes
            them robust against those of another network.

    Raises:
        ValueError: an argument is out of range.

    Reference:
        Ho et al. 2020, algorithm 1; Ho and Salimans 2022, algorithm 1, for
        `label_dropout`; Guttenberg 2023, "Diffusion with Offset Noise";
        Ho et al. 2022, "Cascaded Diffusion Models", section 4.2, for
        `low_resolution_noise`. Differences: a network is not told how much
        noise its low-resolution images have.
    """

    process: DiffusionProcess
    label_dropout: float = 0.0
    offset_noise: float = 0.0
    low_resolution_noise: float = 0.0

    def __post_init__(self):
        if not 0 <= self.label_dropout < 1:
            raise ValueError(
                "label_dropout is the share of labels that are left out. "
                f"Received: label_dropout={self.label_dropout}. Pass a number "
                "from 0 up to 1; 0.1 is usual."
            )
        for name in ("offset_noise", "low_resolution_noise"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"{name} is a deviation. Received: {name}="
                    f"{getattr(self, name)}. Pass 0 for none; 0.1 is usual."
                )

    def check(self, network):
        """Raises a `ValueError` for a network that it cannot train."""
        if self.label_dropout and not has_null_label(network):
            raise ValueError(
                "Labels can only be left out of a network with a null label. "
                f"Received: label_dropout={self.label_dropout}. Build it with "
                "null_label='learned'."
            )

    def loss(self, network, images, labels, seeds, training):
        """Mean loss of a batch.

        Args:
            network: a `keras.Model`, see `DiffusionModel`.
            images: `(batch, height, width, channels)`, pixels in [-1, 1].
            labels: int32 `(batch,)`, or None.
            seeds: a `keras.random.SeedGenerator`.
            training: bool. Labels are only left out in training.

        Returns:
            float32 scalar.

        Raises:
            ValueError: the network predicts other channels than the process
                knows of.
        """
        x_0 = tf.cast(images, tf.float32)
        num_images = tf.shape(x_0)[0]
        t = self.process.times.times(
            _uniform(seeds, num_images), self.process.schedule
        )
        noise = self._noise(seeds, num_images, tuple(x_0.shape[1:]))
        if training and self.label_dropout:
            is_dropped = _uniform(seeds, num_images) < self.label_dropout
            labels = tf.where(is_dropped, network.num_classes, labels)
        x_t = self.process.corrupt(x_0, noise, t)
        low_resolution = self._low_resolution(network, x_0, seeds)

        def predict(estimate=None):
            inputs = network_inputs(
                network,
                self.process.network_input(x_t, t),
                self.process.noise_level(t),
                labels,
                low_resolution_images=low_resolution,
                previous_estimate=estimate,
            )
            return tf.cast(network(inputs, training=training), tf.float32)

        estimate = None
        if "previous_estimate" in network.input:
            first = self.process.outputs(predict())[0]
            estimate = self.process.split(x_t, tf.stop_gradient(first), t)[0]
            is_told = _uniform(seeds, num_images) < _SELF_CONDITIONED
            is_told = tf.reshape(is_told, (-1, 1, 1, 1))
            estimate = tf.where(is_told, estimate, 0.0)
        prediction = predict(estimate)
        self._check_channels(prediction, x_0)
        return tf.reduce_mean(self.process.loss(prediction, x_0, noise, t))

    def _noise(self, seeds, num_images, image_shape):
        noise = _normal(seeds, num_images, image_shape)
        if not self.offset_noise:
            return noise
        offset = _normal(seeds, num_images, (1, 1, image_shape[-1]))
        return noise + self.offset_noise * offset

    def _low_resolution(self, network, x_0, seeds):
        """What a super-resolution network is to enlarge, else None."""
        if "low_resolution_images" not in network.input:
            return None
        factor = network.super_resolution_factor
        images = tf.nn.avg_pool2d(x_0, factor, factor, "VALID")
        if not self.low_resolution_noise:
            return images
        num_images = tf.shape(x_0)[0]
        noise = _normal(seeds, num_images, tuple(images.shape[1:]))
        share = tf.reshape(_uniform(seeds, num_images), (-1, 1, 1, 1))
        return images + self.low_resolution_noise * share * noise

    def _check_channels(self, prediction, x_0):
        learns_variance = self.process.variance_weight is not None
        expected = x_0.shape[-1] * (2 if learns_variance else 1)
        if prediction.shape[-1] != expected:
            raise ValueError(
                "A network that also predicts variances needs a loss for them, "
                "and that loss needs their predictions. Received: predictions "
                f"of {prediction.shape[-1]} channels for images of "
                f"{x_0.shape[-1]}, and variance_weight="
                f"{self.process.variance_weight}. Build the network with "
                "output_channels=None, or twice as many and a process with "
                "variance_weight=0.001."
            )


def _uniform(seeds, num_values):
    seed = seeds.next()
    return random_numbers.uniform(seed[0], seed[1], num_values)


def _normal(seeds, num_images, image_shape):
    seed = seeds.next()
    return random_numbers.normal_images(
        seed[0], seed[1], num_images, image_shape
    )
