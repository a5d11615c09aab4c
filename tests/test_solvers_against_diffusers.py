"""compat="diffusers" of the solvers, for images that a denoiser could make.

The network is the optimal one of a mixture of two Gaussians, so nothing grows
without bound and float32 rounding stays small.
"""

import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from sampler_cases import compiled_sample
from scipy import special

from keras_unet_diffusion.diffusion import (
    FlowSchedule,
    ImagePrediction,
    LinearSchedule,
    NoisePrediction,
    VelocityPrediction,
)
from keras_unet_diffusion.samplers import (
    DPMSolverPP,
    FlowEuler,
    Heun,
    KarrasGrid,
    LeadingGrid,
    LinspaceGrid,
    TrailingGrid,
    UniPC,
)

diffusers = pytest.importorskip("diffusers")
torch = pytest.importorskip("torch")

SCHEDULE = LinearSchedule()
X_1 = np.linspace(-2, 2, 12).reshape(3, 2, 2, 1)
STEPS = (5, 10, 13, 30)
NOISES = np.random.default_rng(0).standard_normal((max(STEPS), *X_1.shape))
LOG_SNRS = SCHEDULE.log_snrs[1:]
GRIDS = {
    "leading": LeadingGrid(),
    "linspace": LinspaceGrid(),
    "trailing": TrailingGrid(),
    "karras": KarrasGrid(),
}
PREDICTIONS = {
    "epsilon": NoisePrediction(),
    "sample": ImagePrediction(),
    "v_prediction": VelocityPrediction(),
}
MULTISTEP = "DPMSolverMultistepScheduler"
SDE = {"algorithm_type": "sde-dpmsolver++"}
# Our sampler, the scheduler of diffusers and its options.
PAIRS = {
    "heun": (Heun, {}, "HeunDiscreteScheduler", {}),
    **{
        f"dpm_solver_{order}{'_sde' if sde else ''}": (
            DPMSolverPP,
            {"order": order, "stochastic": bool(sde)},
            MULTISTEP,
            {"solver_order": order} | sde,
        )
        for order in (1, 2, 3)
        for sde in ({}, SDE)
    },
    **{
        f"unipc_{order}": (
            UniPC,
            {"order": order},
            "UniPCMultistepScheduler",
            {"solver_order": order},
        )
        for order in (1, 2, 3)
    },
}


def predicted(x, alpha, sigma, kind, library):
    """What the optimal network of centres +-0.6, width 0.3, predicts."""
    variance = (0.3 * alpha) ** 2 + sigma**2
    centre = 0.6 * library.tanh(0.6 * alpha * x / variance)
    x_0 = centre + alpha * 0.3**2 / variance * (x - alpha * centre)
    noise = (x - alpha * x_0) / sigma
    return {
        "epsilon": noise,
        "sample": x_0,
        "v_prediction": alpha * noise - sigma * x_0,
        "flow": noise - x_0,
    }[kind]


def compiled(sampler, kind):
    """Our samples as a graph of noise and number of steps, and the noises."""

    def denoise(x_t, point):
        # Alpha and sigma of the step's number, all that diffusers passes on.
        alpha, sigma = SCHEDULE.alpha(point.t), SCHEDULE.sigma(point.t)
        output = predicted(x_t, alpha, sigma, kind, ops)
        return PREDICTIONS[kind].split(x_t, output, point.alpha, point.sigma)

    drawn = tf.constant(NOISES)
    return compiled_sample(sampler, denoise, SCHEDULE, lambda i, k: drawn[i])


def theirs(name, options, kind, num_steps):
    scheduler = getattr(diffusers, name)(
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        prediction_type=kind,
        **options,
    )
    scheduler.set_timesteps(num_steps)
    x = torch.tensor(X_1) * scheduler.init_noise_sigma
    for i, t in enumerate(scheduler.timesteps):
        # Between two steps, as Heun stands, the log-SNR is linear.
        log_snr = np.interp(float(t) + 1, np.arange(1, 1001), LOG_SNRS)
        alpha, sigma = np.sqrt(special.expit([log_snr, -log_snr]))
        scaled = scheduler.scale_model_input(x, t)
        output = predicted(scaled, alpha, sigma, kind, torch)
        extra = {}
        if name == MULTISTEP:
            extra = {"variance_noise": torch.tensor(NOISES[i])}
        x = scheduler.step(output, t, x, **extra).prev_sample.double()
    return x.numpy()


@pytest.mark.parametrize("kind", PREDICTIONS)
@pytest.mark.parametrize("spacing", GRIDS)
@pytest.mark.parametrize("pair", PAIRS)
def test_solvers_give_the_samples_of_diffusers(pair, spacing, kind):
    make, arguments, name, options = PAIRS[pair]
    if spacing == "karras":
        options = options | {"use_karras_sigmas": True}
    else:
        options = options | {"timestep_spacing": spacing}
    sampler = make(grid=GRIDS[spacing], compat="diffusers", **arguments)
    run = compiled(sampler, kind)
    for num_steps in STEPS:
        expected = theirs(name, options, kind, num_steps)
        images = run(X_1, num_steps).numpy()
        # diffusers' levels and x_t are float32. The first step multiplies the
        # rounding of x_t, 1e-7, by up to sigma / alpha = 157, and a few steps
        # add up: 8e-5 at most was seen.
        np.testing.assert_allclose(images, expected, atol=1e-4)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("num_steps", STEPS)
def test_flow_euler_gives_the_samples_of_diffusers(shift, num_steps):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(num_steps)
    x = torch.tensor(X_1)
    for t in scheduler.timesteps:
        sigma = float(t) / 1000
        output = predicted(x, 1 - sigma, sigma, "flow", torch)
        x = scheduler.step(output, t, x).prev_sample.double()

    def denoise(x_t, point):
        velocity = predicted(x_t, point.alpha, point.sigma, "flow", ops)
        return x_t - point.sigma * velocity, x_t + point.alpha * velocity

    schedule = FlowSchedule(shift=shift)
    run = compiled_sample(FlowEuler(compat="diffusers"), denoise, schedule)
    # Shares of noise are float32 in diffusers, 6e-8, and so is the sum of
    # x_t and its step.
    np.testing.assert_allclose(run(X_1, num_steps), x, atol=5e-6)
