"""How a small error in each step grows over the steps, by sampler."""

import itertools

import numpy as np
from keras import ops

from keras_unet_diffusion import noise as random_numbers
from keras_unet_diffusion.backends import compiled, in_float64
from keras_unet_diffusion.network_calls import NetworkCalls
from keras_unet_diffusion.samplers import (
    DDIM,
    DDPM,
    DPMSolverPP,
    Estimate,
    Heun,
    Path,
    UniPC,
    advance,
    start,
)
from keras_unet_diffusion.studies.budget import BASELINE
from keras_unet_diffusion.studies.figures import (
    draw_lines,
    label_axes,
    new_figure,
    use_log_scale,
)
from keras_unet_diffusion.studies.report import Result

# Unbounded, as bounds hide errors; and with the usual bounds.
SAMPLERS = {
    "DDIM": DDIM(thresholding=None),
    "DDIM, clipped": DDIM(),
    "DDPM": DDPM(thresholding=None),
    "DDPM, clipped": DDPM(),
    "Heun": Heun(),
    "DPM-Solver++ 2": DPMSolverPP(order=2),
    "UniPC": UniPC(),
}
# Deviation of what is added to each prediction of the noise.
ERROR = 0.01
_NUM_STEPS = (10, 20, 40)
_SHOWN_STEPS = 20
_NUM_IMAGES = 16
# Of the network in one step of any sampler here.
_MAX_CALLS = 2


def variants(budget):
    """The network that all samplers call, a list."""
    return [BASELINE]


def run(laboratory):
    """Measures how far two ways from the same noise come apart.

    On one of them, each prediction of the noise is off by noise of deviation
    0.01. Both draw the same noise where a sampler draws some.

    Args:
        laboratory: a `Laboratory`.

    Returns:
        A `Result`: root mean square differences over that deviation.
    """
    trained = laboratory.train(BASELINE)
    process = laboratory.validation.process
    calls = NetworkCalls(
        trained.network, process, lambda network: trained.predict
    )
    shape = (_NUM_IMAGES, *trained.network.output.shape[1:])
    rows, curves = [], {}
    for name, sampler in SAMPLERS.items():
        growth = ErrorGrowth(
            sampler,
            lambda x_t, point, x_0: calls.conditional(x_t, point),
            process.schedule,
            [trained.network],
        )
        found = [
            [growth.measure(shape, n, seed) for n in _NUM_STEPS]
            for seed, _ in enumerate(trained.of_each_seed())
        ]
        shown = _NUM_STEPS.index(_SHOWN_STEPS)
        curves[name] = [of_seed[shown] for of_seed in found]
        ends = np.array([[curve[-1] for curve in each] for each in found])
        rows.append([name, *ends.T])
        laboratory.report(f"{name}: {ends.mean(axis=0).round(2)}")
    return Result(
        "accumulation",
        (
            "sampler",
            *(f"{n} steps: final error / error per step" for n in _NUM_STEPS),
        ),
        rows,
        {"curves": curves, "error": ERROR},
    )


class ErrorGrowth:
    """How far a way with errors and one without come apart, step by step.

    Args:
        sampler: a `Sampler`.
        denoise: function `(x_t, point, x_0) -> Estimate` of batches of any
            size, see `advance`.
        schedule: the `Schedule`.
        networks: all `keras.Model`s that `denoise` calls; their weights are
            read in each step.
    """

    def __init__(self, sampler, denoise, schedule, networks=()):
        self.sampler = sampler
        self.denoise = denoise
        self.schedule = schedule
        self.networks = networks
        self._function = None

    @in_float64
    def measure(self, shape, num_steps, seed=0):
        """Goes both ways, from the same noise.

        Args:
            shape: of the images, `(images, height, width, channels)`.
            num_steps: int >= 1.
            seed: int, of all noise.

        Returns:
            float64 array `(num_steps,)`: root mean square of the difference
            of x_t after each step, over the deviation of the error in each
            prediction of the noise.
        """
        seed = ops.cast(seed, "int64")
        num_steps = ops.cast(num_steps, "int32")
        path = Path(self.schedule, self.sampler, num_steps, "float64")
        noise = _twice(_draw(seed, 0, shape[0], shape[1:]))
        variables = start(self.sampler, self.sampler.initial(noise, path))
        differences = []
        for step in range(int(num_steps)):
            inputs = {
                "variables": variables,
                "step": ops.cast(step, "int32"),
                "num_steps": num_steps,
                "seed": seed,
            }
            if self._function is None:
                self._function = compiled(self._step, inputs, self.networks)
            variables = self._function(inputs)
            exact, other = np.split(np.asarray(variables[0]), 2)
            differences.append(np.sqrt(np.mean((other - exact) ** 2)))
        return np.array(differences) / ERROR

    def _step(self, inputs):
        """One step of both ways, which are the halves of the batch."""
        variables, step = inputs["variables"], inputs["step"]
        num_images = ops.shape(variables[0])[0] // 2
        shape = variables[0].shape[1:]
        errors = itertools.count()

        def draw(k):
            # Streams of a step: two for its errors, then those of its noise.
            stream = 1 + 64 * ops.cast(step, "int64") + k
            return _draw(inputs["seed"], stream, num_images, shape)

        def disturbed(x_t, point, x_0):
            estimate = Estimate(*self.denoise(x_t, point, x_0))
            # Two calls in a step have two errors, however often it is traced.
            error = ERROR * draw(next(errors) % _MAX_CALLS)
            error = ops.concatenate([ops.zeros_like(error), error], axis=0)
            # The pair that fits to x_t, as if the network had predicted it.
            _, alpha, sigma = point.of_images()
            return Estimate(
                estimate.x_0 - sigma / alpha * error, estimate.noise + error
            )

        return advance(
            self.sampler,
            disturbed,
            variables,
            Path(self.schedule, self.sampler, inputs["num_steps"], "float64"),
            step,
            step + 1,
            lambda step, k: _twice(draw(_MAX_CALLS + k)),
        )


def _draw(seed, stream, num_images, shape):
    noise = random_numbers.normal_images(seed, stream, num_images, tuple(shape))
    return ops.cast(noise, "float64")


def _twice(x):
    return ops.concatenate([x, x], axis=0)


def draw(result):
    """Draws the `Result`: growth over the steps, and with their number."""
    series = result.series
    figure, (by_step,) = new_figure(1, height=3.4)
    use_log_scale(by_step)
    steps = np.arange(1, _SHOWN_STEPS + 1)
    by_step.set_xticks(steps[3::4])
    draw_lines(by_step, steps, series["curves"])
    label_axes(
        by_step,
        f"sampling step, of {_SHOWN_STEPS}",
        "difference of x_t / error of one prediction",
    )
    return figure
