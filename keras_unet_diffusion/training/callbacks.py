"""Callbacks that go with `DiffusionModel.fit`."""

import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_unet_diffusion.data.pixels import image_grid, save_png
from keras_unet_diffusion.training.checkpoints import (
    checkpoint_path,
    list_checkpoints,
    save_model,
)


class ImagesPerSecond(keras.callbacks.Callback):
    """Adds `images_per_second` to the logs of each epoch.

    The first epoch of a `fit` includes tracing and compiling. Put it before
    the callbacks that write the logs.

    Args:
        batch_size: int, images per training step.
    """

    def __init__(self, batch_size):
        super().__init__()
        self.batch_size = batch_size

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.perf_counter()
        self.num_batches = 0

    def on_train_batch_end(self, batch, logs=None):
        self.num_batches = batch + 1

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            seconds = time.perf_counter() - self.began
            rate = self.num_batches * self.batch_size / seconds
            logs["images_per_second"] = rate


class SampleGrid(keras.callbacks.Callback):
    """Writes a grid of samples, always from the same seed, now and then.

    Args:
        folder: for `step_<n>.png`; None for none.
        log_dir: for TensorBoard; None for none.
        every_epochs: int >= 1.
        num_images: int >= 1.
        num_columns: int >= 1; None for a square grid.
        num_steps: int, sampling steps.
        seed: int.
    """

    def __init__(
        self,
        folder=None,
        log_dir=None,
        every_epochs=1,
        num_images=16,
        num_columns=None,
        num_steps=50,
        seed=0,
    ):
        super().__init__()
        self.folder = folder
        self.log_dir = log_dir
        self.every_epochs = every_epochs
        self.num_images = num_images
        self.num_columns = num_columns
        self.num_steps = num_steps
        self.seed = seed

    def on_train_batch_end(self, batch, logs=None):
        # Not params["steps"]: it is None for a dataset of unknown length.
        self.num_batches = batch + 1

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every_epochs:
            return
        images = self.model.generate(
            self.num_images, num_steps=self.num_steps, seed=self.seed
        )
        grid = image_grid(images, self.num_columns)
        step = (epoch + 1) * self.num_batches
        if self.folder is not None:
            save_png(Path(self.folder) / f"step_{step:08d}.png", grid)
        if self.log_dir is not None:
            writer = tf.summary.create_file_writer(str(self.log_dir))
            with writer.as_default(step=epoch):
                tf.summary.image("samples", grid[np.newaxis])
            writer.close()


class SaveCheckpoints(keras.callbacks.Callback):
    """Saves the whole model now and then, and keeps the newest files.

    Args:
        workdir: checkpoints go to `workdir/checkpoints`.
        every_epochs: int >= 1.
        keep: int >= 1. Checkpoints that are kept.
    """

    def __init__(self, workdir, every_epochs=1, keep=2):
        super().__init__()
        self.workdir = workdir
        self.every_epochs = every_epochs
        self.keep = keep

    def on_train_batch_end(self, batch, logs=None):
        # Not params["steps"]: it is None for a dataset of unknown length.
        self.num_batches = batch + 1

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every_epochs:
            return
        step = (epoch + 1) * self.num_batches
        save_model(self.model, checkpoint_path(self.workdir, step))
        for _, path in list_checkpoints(self.workdir)[: -self.keep]:
            path.unlink()
