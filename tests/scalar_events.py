"""What the tests of logging share: a model that counts, files read back."""

from types import SimpleNamespace

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable(package="scalar_events")
class CountingModel(keras.Sequential):
    """Trains at once, and counts its steps as a `DiffusionModel` does."""

    @property
    def updates(self):
        return SimpleNamespace(steps_taken=self.optimizer.iterations)


def counting_model(optimizer=None, **options):
    """A compiled model of two weights."""
    model = CountingModel(
        [keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="ones")]
    )
    model.compile(optimizer or keras.optimizers.SGD(0.01), "mse", **options)
    return model


def fit(model, callbacks, epochs, initial_epoch=0):
    """Three steps of four rows in each epoch, and validation."""
    rows = np.arange(24, dtype="float32").reshape(12, 2) / 24
    return model.fit(
        rows,
        rows[:, :1],
        batch_size=4,
        shuffle=False,
        epochs=epochs,
        initial_epoch=initial_epoch,
        validation_data=(rows, rows[:, 1:]),
        callbacks=callbacks,
        verbose=0,
    )


def values_in(folder):
    """All values directly in a folder's files: `(step, tag, tensor)`."""
    return [
        (event.step, value.tag, value)
        for path in sorted(folder.glob("events.out.tfevents.*"))
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    ]


def scalars_in(folder, tag):
    """Pairs of step and value of a scalar, in the order of the files."""
    return [
        (step, tf.make_ndarray(value.tensor).item())
        for step, found, value in values_in(folder)
        if found == tag
    ]
