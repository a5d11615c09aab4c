"""A small model that keeps averages, for what stores them."""

import types

import keras
import numpy as np

from keras_unet_diffusion.training.averaging import PowerFunctionAverage
from keras_unet_diffusion.training.snapshots import StoreSnapshots

STEPS_PER_EPOCH = 5
BOTH = (PowerFunctionAverage(0.05), PowerFunctionAverage(0.1))


def small_network():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])


class AveragedModel(keras.Model):
    """A linear model that keeps averages as `DiffusionModel` does."""

    def __init__(self, averages=BOTH):
        super().__init__()
        self.network = small_network()
        self.averages = averages
        self.averaged_networks = [small_network() for _ in averages]
        for network in self.averaged_networks:
            network.trainable = False
        self.seen = []
        self.compile(keras.optimizers.SGD(0.3), "mse")
        self.updates = types.SimpleNamespace(
            num_updates=self.optimizer.iterations
        )

    def call(self, inputs):
        return self.network(inputs)

    def train_step(self, data):
        logs = super().train_step(data)
        for average, network in zip(
            self.averages, self.averaged_networks, strict=True
        ):
            average.update(
                network.weights,
                self.network.weights,
                self.optimizer.iterations - 1,
            )
        return logs


class RememberWeights(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        self.model.seen.append(self.model.network.get_weights())


def train(model, callback, epochs, initial_epoch=0):
    random = np.random.default_rng(initial_epoch)
    inputs = random.normal(size=(STEPS_PER_EPOCH * epochs, 3))
    targets = random.normal(size=(STEPS_PER_EPOCH * epochs, 2))
    model.fit(
        inputs,
        targets,
        batch_size=epochs,
        epochs=epochs + initial_epoch,
        initial_epoch=initial_epoch,
        callbacks=[RememberWeights(), callback],
        verbose=0,
    )
    return model


def stored_once(workdir, weights, dtype="float32", step=3, epoch=0, **options):
    """Stores an average of these values, without training."""
    network = types.SimpleNamespace(weights=weights)
    callback = StoreSnapshots(workdir, dtype=dtype, **options)
    callback.set_model(
        types.SimpleNamespace(
            averages=BOTH[:1],
            averaged_networks=[network],
            updates=types.SimpleNamespace(num_updates=keras.Variable(step)),
        )
    )
    callback.on_epoch_end(epoch)


def names(workdir):
    return sorted(path.name for path in (workdir / "snapshots").iterdir())
