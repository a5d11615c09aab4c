"""Callbacks that go with `DiffusionModel.fit`."""

import abc
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_unet_diffusion.data.pixels import image_grid, save_png
from keras_unet_diffusion.training.checkpoints import (
    checkpoint_path,
    keep_newest,
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
        # Here, because validation comes before the end of the epoch.
        self.seconds = time.perf_counter() - self.began

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            rate = self.num_batches * self.batch_size / self.seconds
            logs["images_per_second"] = rate


def _check_count(name, count):
    if count < 1:
        raise ValueError(
            f"{name} must be at least 1. Received: {name}={count}. Pass a "
            "positive whole number."
        )


class _EveryEpochs(keras.callbacks.Callback, abc.ABC):
    """Does something after every so many epochs. Abstract.

    Args:
        every_epochs: int >= 1.
        batches_done: int >= 0. Batches of the first epoch that were trained
            on before `fit`.
    """

    def __init__(self, every_epochs, batches_done):
        super().__init__()
        _check_count("every_epochs", every_epochs)
        self.every_epochs = every_epochs
        self.batches_done = batches_done

    def on_train_batch_end(self, batch, logs=None):
        # Not params["steps"]: it is None for a dataset of unknown length.
        self.num_batches = self.batches_done + batch + 1

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every_epochs == 0:
            self.act(epoch, (epoch + 1) * self.num_batches)
        self.batches_done = 0

    @abc.abstractmethod
    def act(self, epoch, step):
        """Does it, after epoch number `epoch`, from 0, and `step` steps."""


class SampleGrid(_EveryEpochs):
    """Writes a grid of samples, always from the same seed, now and then.

    Args:
        folder: for `step_<n>.png`; None for none.
        log_dir: for TensorBoard; None for none.
        every_epochs: int >= 1.
        num_images: int >= 1.
        num_columns: int >= 1; None for a square grid.
        num_steps: int, sampling steps.
        seed: int.
        sampler: a sampler or its name, see `DiffusionModel.generate`.
        batch_size: int >= 1, images made at once; None for all.
        image_size: int, in pixels, for a network of any size.
        batches_done: int >= 0. Batches of the first epoch that were trained
            on before `fit`.
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
        sampler="ddim",
        batch_size=None,
        image_size=None,
        batches_done=0,
    ):
        super().__init__(every_epochs, batches_done)
        self.folder = folder
        self.log_dir = log_dir
        self.num_images = num_images
        self.num_columns = num_columns
        self.num_steps = num_steps
        self.seed = seed
        self.sampler = sampler
        self.batch_size = batch_size
        self.image_size = image_size

    def act(self, epoch, step):
        images = self.model.generate(
            self.num_images,
            num_steps=self.num_steps,
            seed=self.seed,
            sampler=self.sampler,
            batch_size=self.batch_size,
            image_size=self.image_size,
        )
        grid = image_grid(images, self.num_columns)
        if self.folder is not None:
            save_png(Path(self.folder) / f"step_{step:08d}.png", grid)
        if self.log_dir is not None:
            writer = tf.summary.create_file_writer(str(self.log_dir))
            with writer.as_default(step=epoch):
                tf.summary.image("samples", grid[np.newaxis])
            writer.close()


class SaveCheckpoints(_EveryEpochs):
    """Saves the whole model now and then, and keeps the newest files.

    Args:
        workdir: checkpoints go to `workdir/checkpoints`.
        every_epochs: int >= 1.
        keep: int >= 1. Checkpoints that are kept.
        batches_done: int >= 0. Batches of the first epoch that were trained
            on before `fit`.
    """

    def __init__(self, workdir, every_epochs=1, keep=2, batches_done=0):
        super().__init__(every_epochs, batches_done)
        _check_count("keep", keep)
        self.workdir = workdir
        self.keep = keep

    def act(self, epoch, step):
        save_model(self.model, checkpoint_path(self.workdir, step))
        keep_newest(self.workdir, self.keep)
