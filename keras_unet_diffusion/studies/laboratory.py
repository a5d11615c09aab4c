"""Where the networks of the studies are trained and measured, all alike."""

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_unet_diffusion.data import image_dataset
from keras_unet_diffusion.diffusion import DiffusionProcess
from keras_unet_diffusion.flops import count_flops
from keras_unet_diffusion.generation import ImageGenerator
from keras_unet_diffusion.model import DiffusionModel
from keras_unet_diffusion.network_calls import network_function
from keras_unet_diffusion.studies.budget import (
    BASELINE,
    check_equal,
    equal_width,
)
from keras_unet_diffusion.studies.frequency import band_power
from keras_unet_diffusion.training import FusedAdam

# More than the updates of any run: no two seeds draw the same noise.
_UPDATES_BETWEEN_SEEDS = 2**20
_NOISE_SEED = 20200619


@dataclasses.dataclass(frozen=True)
class Validation:
    """Held-out images with noise on them, the same for all networks.

    Args:
        images: `(images, height, width, channels)`, pixels in [-1, 1].
        noise: standard normal, of that shape; the same at all times.
        times: `(times,)`, in (0, 1).
        process: the `DiffusionProcess`.
    """

    images: np.ndarray
    noise: np.ndarray
    times: np.ndarray
    process: Any

    def noisy(self, t):
        """What networks are called with at a time, a dict of arrays."""
        times = np.full(len(self.images), t, "float32")
        x_t = self.process.corrupt(self.images, self.noise, times)
        return {
            "noisy_images": np.asarray(self.process.network_input(x_t, times)),
            "noise_level": np.asarray(self.process.noise_level(times)),
        }

    def errors(self, predict):
        """What is wrong with the predictions of a network.

        Args:
            predict: function of the dict of its inputs.

        Returns:
            float32 array `(times, images, height, width, channels)`:
            prediction minus target.
        """
        found = []
        for t in self.times:
            times = np.full(len(self.images), t, "float32")
            target = self.process.target(self.images, self.noise, times)
            found.append(np.asarray(predict(self.noisy(t)) - target))
        return np.stack(found)


def loss_by_time(errors):
    """Mean square of errors at each time, `(times,)`."""
    return np.mean(np.square(errors, dtype="float64"), axis=(1, 2, 3, 4))


@dataclasses.dataclass
class Trained:
    """One network, trained once with each seed.

    Args:
        variant: the `Variant`.
        network: a `keras.Model` that has the weights of one seed at a time.
        predict: function of the dict of its inputs, compiled.
        seeds: tuple of ints.
        initial: list of lists of weights, one for each seed.
        weights: likewise after training, averaged.
        losses: array `(seeds, times)`, on held-out images.
        bands: array `(seeds, times, bands)`, of the same errors by frequency.
        checks: array `(seeds, checks)`, mean losses on the way.
    """

    variant: Any
    network: Any
    predict: Any
    seeds: tuple
    initial: list = dataclasses.field(default_factory=list)
    weights: list = dataclasses.field(default_factory=list)
    losses: Any = ()
    bands: Any = ()
    checks: Any = ()

    @property
    def name(self):
        return self.variant.name

    @property
    def parameters(self):
        return self.network.count_params()

    @property
    def flops(self):
        """Operations for one image, forward."""
        return count_flops(self.network)

    @property
    def loss(self):
        """Mean loss over the times, `(seeds,)`."""
        return self.losses.mean(axis=1)

    def of_each_seed(self):
        """Gives the network the weights of each seed in turn; yields it."""
        for weights in self.weights:
            self.network.set_weights(weights)
            yield self.network


