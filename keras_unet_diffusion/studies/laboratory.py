"""Where the networks of the studies are trained and measured, all alike."""

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_unet_diffusion.data import (
    decode_source,
    image_dataset,
    open_source,
)
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
from keras_unet_diffusion.studies.training_files import (
    Training,
    TrainingFiles,
)
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
        folder: path where trained networks are kept, and found again by a
            laboratory of the same budget; None to keep none.

    Example:

    ```python
    laboratory = Laboratory(DIGITS)
    laboratory.train(variant("added", skip_connections="add")).loss
    ```
    """

    def __init__(self, budget, report=print, folder=None):
        self.budget = budget
        self.report = report
        self.validation = _validation(budget)
        self._source = decode_source(
            open_source(budget.source),
            budget.image_size,
            budget.image_channels,
        )
        self._files = TrainingFiles(folder, budget, report)
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
        network = variant.build(budget, width)
        predict = network_function(network)
        initial, trainings, course = [], [], None
        for seed in budget.seeds:
            keras.utils.set_random_seed(seed)
            initial.append(variant.build(budget, width).get_weights())
            training = self._files.load(variant, width, seed)
            if training is None:
                course = course or _Course(
                    budget, self._source, variant.build(budget, width)
                )
                training = self._measure(
                    course, network, predict, initial[-1], seed
                )
                self._files.save(variant, width, seed, training)
            trainings.append(training)
            self.report(
                f"{variant.name}, seed {seed}: loss "
                f"{training.losses.mean():.4f}"
            )
        return Trained(
            variant,
            network,
            predict,
            budget.seeds,
            initial,
            weights=[x.weights for x in trainings],
            losses=np.array([x.losses for x in trainings]),
            bands=np.array([x.bands for x in trainings]),
            checks=np.array([x.checks for x in trainings]),
        )

    def _measure(self, course, network, predict, initial, seed):
        """Trains once and measures; returns a `Training`."""
        checks = []

        def look(weights):
            network.set_weights(weights)
            errors = self.validation.errors(predict)
            checks.append(loss_by_time(errors).mean())

        weights = course.run(initial, seed, look)
        network.set_weights(weights)
        errors = self.validation.errors(predict)
        bands = band_power(errors, self.budget.num_levels).mean(axis=1)
        return Training(weights, loss_by_time(errors), bands, np.array(checks))


class _Course:
    """Trains one network again and again, each time from other weights.

    Args:
        budget: a `Budget`.
        source: opened source of the images.
        network: the `keras.Model`; its own weights do not matter.
    """

    def __init__(self, budget, source, network):
        self.budget = budget
        self.source = source
        self.model = DiffusionModel(network, seed=0)
        self.model.compile(FusedAdam(budget.learning_rate))
        self._fresh = [
            (x, x.numpy())
            for x in (
                *self.model.optimizer.variables,
                *self.model.updates.variables,
            )
        ]

    def run(self, initial, seed, look):
        """Trains once.

        Args:
            initial: list of weights to begin with.
            seed: int.
            look: function of the averaged weights, called after each of the
                budget's equal parts.

        Returns:
            The averaged weights in the end.
        """
        model, budget = self.model, self.budget
        for state, value in self._fresh:
            state.assign(value)
        for each in (model.network, model.ema_network):
            each.set_weights(initial)
        # Of the noise of an image the number of its update decides.
        model.updates.steps_taken.assign(seed * _UPDATES_BETWEEN_SEEDS)

        def after_part(epoch, logs=None):
            look(model.ema_network.get_weights())

        model.fit(
            image_dataset(
                self.source,
                budget.image_size,
                budget.image_channels,
                budget.batch_size,
                repeat=True,
                seed=seed,
            ),
            epochs=budget.num_checks,
            steps_per_epoch=budget.train_steps // budget.num_checks,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=after_part)],
            verbose=0,
            # Keras would warn that it cannot shuffle what is shuffled.
            shuffle=False,
        )
        return model.ema_network.get_weights()


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
    if len(images) < budget.validation_images:
        raise ValueError(
            "There are fewer held-out images than the budget asks for. "
            f"Received: validation_images={budget.validation_images}, and "
            f"{len(images)} in the split 'test' of {budget.source}. Ask for "
            "that many, or add images."
        )
    random = np.random.default_rng(_NOISE_SEED)
    noise = random.standard_normal(images.shape, dtype="float32")
    edges = np.linspace(0, 1, budget.num_noise_levels + 1)
    return Validation(
        np.asarray(images),
        noise,
        (edges[:-1] + edges[1:]) / 2,
        DiffusionProcess(),
    )
