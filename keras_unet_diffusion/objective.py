"""The training objective: what is drawn, what is asked, what it costs."""

import dataclasses

from keras import ops

from keras_unet_diffusion.diffusion import DiffusionProcess, UniformTimes
from keras_unet_diffusion.network_calls import has_null_label, network_inputs
from keras_unet_diffusion.training.augmentation import Augmentation
from keras_unet_diffusion.training.importance import LossHistory
from keras_unet_diffusion.training.uncertainty import Uncertainty

# Share of the images that a self-conditioning network trains on with an
# estimate: Chen et al. 2022, "Analog Bits", section 3.2.
_SELF_CONDITIONED = 0.5
# What random numbers are drawn for, see `Draws`.
(
    _TIME,
    _NOISE,
    _LABEL_DROPOUT,
    _OFFSET,
    _AUGMENTATION,
    _AUGMENTATION_SIZE,
    _LOW_RESOLUTION_NOISE,
    _LOW_RESOLUTION_SHARE,
    _SELF_CONDITIONING,
) = range(9)


@dataclasses.dataclass(frozen=True)
class Objective:
    """Draws times and noise, and weighs the error of the network's prediction.

    A self-conditioning network trains on its own estimates for half of the
    images, bounded to [-1, 1] as in sampling.

    Args:
        process: a `DiffusionProcess`.
        label_dropout: float in [0, 1). Share of the labels that are replaced
            by the null label, for classifier-free guidance.
        offset_noise: float >= 0. Deviation of a further noise that is the same
            in all pixels of a channel, so that brightness is learned too.
        low_resolution_noise: float >= 0. Largest deviation of the noise on the
            low-resolution images of super-resolution networks, which makes
            them robust against those of another network.
        augmentation: an `Augmentation` of the images in training, or None.
        loss_history: a `LossHistory`, by which times are drawn in training
            and which is changed by it; None draws them as the process says.
        uncertainty: an `Uncertainty`, which divides the loss; or None.

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
    augmentation: Augmentation | None = None
    loss_history: LossHistory | None = None
    uncertainty: Uncertainty | None = None

    def __post_init__(self):
        if not 0 <= self.label_dropout < 1:
            raise ValueError(
                "label_dropout is the share of labels that are left out. "
                f"Received: label_dropout={self.label_dropout}. Pass a number "
                "from 0 up to 1; 0.1 is usual."
            )
        for name in ("offset_noise", "low_resolution_noise"):
            if not getattr(self, name) >= 0:
                raise ValueError(
                    f"{name} is a deviation. Received: {name}="
                    f"{getattr(self, name)}. Pass 0 for none; 0.1 is usual."
                )
        if not isinstance(self.augmentation, Augmentation | None):
            raise ValueError(
                "augmentation must be an Augmentation or None. Received: "
                f"augmentation={self.augmentation!r}. Pass an object, such as "
                "Augmentation(probability=0.12)."
            )

    def check(self, network):
        """Raises a `ValueError` for a network that it cannot train."""
        if self.label_dropout and not has_null_label(network):
            raise ValueError(
                "Labels can only be left out of a network with a null label. "
                f"Received: label_dropout={self.label_dropout}. Build it with "
                "null_label='learned'."
            )
        if self.augmentation is None:
            return
        told = network.input.get("augmentation")
        received = "none" if told is None else told.shape[1]
        if received != Augmentation.num_labels:
            raise ValueError(
                "A network must be told how images were augmented, or it "
                "makes such images. Received: a network with "
                f"augmentation_channels={received}. Build it with "
                f"augmentation_channels={Augmentation.num_labels}."
            )

    def losses(self, network, images, labels, draws, training):
        """Losses of a batch.

        Args:
            network: a `keras.Model`, see `DiffusionModel`.
            images: `(batch, height, width, channels)`, pixels in [-1, 1].
            labels: int32 `(batch,)`, or None.
            draws: `Draws` for these images.
            training: bool. Only in training are labels left out, images
                augmented and times drawn by past losses.

        Returns:
            `(losses, t)`, both float32 `(batch,)`: what to take the mean of,
            and the times that were drawn.

        Raises:
            ValueError: the network predicts other channels than the process
                knows of.
        """
        t, share = self._times(draws.uniform(_TIME), training)
        losses = self.losses_at(network, images, t, labels, draws, training)
        return share * self._weighed(losses, t, training), t

    def losses_at(self, network, images, t, labels, draws, training):
        """Losses at given times.

        Args:
            t: float32 `(batch,)`, in [0, 1].
            network, images, labels, draws, training: see `losses`.

        Returns:
            float32 `(batch,)`.
        """
        x_0 = ops.cast(images, "float32")
        noise = self._noise(draws, tuple(x_0.shape[1:]))
        if training and self.label_dropout:
            is_dropped = draws.uniform(_LABEL_DROPOUT) < self.label_dropout
            labels = ops.where(is_dropped, network.num_classes, labels)
        augmentation = None
        if training and self.augmentation:
            x_0, augmentation = self._augment(draws, x_0)
        x_t = self.process.corrupt(x_0, noise, t)
        low_resolution = self._low_resolution(network, x_0, draws)

        def predict(estimate=None):
            inputs = network_inputs(
                network,
                self.process.network_input(x_t, t),
                self.process.noise_level(t),
                labels,
                augmentation=augmentation,
                low_resolution_images=low_resolution,
                previous_estimate=estimate,
            )
            return ops.cast(network(inputs, training=training), "float32")

        estimate = None
        if "previous_estimate" in network.input:
            first = self.process.outputs(predict())[0]
            estimate = self.process.split(x_t, ops.stop_gradient(first), t)[0]
            # As sampling tells it: an estimate at high noise may be of any
            # size.
            estimate = ops.clip(estimate, -1.0, 1.0)
            is_told = draws.uniform(_SELF_CONDITIONING) < _SELF_CONDITIONED
            is_told = ops.reshape(is_told, (-1, 1, 1, 1))
            estimate = ops.where(is_told, estimate, 0.0)
        prediction = predict(estimate)
        self._check_channels(prediction, x_0)
        return self.process.loss(prediction, x_0, noise, t)

    def _times(self, uniform, training):
        """Times to train at, and what their losses count."""
        if training and self.loss_history:
            return self.loss_history.times(uniform)
        return self.process.times.times(uniform, self.process.schedule), 1.0

    def _weighed(self, losses, t, training):
        """Losses `(batch,)` divided by what is to be expected of them."""
        u = 0.0
        if self.uncertainty:
            u = self.uncertainty(self.process.schedule.log_snr(t))
            losses = losses / ops.exp(u)
        if training and self.loss_history:
            self.loss_history.record(t, ops.stop_gradient(losses))
        return losses + u

    def _augment(self, draws, x_0):
        """Changed images, and what the network is told of the change."""
        augmentation = self.augmentation
        uniform = draws.uniform(_AUGMENTATION, (augmentation.num_uniform,))
        normal = draws.normal(_AUGMENTATION_SIZE, (augmentation.num_normal,))
        parameters = augmentation.parameters(uniform, normal)
        images = augmentation.transform(x_0, parameters)
        return images, augmentation.labels(parameters)

    def _noise(self, draws, image_shape):
        noise = draws.normal(_NOISE, image_shape)
        if not self.offset_noise:
            return noise
        offset = draws.normal(_OFFSET, (1, 1, image_shape[-1]))
        return noise + self.offset_noise * offset

    def _low_resolution(self, network, x_0, draws):
        """What a super-resolution network is to enlarge, else None."""
        if "low_resolution_images" not in network.input:
            return None
        factor = network.super_resolution_factor
        images = ops.average_pool(x_0, factor, factor, "valid")
        if not self.low_resolution_noise:
            return images
        noise = draws.normal(_LOW_RESOLUTION_NOISE, tuple(images.shape[1:]))
        share = draws.uniform(_LOW_RESOLUTION_SHARE, (1, 1, 1))
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


def make_loss_history(process):
    """Makes the `LossHistory` by which times of a process can be drawn.

    Args:
        process: a `DiffusionProcess`.

    Raises:
        ValueError: its schedule has no steps, or its times another
            distribution.
    """
    steps = process.schedule.num_timesteps
    if steps is None or process.times != UniformTimes():
        raise ValueError(
            "Only steps that are equally likely can be drawn by their losses "
            "instead. Received: time_resampling=True, schedule="
            f"{process.schedule!r}, times={process.times!r}. Pass a schedule "
            "with num_timesteps and UniformTimes(), or "
            "time_resampling=False."
        )
    return LossHistory(steps, name="loss_history")