class Laboratory:
    """Trains variants of a network on equal terms, each only once.

    Every variant sees the same images in the same order, with the same noise
    at the same times, for a seed; all are looked at with the same held-out
    images, noise and times, for all seeds. Changes the global seed of Keras.

    Args:
        budget: a `Budget`.
        report: function of a str, told what is being done.

    Example:

    ```python
    laboratory = Laboratory(DIGITS)
    laboratory.train(BASELINE).loss
    ```
    """

    def __init__(self, budget, report=print):
        self.budget = budget
        self.report = report
        self.validation = _validation(budget)
        self.parameters = BASELINE.build(budget).count_params()
        self._trained = {}

    def train(self, variant):
        """Trains a variant with each seed, or finds what it trained.

        Args:
            variant: a `Variant`.

        Returns:
            `Trained`.

        Raises:
            ValueError: it cannot be made of about as many parameters as the
                U-Net that all are compared with.
        """
        if variant not in self._trained:
            self._trained[variant] = self._train(variant)
        return dataclasses.replace(self._trained[variant], variant=variant)

    def train_all(self, variants):
        """`train` of each, a list; refused unless all are of equal size."""
        trained = [self.train(variant) for variant in variants]
        check_equal({x.name: x.parameters for x in trained}, self.parameters)
        return trained

    def sample(self, network, num_images=16, **options):
        """Images of a network from the same noise as those of any other."""
        generator = ImageGenerator(network, self.validation.process)
        return generator.generate(num_images, seed=0, **options)

    def _train(self, variant):
        budget = self.budget
        width = equal_width(variant, budget, self.parameters)
        model = DiffusionModel(variant.build(budget, width), seed=0)
        model.compile(FusedAdam(budget.learning_rate))
        network = model.ema_network
        predict = network_function(network)
        trained = Trained(variant, network, predict, budget.seeds)
        fresh = [
            (x, x.numpy())
            for x in (*model.optimizer.variables, *model.updates.variables)
        ]
        losses, bands, checks = [], [], []
        for seed in budget.seeds:
            for state, value in fresh:
                state.assign(value)
            keras.utils.set_random_seed(seed)
            initial = variant.build(budget, width).get_weights()
            for each in (model.network, network):
                each.set_weights(initial)
            trained.initial.append(initial)
            checks.append(self._fit(model, predict, seed))
            errors = self.validation.errors(predict)
            trained.weights.append(network.get_weights())
            losses.append(loss_by_time(errors))
            bands.append(band_power(errors, budget.num_levels).mean(axis=1))
            self.report(
                f"{variant.name}, seed {seed}: loss {losses[-1].mean():.4f}"
            )
        return dataclasses.replace(
            trained,
            losses=np.array(losses),
            bands=np.array(bands),
            checks=np.array(checks),
        )

    def _fit(self, model, predict, seed):
        """Trains once; returns mean losses on the way."""
        budget, found = self.budget, []
        # Of the noise of an image the number of its update decides.
        model.updates.steps_taken.assign(seed * _UPDATES_BETWEEN_SEEDS)

        def look(epoch, logs=None):
            errors = self.validation.errors(predict)
            found.append(loss_by_time(errors).mean())

        model.fit(
            image_dataset(
                budget.source,
                budget.image_size,
                budget.image_channels,
                budget.batch_size,
                repeat=True,
                seed=seed,
            ),
            epochs=budget.num_checks,
            steps_per_epoch=budget.train_steps // budget.num_checks,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=look)],
            verbose=0,
        )
        return found


def _validation(budget):
    """Held-out images, and the noise and the times for all networks."""
    dataset = image_dataset(
        budget.source,
        budget.image_size,
        budget.image_channels,
        budget.validation_images,
        split="test",
        shuffle=False,
    )
    images = next(iter(dataset))
    images = images[0] if isinstance(images, tuple) else images
    random = np.random.default_rng(_NOISE_SEED)
    noise = random.standard_normal(images.shape, dtype="float32")
    edges = np.linspace(0, 1, budget.num_noise_levels + 1)
    return Validation(
        np.asarray(images),
        noise,
        (edges[:-1] + edges[1:]) / 2,
        DiffusionProcess(),
    )
