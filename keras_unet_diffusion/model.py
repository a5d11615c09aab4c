"""DiffusionModel: trains a network to denoise, and samples from it."""

import keras
import tensorflow as tf

from keras_unet_diffusion.batches import unpack_batch
from keras_unet_diffusion.diffusion import DiffusionProcess
from keras_unet_diffusion.generation_methods import GenerationMethods
from keras_unet_diffusion.network_calls import check_inputs, takes_labels
from keras_unet_diffusion.objective import Objective, make_loss_history
from keras_unet_diffusion.training.averaging import ExponentialMovingAverage
from keras_unet_diffusion.training.uncertainty import Uncertainty

# Any fixed number: validation draws the same noise in every run.
_VALIDATION_SEED = 20200619


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class DiffusionModel(GenerationMethods, keras.Model):
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

    An exponential moving average of the weights, `ema_network`, is kept
    beside `network`. Evaluation, `generate` and export use it; `save` stores
    both. Memory is that of the weights once more.

    Args:
        network: a functional `keras.Model`, see above.
        process: a `DiffusionProcess`; None for the published DDPM's.
        ema_decay: float in [0, 1). Decay of the average per update.
        clip_norm: float > 0 or None. Bound of the gradients' global norm,
            handed to the optimizer as its `global_clipnorm` (so clipping
            comes after unscaling and accumulation), unless the optimizer
            clips already.
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
        seed: int, of the noise drawn in training; None for a random one.
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
        ema_decay=0.9999,
        clip_norm=1.0,
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
        if clip_norm is not None and clip_norm <= 0:
            raise ValueError(
                "clip_norm bounds the norm of the gradients. Received: "
                f"clip_norm={clip_norm}. Pass a positive number, or None for "
                "no bound."
            )
        # The model's policy decides about loss scaling; noise levels must not
        # be rounded to it on their way in.
        kwargs |= {"dtype": _training_policy(network), "autocast": False}
        super().__init__(name=name, **kwargs)
        self.network = network
        self.process = process or DiffusionProcess()
        self.ema_decay = ema_decay
        self.clip_norm = clip_norm
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
        self.seed = seed
        self.average = ExponentialMovingAverage(ema_decay)
        self.ema_network = type(network).from_config(network.get_config())
        self.ema_network.set_weights(network.get_weights())
        self.ema_network.trainable = False
        self.training_seeds = keras.random.SeedGenerator(seed)
        self.validation_seeds = keras.random.SeedGenerator(_VALIDATION_SEED)
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self._generators = {}
        self.built = True

    @property
    def is_conditional(self):
        """Whether the network takes labels, bool."""
        return takes_labels(self.network)

    @property
    def metrics(self):
        return [self.loss_tracker]

    def compile(
        self,
        optimizer="adam",
        run_eagerly=False,
        steps_per_execution=1,
        jit_compile="auto",
    ):
        """Prepares training. The loss is the process's, so none is passed.

        Args:
            optimizer: a Keras optimizer or its name. Under `mixed_float16` it
                is wrapped in a `LossScaleOptimizer`.
            run_eagerly: bool, see `keras.Model.compile`.
            steps_per_execution: int, likewise.
            jit_compile: bool or "auto" (XLA on a GPU, not on a CPU, where it
                trains slower).

        Raises:
            ValueError: the optimizer averages weights itself (`use_ema`).
        """
        optimizer = keras.optimizers.get(optimizer)
        if getattr(optimizer, "inner_optimizer", optimizer).use_ema:
            raise ValueError(
                "The model keeps its own average of the weights. Received: an "
                "optimizer with use_ema=True, which would overwrite the "
                "weights with its average when fit ends. Leave use_ema out "
                "and set the model's ema_decay."
            )
        super().compile(
            optimizer=optimizer,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
        )
        optimizer = self._inner_optimizer
        clips = (
            optimizer.clipnorm or optimizer.clipvalue
        ) or optimizer.global_clipnorm
        if self.clip_norm and not clips:
            optimizer.global_clipnorm = self.clip_norm
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

    @property
    def _inner_optimizer(self):
        """The optimizer itself, without loss scaling around it."""
        return getattr(self.optimizer, "inner_optimizer", self.optimizer)

    def call(self, inputs, training=False):
        """Predicts by the averaged weights; see `UNet` for the inputs."""
        return self.ema_network(inputs, training=training)

    def train_step(self, data):
        images, labels = unpack_batch(data, self.network)
        with tf.GradientTape() as tape:
            loss = self.objective.loss(
                self.network, images, labels, self.training_seeds, True
            )
            # Without this, float16 gradients underflow and, worse, are
            # divided by a scale that they never had.
            scaled_loss = self.optimizer.scale_loss(loss)
        variables = self.trainable_variables
        gradients = tape.gradient(scaled_loss, variables)
        num_updates = self._num_updates()
        self.optimizer.apply(gradients, variables)
        # Accumulation and loss scaling skip updates: then the average waits.
        self.average.update(
            self.ema_network.weights,
            self.network.weights,
            num_updates,
            is_due=self._num_updates() > num_updates,
        )
        return self._track(loss, images)

    def test_step(self, data):
        images, labels = unpack_batch(data, self.network)
        loss = self.objective.loss(
            self.ema_network, images, labels, self.validation_seeds, False
        )
        return self._track(loss, images)

    def evaluate(self, *args, **kwargs):
        # The same noise each time, so that two losses can be compared.
        initial_state = keras.random.SeedGenerator(_VALIDATION_SEED).state
        self.validation_seeds.state.assign(initial_state)
        return super().evaluate(*args, **kwargs)

    def get_config(self):
        return {
            "network": keras.saving.serialize_keras_object(self.network),
            "process": keras.saving.serialize_keras_object(self.process),
            "ema_decay": self.ema_decay,
            "clip_norm": self.clip_norm,
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
            for part in ("network", "process", "augmentation")
        }
        return cls(**(config | parts))

    def save_own_variables(self, store):
        for name, variable in self._state_beside_weights().items():
            store[name] = keras.ops.convert_to_numpy(variable)

    def load_own_variables(self, store):
        for name, variable in self._state_beside_weights().items():
            variable.assign(store[name][...])

    def _state_beside_weights(self):
        """What Keras does not save, variables by name: the states of seed
        generators, without which a loaded model would draw the noise and the
        dropout of its first steps again, and the loss of an epoch so far."""
        network = self.network
        weights = {id(weight) for weight in network.weights}
        seeds = [x for x in network.variables if id(x) not in weights]
        return (
            {"training_seeds": self.training_seeds.state}
            | {f"network_seeds_{k}": seed for k, seed in enumerate(seeds)}
            | {f"loss_{x.name}": x for x in self.loss_tracker.variables}
        )

    def _num_updates(self):
        """Updates of the weights so far: Keras counts accumulated steps and
        steps that loss scaling skipped as none."""
        # A sum, so a number: the counter itself would move on with apply.
        return self.optimizer.iterations + 0

    def _track(self, loss, images):
        self.loss_tracker.update_state(loss, tf.shape(images)[0])
        return {"loss": self.loss_tracker.result()}


def _training_policy(network):
    """The policy to train under: float16 anywhere needs loss scaling, also
    where the network as a whole was built under another policy."""
    if any(layer.compute_dtype == "float16" for layer in network.layers):
        return "mixed_float16"
    return network.dtype_policy
