"""compat="diffusers" against diffusers' own schedulers, step by step."""

import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from sampler_cases import compiled_sample

from keras_unet_diffusion.diffusion import (
    ImagePrediction,
    LinearSchedule,
    NoisePrediction,
    VelocityPrediction,
)
from keras_unet_diffusion.samplers import (
    DDIM,
    DDPM,
    LMS,
    DPMSolverPP,
    Euler,
    EulerAncestral,
    Heun,
    KarrasGrid,
    LeadingGrid,
    LinspaceGrid,
    StaticThresholding,
    TrailingGrid,
    UniPC,
)

diffusers = pytest.importorskip("diffusers")
torch = pytest.importorskip("torch")

SCHEDULE = LinearSchedule()
PREDICTIONS = {
    "epsilon": NoisePrediction(),
    "sample": ImagePrediction(),
    "v_prediction": VelocityPrediction(),
}
GRIDS = {
    "leading": LeadingGrid(),
    "linspace": LinspaceGrid(),
    "trailing": TrailingGrid(),
}
LINEAR = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
UNCLIPPED = {"clip_sample": False}
# Name of the scheduler, its options, and our sampler of a grid.
PAIRS = {
    "ddim": (
        "DDIMScheduler",
        UNCLIPPED,
        lambda **x: DDIM(thresholding=None, **x),
    ),
    "ddim_clipped": (
        "DDIMScheduler",
        {"clip_sample": True},
        lambda **x: DDIM(thresholding=StaticThresholding(), **x),
    ),
    "euler": ("EulerDiscreteScheduler", {}, Euler),
    "heun": ("HeunDiscreteScheduler", {}, Heun),
    "dpm_solver_1": (
        "DPMSolverMultistepScheduler",
        {"solver_order": 1},
        lambda **x: DPMSolverPP(order=1, **x),
    ),
    "dpm_solver_2": (
        "DPMSolverMultistepScheduler",
        {"solver_order": 2},
        lambda **x: DPMSolverPP(order=2, **x),
    ),
    "dpm_solver_3": (
        "DPMSolverMultistepScheduler",
        {"solver_order": 3},
        lambda **x: DPMSolverPP(order=3, **x),
    ),
    "unipc_2": (
        "UniPCMultistepScheduler",
        {"solver_order": 2},
        lambda **x: UniPC(order=2, **x),
    ),
    "unipc_3": (
        "UniPCMultistepScheduler",
        {"solver_order": 3},
        lambda **x: UniPC(order=3, **x),
    ),
    "lms": ("LMSDiscreteScheduler", {}, LMS),
}
# Draw noise in every step.
NOISY_PAIRS = {
    "ddpm_small": (
        "DDPMScheduler",
        UNCLIPPED | {"variance_type": "fixed_small"},
        lambda **x: DDPM("fixed_small", thresholding=None, **x),
    ),
    "ddpm_large": (
        "DDPMScheduler",
        UNCLIPPED | {"variance_type": "fixed_large"},
        lambda **x: DDPM("fixed_large", thresholding=None, **x),
    ),
    "ddpm_clipped": (
        "DDPMScheduler",
        {"clip_sample": True},
        lambda **x: DDPM(thresholding=StaticThresholding(), **x),
    ),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}, EulerAncestral),
    "dpm_solver_sde": (
        "DPMSolverMultistepScheduler",
        {"solver_order": 2, "algorithm_type": "sde-dpmsolver++"},
        lambda **x: DPMSolverPP(order=2, stochastic=True, **x),
    ),
}
# 13 and 30 do not divide 1,000.
STEPS = (5, 10, 13, 30)
X_1 = np.linspace(-2, 2, 12).reshape(3, 2, 2, 1)


def network(x, step, library):
    """A smooth function of images and step numbers, in either library."""
    return 0.6 * library.sin(1.3 * x + 0.002 * step) + 0.3 * x


def ours(make, grid, prediction, num_steps, noises=None):
    sampler = make(grid=grid, compat="diffusers")

    def denoise(x_t, point):
        step = point.t * SCHEDULE.num_timesteps - 1
        predicted = network(x_t, step, ops)
        return prediction.split(x_t, predicted, point.alpha, point.sigma)

    draw_noise = None
    if noises is not None:
        noises = tf.constant(noises)

        def draw_noise(i, k):
            return noises[i]

    run = compiled_sample(sampler, denoise, SCHEDULE, draw_noise)
    return run(X_1, num_steps).numpy()


@pytest.fixture
def double(monkeypatch):
    """Has diffusers compute in float64 wherever it asks torch for float32."""
    monkeypatch.setattr(torch, "float32", torch.float64)
    return monkeypatch


def theirs(name, options, prediction, num_steps, noises, monkeypatch):
    kind = getattr(diffusers, name)
    scheduler = kind(**LINEAR, prediction_type=prediction, **options)
    scheduler.set_timesteps(num_steps)
    x = torch.tensor(X_1, dtype=torch.float64) * scheduler.init_noise_sigma
    if noises is not None:
        drawn = iter([torch.tensor(x) for x in noises])
        module = __import__(kind.__module__, fromlist=["randn_tensor"])
        monkeypatch.setattr(
            module, "randn_tensor", lambda *args, **kwargs: next(drawn)
        )
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t)
        predicted = network(scaled, float(t), torch)
        x = scheduler.step(predicted, t, x).prev_sample.to(torch.float64)
    return x.numpy()


def check(pair, spacing, num_steps, prediction, monkeypatch):
    name, options, make = pair
    noises = None
    if pair in NOISY_PAIRS.values():
        random = np.random.default_rng(0)
        noises = random.standard_normal((num_steps, *X_1.shape))
    if spacing == "karras":
        grid, options = KarrasGrid(), options | {"use_karras_sigmas": True}
    else:
        grid = GRIDS[spacing]
        options = options | {"timestep_spacing": spacing}
    expected = theirs(name, options, prediction, num_steps, noises, monkeypatch)
    images = ours(make, grid, PREDICTIONS[prediction], num_steps, noises)
    # Some of its tables are numpy's float32 still: a few roundings of 6e-8.
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(images, expected, atol=5e-6 * scale)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("spacing", GRIDS)
@pytest.mark.parametrize("pair", PAIRS | NOISY_PAIRS)
def test_all_steps_are_those_of_diffusers(pair, spacing, prediction, double):
    for num_steps in STEPS:
        check(
            (PAIRS | NOISY_PAIRS)[pair],
            spacing,
            num_steps,
            prediction,
            double,
        )


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("pair", ["euler", "dpm_solver_2", "unipc_2", "lms"])
def test_all_steps_on_karras_grids_are_those_of_diffusers(
    pair, prediction, double
):
    for num_steps in STEPS:
        check(PAIRS[pair], "karras", num_steps, prediction, double)
