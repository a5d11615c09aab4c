"""DiffusionModel: trains a network to denoise, and samples from it."""

import random

import keras
import numpy as np

from keras_unet_diffusion.diffusion import DiffusionProcess
from keras_unet_diffusion.generation_methods import GenerationMethods
from keras_unet_diffusion.network_calls import check_inputs, takes_labels
from keras_unet_diffusion.objective import Objective, make_loss_history
from keras_unet_diffusion.replicas import num_replicas
from keras_unet_diffusion.training.averaging import (
    Average,
    ExponentialMovingAverage,
)
from keras_unet_diffusion.training.optimizer_check import check_optimizer
from keras_unet_diffusion.training.progress import TrainingProgress
from keras_unet_diffusion.training.uncertainty import Uncertainty
from keras_unet_diffusion.training.updates import Updates
from keras_unet_diffusion.training_steps import TrainingSteps


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class DiffusionModel(TrainingSteps, GenerationMethods, keras.Model):
    """Trains a network by the diffusion objective and generates images.

    Use it like any Keras model: `compile(optimizer)`, `fit(dataset)`,
    `evaluate(dataset)`, `save("model.keras")`, `keras.saving.load_model`; and
    `generate` for new images. It is given its network: any functional
    `keras.Model` whose inputs are a dict of `noisy_images`, `noise_level` and,
    if it takes them, `labels`, and whose output is an image, will do.

    Datasets yield batches of images, or of (images, labels): float images
    `(batch, height, width, channels)` with pixels in [-1, 1] (as
    `keras_unet_diffusion.data.image_dataset` makes them), integer labels
    `(batch,)`. A network without labels ignores them.

    Averages of the weights are kept beside `network`, each in a network of its
    own, `averaged_networks`. Evaluation, `generate` and export use one of
    them, `ema_network`: the first, unless `use_average` chose another. Each
    takes the memory of the weights once more.

    The noise of an image depends on the seed, the number of the update and
    that of the image in it alone: on TensorFlow and JAX, on one device and
    many, in one batch and in several that are accumulated. A step whose loss
    or gradients are not finite changes neither weights nor averages;
    `updates.skipped_steps` counts them.

    Args:
        network: a functional `keras.Model`, see above.
        process: a `DiffusionProcess`; None for the published DDPM's.
        averages: an `Average` of the weights, or a sequence of them; None for
            `ExponentialMovingAverage(0.9999)`.
        clip_norm: float > 0 or None. Bound of the gradients' global norm,
            after the mean over replicas and accumulated steps.
        accumulation_steps: int >= 1. Training steps whose mean gradient makes
            one update of the weights.
        label_dropout: float in [0, 1). Share of the labels that are left out
            in training, for classifier-free guidance; needs a network with a
            null label. 0.1 is usual.
        offset_noise: float >= 0. Deviation of a further noise, the same in all
            pixels of a channel; 0 for none.
        low_resolution_noise: float >= 0. Largest deviation of the noise on
            the low-resolution images of super-resolution networks.
        augmentation: an `Augmentation` of the images in training, or None;
            needs a network with `augmentation_channels=9`.
        time_resampling: bool. Whether steps are drawn by their past losses,
            see `training.importance.LossHistory`; for learned variances.
        uncertainty: bool. Whether the loss is divided by what is to be
            expected at a noise level, which is learned; see
            `training.uncertainty.Uncertainty`. Losses may then be negative.
        seed: int, of the noise drawn in training; None draws one, which then
            is the model's `seed`.
        name: str.
        **kwargs: of `keras.Model`.

    Raises:
        ValueError: the network has other inputs, or an argument is out of
            range.

    Example:

    ```python
    model = DiffusionModel(UNet.from_preset("tiny"))
    model.compile(keras.optimizers.Adam(1e-3))
    model.fit(image_dataset("digits", image_size=16, batch_size=64))
    images = model.generate(16, seed=0)
    ```

    Reference:
        Ho et al. 2020, algorithm 1 and appendix B. Differences: none at the
        defaults, except that the average has a warm-up.
    """

    def __init__(
        self,
        network,
        process=None,
        averages=None,
        clip_norm=1.0,
        accumulation_steps=1,
        label_dropout=0.0,
        offset_noise=0.0,
        low_resolution_noise=0.0,
        augmentation=None,
        time_resampling=False,
        uncertainty=False,
        seed=None,
        name="diffusion_model",
        **kwargs,
    ):
        check_inputs(network)
        # Noise levels must not be rounded to a policy on their way in.
        kwargs |= {"dtype": network.dtype_policy, "autocast": False}
        super().__init__(name=name, **kwargs)
        self.network = network
        self.process = process or DiffusionProcess()
        self.averages = _checked_averages(averages)
        self.clip_norm = clip_norm
        self.accumulation_steps = accumulation_steps
        self.label_dropout = label_dropout
        self.offset_noise = offset_noise
        self.low_resolution_noise = low_resolution_noise
        self.augmentation = augmentation
        self.time_resampling = time_resampling
        self.uncertainty = uncertainty
        # Weights beside the network's, saved with the model.
        self.loss_history = self.uncertainty_layer = None
        if time_resampling:
            self.loss_history = make_loss_history(self.process)
        if uncertainty:
            self.uncertainty_layer = Uncertainty(name="uncertainty")
            self.uncertainty_layer.build((None,))
        self.objective = Objective(
            self.process,
            label_dropout,
            offset_noise,
            low_resolution_noise,
            augmentation,
            self.loss_history,
            self.uncertainty_layer,
        )
        self.objective.check(network)
        self.seed = random.getrandbits(31) if seed is None else seed
        self.averaged_networks = [_copy(network) for _ in self.averages]
        self._average_in_use = 0
        self.updates = Updates(
            clip_norm, accumulation_steps, _needs_scaling(network)
        )
        self.updates.build(self.trainable_variables)
        self.validation_batches = self.add_weight(
            shape=(),
            dtype="int",
            initializer="zeros",
            trainable=False,
            name="validation_batches",
        )
        self.progress = TrainingProgress()
        self._generators = {}
        self.built = True

    @property
    def is_conditional(self):
        """Whether the network takes labels, bool."""
        return takes_labels(self.network)

    @property
    def ema_network(self):
        """The network with the averaged weights that are used."""
        return self.averaged_networks[self._average_in_use]

    @property
    def metrics(self):
        return self.progress.metrics

    def compile(
        self,
        optimizer="adam",
        run_eagerly=False,
        steps_per_execution=1,
        jit_compile="auto",
    ):
        """Prepares training. The loss is the process's, so none is passed.

        Args:
            optimizer: a Keras optimizer or its name. Under `mixed_float16`
                the model scales the loss itself.
            run_eagerly: bool, see `keras.Model.compile`.
            steps_per_execution: int, likewise.
            jit_compile: bool or "auto" (XLA on a GPU, not on a CPU, where it
                trains slower).

        Raises:
            ValueError: the optimizer does what the model does itself.
        """
        optimizer = keras.optimizers.get(optimizer)
        check_optimizer(optimizer)
        if num_replicas() > 1 and self.time_resampling:
            raise ValueError(
                "Past losses are remembered on each device alone. Received: "
                f"time_resampling=True and {num_replicas()} replicas. Train "
                "on one device, or with another distribution of times."
            )
        super().compile(
            optimizer=optimizer,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
            auto_scale_loss=False,
        )
        if not self.optimizer.built:
            # Built by the first step, it would cost tracing that step twice.
            self.optimizer.build(self.trainable_variables)

    def compile_from_config(self, config):
        # jit_compile is left at "auto": a file that was written on a GPU may
        # be read on a CPU.
        config = keras.saving.deserialize_keras_object(config)
        self.compile(
            optimizer=config["optimizer"],
            steps_per_execution=config["steps_per_execution"],
        )

    def call(self, inputs, training=False):
        """Predicts by the averaged weights; see `UNet` for the inputs."""
        return self.ema_network(inputs, training=training)

    def use_average(self, number):
        """Chooses the average that evaluation, sampling and export use.

        Args:
            number: int, place in `averages`.

        Raises:
            ValueError: there is no such average.
        """
        if not 0 <= number < len(self.averages):
            raise ValueError(
                f"The model keeps {len(self.averages)} averages. Received: "
                f"number={number}. Pass a number from 0 to "
                f"{len(self.averages) - 1}."
            )
        self._average_in_use = number
        self._generators.clear()
        self.test_function = self.predict_function = None

    def get_config(self):
        return {
            "network": keras.saving.serialize_keras_object(self.network),
            "process": keras.saving.serialize_keras_object(self.process),
            "averages": [
                keras.saving.serialize_keras_object(average)
                for average in self.averages
            ],
            "clip_norm": self.clip_norm,
            "accumulation_steps": self.accumulation_steps,
            "label_dropout": self.label_dropout,
            "offset_noise": self.offset_noise,
            "low_resolution_noise": self.low_resolution_noise,
            "augmentation": keras.saving.serialize_keras_object(
                self.augmentation
            ),
            "time_resampling": self.time_resampling,
            "uncertainty": self.uncertainty,
            "seed": self.seed,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        parts = {
            part: keras.saving.deserialize_keras_object(
                config.get(part), custom_objects
            )
            for part in ("network", "process", "augmentation", "averages")
        }
        return cls(**(config | parts))

    def save_own_variables(self, store):
        for name, variable in self._state_beside_weights().items():
            store[name] = variable.numpy()

    def load_own_variables(self, store):
        for name, variable in self._state_beside_weights().items():
            variable.assign(np.asarray(store[name]))

    def _state_beside_weights(self):
        """What Keras does not save, variables by name: the states of seed
        generators, without which a loaded model would draw the dropout of its
        first steps again, and the metrics of an epoch so far."""
        network = self.network
        weights = {id(weight) for weight in network.weights}
        seeds = [x for x in network.variables if id(x) not in weights]
        metrics = {
            f"{metric.name}_{variable.name}": variable
            for metric in self.metrics
            for variable in metric.variables
        }
        return metrics | {
            f"network_seeds_{k}": seed for k, seed in enumerate(seeds)
        }


def _copy(network):
    """A network of the same weights that is not trained."""
    copy = type(network).from_config(network.get_config())
    copy.set_weights(network.get_weights())
    copy.trainable = False
    return copy


def _checked_averages(averages):
    if averages is None:
        averages = ExponentialMovingAverage(0.9999)
    if isinstance(averages, Average):
        averages = (averages,)
    is_sequence = isinstance(averages, list | tuple) and len(averages) > 0
    if not is_sequence or not all(isinstance(x, Average) for x in averages):
        raise ValueError(
            "averages must be an Average or a sequence of them. Received: "
            f"averages={averages!r}. Pass, for example, "
            "ExponentialMovingAverage(0.9999)."
        )
    return tuple(averages)


def _needs_scaling(network):
    """Whether losses must be scaled: float16 anywhere, also where the network
    as a whole was built under another policy."""
    return any(layer.compute_dtype == "float16" for layer in network.layers)
