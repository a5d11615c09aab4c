"""The steps of `DiffusionModel.fit` and `evaluate`, on each backend."""

import functools

import keras
import tensorflow as tf
from keras import ops

from keras_unet_diffusion.backends import compiled, is_jax
from keras_unet_diffusion.batches import unpack_batch
from keras_unet_diffusion.replicas import (
    num_replicas,
    replica_number,
    spans_processes,
)
from keras_unet_diffusion.training.draws import Draws

# Any fixed number: validation draws the same noise in every run.
_VALIDATION_SEED = 20200619


class TrainingSteps:
    """What a `DiffusionModel` does with a batch.

    Whoever inherits has `network`, `ema_network`, `averages`,
    `averaged_networks`, `objective`, `updates`, `progress`,
    `validation_batches`, `optimizer`, `seed` and a dict `_generators`.
    """

    def _symbolic_build(self, iterator=None, data_batch=None):
        """Keras would call the model with what the dataset yields, to build
        what is not built: all is, and it is no dict of inputs."""

    # What leads there on TensorFlow fails with labels and several processes.
    _maybe_symbolic_build = _symbolic_build

    def train_step(self, *arguments):
        if is_jax():
            return self._jax_train_step(*arguments)
        return _reported(self._tensorflow_train_step(*arguments))

    def test_step(self, *arguments):
        if is_jax():
            return self._jax_test_step(*arguments)
        return _reported(self._test(*arguments))

    def evaluate(self, *args, **kwargs):
        try:
            return super().evaluate(*args, **kwargs)
        finally:
            # The same noise each time, so that two losses can be compared.
            self.validation_batches.assign(0)

    def losses_at(self, images, t, labels=None, seed=0):
        """Losses of the averaged network at given times.

        Args:
            images: `(batch, height, width, channels)`, pixels in [-1, 1].
            t: `(batch,)`, times in [0, 1].
            labels: `(batch,)`, for a network with labels.
            seed: int, of the noise.

        Returns:
            float32 numpy array `(batch,)`.
        """
        inputs = {
            "images": ops.convert_to_tensor(images, "float32"),
            "t": ops.convert_to_tensor(t, "float32"),
        }
        if labels is not None:
            inputs["labels"] = ops.convert_to_tensor(labels, "int32")
        key = ("losses_at", seed, *inputs)
        if key not in self._generators:
            function = functools.partial(self._losses_at, seed)
            self._generators[key] = compiled(
                function, inputs, [self.ema_network]
            )
        return ops.convert_to_numpy(self._generators[key](inputs))

    def _losses_at(self, seed, inputs):
        images = inputs["images"]
        return self.objective.losses_at(
            self.ema_network,
            images,
            inputs["t"],
            inputs.get("labels"),
            Draws(seed, 0, ops.shape(images)[0]),
            training=False,
        )

    def _tensorflow_train_step(self, data):
        images, labels = unpack_batch(data, self.network)
        with tf.GradientTape() as tape:
            losses, t = self._train(images, labels)
            loss = ops.mean(losses)
            scaled_loss = self.updates.scaled(loss)
        gradients = [
            # That of an embedding is sparse, and becomes dense here.
            None if gradient is None else tf.convert_to_tensor(gradient)
            for gradient in tape.gradient(scaled_loss, self.trainable_variables)
        ]
        return self._update(gradients, loss, losses, t)

    def _jax_train_step(self, state, data):
        import jax

        images, labels = unpack_batch(data, self.network)
        lists = (
            self.trainable_variables,
            self.non_trainable_variables,
            self.optimizer.variables,
            self.metrics_variables,
        )

        def scaled_loss(trainable, others):
            values = _mapping(lists[:2], (trainable, others))
            with keras.StatelessScope(state_mapping=values) as scope:
                losses, t = self._train(images, labels)
                loss = ops.mean(losses)
                scaled = self.updates.scaled(loss)
                others = _current(scope, lists[1])
            return scaled, (loss, losses, t, others)

        gradient = jax.grad(scaled_loss, has_aux=True)
        gradients, (loss, losses, t, others) = gradient(*state[:2])
        values = _mapping(lists, (state[0], others, *state[2:]))
        with keras.StatelessScope(state_mapping=values) as scope:
            logs = self._update(gradients, loss, losses, t)
            state = tuple(_current(scope, variables) for variables in lists)
        return logs, state

    def _jax_test_step(self, state, data):
        lists = (
            self.trainable_variables,
            self.non_trainable_variables,
            self.metrics_variables,
        )
        values = _mapping(lists, state)
        with keras.StatelessScope(state_mapping=values) as scope:
            logs = self._test(data)
            state = tuple(_current(scope, variables) for variables in lists)
        return logs, state

    def _train(self, images, labels):
        """Losses to learn from and their times, both `(batch,)`."""
        num_images = ops.shape(images)[0]
        part = ops.cast(self.updates.part, "int32") * num_replicas()
        draws = Draws(
            self.seed,
            self.updates.update,
            num_images,
            (part + replica_number()) * num_images,
        )
        return self.objective.losses(self.network, images, labels, draws, True)

    def _update(self, gradients, loss, losses, t):
        """Updates weights, averages and metrics; returns the logs."""
        updates = self.updates
        # Before this update. Not the optimizer's count, which a new optimizer
        # begins again.
        num_updates = updates.num_updates + 0
        num_images = ops.shape(losses)[0]
        networks = [self.network, *self.averaged_networks]
        norm, is_finite = updates.step(
            gradients,
            loss,
            self.optimizer,
            self.trainable_variables,
            (
                lambda: self._move_averages(num_updates, num_images),
                [weight for network in networks for weight in network.weights],
            ),
        )
        logs = self.progress.record(losses, t, norm, is_finite)
        if updates.scales_loss:
            logs["loss_scale"] = updates.loss_scale + 0.0
        return logs | {"skipped_steps": updates.skipped_steps + 0}

    def _move_averages(self, num_updates, num_images):
        """Moves the averages towards the weights, after an update."""
        images_per_update = (
            num_images * num_replicas() * self.updates.accumulation_steps
        )
        for average, network in zip(
            self.averages, self.averaged_networks, strict=True
        ):
            average.update(
                network.weights,
                self.network.weights,
                num_updates,
                images_per_update,
            )

    def _test(self, data):
        images, labels = unpack_batch(data, self.network)
        num_images = ops.shape(images)[0]
        draws = Draws(
            _VALIDATION_SEED,
            self.validation_batches.value,
            num_images,
            replica_number() * num_images,
        )
        losses, t = self.objective.losses(
            self.ema_network, images, labels, draws, False
        )
        self.validation_batches.assign_add(1)
        return self.progress.record(losses, t)


def _reported(logs):
    """Logs as Keras takes them from a replica: of several processes it takes
    the mean over an axis, which scalars lack."""
    if not spans_processes():
        return logs
    return {
        name: ops.reshape(ops.cast(value, "float32"), (1,))
        for name, value in logs.items()
    }


def _mapping(lists, values):
    """Pairs of variables and values, for a `keras.StatelessScope`."""
    return [
        pair
        for variables, state in zip(lists, values, strict=True)
        for pair in zip(variables, state, strict=True)
    ]


def _current(scope, variables):
    return [scope.get_current_value(variable) for variable in variables]
