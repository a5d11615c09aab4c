"""Callbacks that go with `DiffusionModel.fit`."""

import abc
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_unet_diffusion.data.pixels import image_grid, save_png


class ImagesPerSecond(keras.callbacks.Callback):
    """Adds `images_per_second` to the logs of batches and epochs.

    It is the mean of the epoch so far, of training alone: validation and what
    callbacks do at the end of an epoch are not in it. The first execution of
    each `fit`, which traces and compiles, is left out, so it has no rate, nor
    has an epoch of that execution alone. Put it before the callbacks that
    write the logs; Keras's progress bar comes after all of them and shows the
    latest rate as it is. With `steps_per_execution` it costs one look at the
    clock for that many steps.

    Args:
        batch_size: int >= 1, images per training step.
    """

    # Else Keras on JAX would wait for each step. From other threads, the calls
    # after batches may come in any order.
    async_safe = True

    def __init__(self, batch_size):
        super().__init__()
        check_count("batch_size", batch_size)
        self.batch_size = batch_size

    def on_train_begin(self, logs=None):
        self.is_compiled = False

    def on_epoch_begin(self, epoch, logs=None):
        self.rate = None
        self.num_left_out = self.num_seen = 0
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        now = time.perf_counter()
        if not self.is_compiled:
            self.is_compiled = True
            self.num_left_out = self.num_seen = batch + 1
            self.began = now
        elif batch + 1 > self.num_seen:
            self.num_seen = batch + 1
            num_images = (self.num_seen - self.num_left_out) * self.batch_size
            self.rate = num_images / (now - self.began)
        self._add_to(logs)

    def on_epoch_end(self, epoch, logs=None):
        self._add_to(logs)

    def _add_to(self, logs):
        if logs is not None and self.rate is not None:
            logs["images_per_second"] = self.rate


def check_count(name, count):
    """Raises a `ValueError` for a count below 1."""
    if count < 1:
        raise ValueError(
            f"{name} must be at least 1. Received: {name}={count}. Pass a "
            "positive whole number."
        )


class EveryEpochs(keras.callbacks.Callback, abc.ABC):
    """Does something after every so many epochs. Abstract.

    Args:
        every_epochs: int >= 1.
        batches_done: int >= 0. Batches of the first epoch that were trained
            on before `fit`.
    """

    # As with ImagesPerSecond: it only counts.
    async_safe = True

    def __init__(self, every_epochs, batches_done):
        super().__init__()
        check_count("every_epochs", every_epochs)
        self.every_epochs = every_epochs
        self.batches_done = batches_done

    def on_epoch_begin(self, epoch, logs=None):
        self.num_batches = self.batches_done

    def on_train_batch_end(self, batch, logs=None):
        # Not params["steps"]: it is None for a dataset of unknown length.
        so_far = self.batches_done + batch + 1
        self.num_batches = max(self.num_batches, so_far)

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every_epochs == 0:
            self.act(epoch, (epoch + 1) * self.num_batches)
        self.batches_done = 0

    @abc.abstractmethod
    def act(self, epoch, step):
        """Does it, after epoch number `epoch`, from 0, and `step` steps."""


class SampleGrid(EveryEpochs):
    """Writes a grid of samples, always from the same seed, now and then.

    Args:
        folder: for `step_<n>.png`; None for none.
        log_dir: for TensorBoard, where its x is the step; None for none.
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
        self._writer = None

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
            if self._writer is None:
                self._writer = tf.summary.create_file_writer(str(self.log_dir))
            with self._writer.as_default(step=step):
                tf.summary.image("samples", grid[np.newaxis])
            self._writer.flush()

    def on_train_end(self, logs=None):
        if self._writer is not None:
            self._writer.close()
            self._writer = None
