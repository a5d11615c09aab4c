"""compat="diffusers" against diffusers' own schedulers, step by step."""

import functools

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
    DynamicThresholding,
    Estimate,
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
DYNAMIC = {
    "thresholding": True,
    "dynamic_thresholding_ratio": 0.6,
    "sample_max_value": 1.5,
}
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
    "ddim_dynamic": (
        "DDIMScheduler",
        UNCLIPPED | DYNAMIC,
        lambda **x: DDIM(thresholding=DynamicThresholding(0.6, 1.5), **x),
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
    **{
        f"ddpm_{variance}": (
            "DDPMScheduler",
            UNCLIPPED | {"variance_type": variance},
            functools.partial(DDPM, variance, thresholding=None),
        )
        for variance in (
            "fixed_small",
            "fixed_small_log",
            "fixed_large",
            "learned",
            "learned_range",
        )
    },
    **{
        f"ddim_{eta}": (
            "DDIMScheduler",
            UNCLIPPED,
            functools.partial(DDIM, eta, thresholding=None),
        )
        for eta in (0.5, 1.0)
    },
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
STEPS = (1, 5, 10, 13, 30, 50)
X_1 = np.linspace(-2, 2, 12).reshape(3, 2, 2, 1)
NOISES = np.random.default_rng(0).standard_normal((max(STEPS), *X_1.shape))


def network(x, step, library):
    """A smooth function of images and step numbers, in either library."""
    return 0.6 * library.sin(1.3 * x + 0.002 * step) + 0.3 * x


def told_variance(x, name, library):
    """What a network says of the variance: in [-1, 1], or itself."""
    if name == "learned_range":
        return library.sin(2 * x)
    return 0.02 + 0.01 * library.sin(x) if name == "learned" else None


def ours(sampler, prediction):
    """Our samples as a graph of noise and number of steps."""
    variance = getattr(sampler, "variance", None)

    def denoise(x_t, point):
        step = point.t * SCHEDULE.num_timesteps - 1
        predicted = network(x_t, step, ops)
        estimate = prediction.split(x_t, predicted, point.alpha, point.sigma)
        return Estimate(*estimate, told_variance(x_t, variance, ops))

    noises = tf.constant(NOISES)
    return compiled_sample(sampler, denoise, SCHEDULE, lambda i, k: noises[i])


@pytest.fixture
def double(monkeypatch):
    """Has diffusers compute in float64 wherever it asks torch for float32."""
    monkeypatch.setattr(torch, "float32", torch.float64)
    return monkeypatch


def theirs(name, options, prediction, num_steps, eta, monkeypatch):
    kind = getattr(diffusers, name)
    scheduler = kind(**LINEAR, prediction_type=prediction, **options)
    scheduler.set_timesteps(num_steps)
    # Channels are the second axis: only diffusers' split of them minds.
    x = torch.tensor(X_1).permute(0, 3, 1, 2) * scheduler.init_noise_sigma
    drawn = iter([torch.tensor(x).permute(0, 3, 1, 2) for x in NOISES])
    module = __import__(kind.__module__, fromlist=["randn_tensor"])
    if hasattr(module, "randn_tensor"):
        monkeypatch.setattr(
            module, "randn_tensor", lambda *args, **kwargs: next(drawn)
        )
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t)
        output = network(scaled, float(t), torch)
        told = told_variance(scaled, options.get("variance_type"), torch)
        if told is not None:
            output = torch.cat([output, told], 1)
        x = scheduler.step(output, t, x, **eta).prev_sample.to(torch.float64)
    return x.permute(0, 2, 3, 1).numpy()


def check(pair, spacing, prediction, monkeypatch, steps=STEPS):
    name, options, make = pair
    if spacing == "karras":
        grid, options = KarrasGrid(), options | {"use_karras_sigmas": True}
    else:
        grid = GRIDS[spacing]
        options = options | {"timestep_spacing": spacing}
    sampler = make(grid=grid, compat="diffusers")
    eta = {"eta": sampler.eta} if isinstance(sampler, DDIM) else {}
    run = ours(sampler, PREDICTIONS[prediction])
    for num_steps in steps:
        expected = theirs(
            name, options, prediction, num_steps, eta, monkeypatch
        )
        images = run(X_1, num_steps).numpy()
        # Some of its tables are numpy's float32 still: a few roundings of
        # 6e-8.
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(images, expected, atol=5e-6 * scale)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("spacing", GRIDS)
@pytest.mark.parametrize("pair", PAIRS | NOISY_PAIRS)
def test_all_steps_are_those_of_diffusers(pair, spacing, prediction, double):
    if pair == "euler_ancestral" and prediction == "sample":
        pytest.skip("diffusers has not written this.")
    check((PAIRS | NOISY_PAIRS)[pair], spacing, prediction, double)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("pair", ["euler", "dpm_solver_2", "unipc_2", "lms"])
def test_all_steps_on_karras_grids_are_those_of_diffusers(
    pair, prediction, double
):
    # A single one of diffusers stands at the least noise: the ends of its
    # Karras levels are those of the linspace grid of as many steps.
    check(PAIRS[pair], "karras", prediction, double, STEPS[1:])


def test_large_variances_by_logarithm_are_no_numbers_in_diffusers(double):
    options = UNCLIPPED | {"variance_type": "fixed_large_log"}
    expected = theirs("DDPMScheduler", options, "epsilon", 5, {}, double)
    assert np.isnan(expected).all()
    for compat, is_number in (("diffusers", False), ("paper", True)):
        sampler = DDPM("fixed_large_log", thresholding=None, compat=compat)
        images = ours(sampler, PREDICTIONS["epsilon"])(X_1, 5).numpy()
        assert (np.isfinite(images) == is_number).all()
