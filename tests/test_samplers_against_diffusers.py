"""compat="diffusers" against diffusers' own schedulers, step by step.

The network is the optimal one of a mixture of two Gaussians, so nothing grows
without bound and rounding stays small.
"""

import functools

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
    DDIM,
    DDPM,
    LMS,
    DPMSolverPP,
    DynamicThresholding,
    Estimate,
    Euler,
    EulerAncestral,
    FlowEuler,
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
LOG_SNRS = SCHEDULE.log_snrs[1:]
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
    **{
        f"dpm_solver_{order}": (
            "DPMSolverMultistepScheduler",
            {"solver_order": order},
            functools.partial(DPMSolverPP, order=order),
        )
        for order in (1, 2, 3)
    },
    **{
        f"unipc_{order}": (
            "UniPCMultistepScheduler",
            {"solver_order": order},
            functools.partial(UniPC, order=order),
        )
        for order in (1, 2, 3)
    },
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
    **{
        f"dpm_solver_{order}_sde": (
            "DPMSolverMultistepScheduler",
            {"solver_order": order, "algorithm_type": "sde-dpmsolver++"},
            functools.partial(DPMSolverPP, order=order, stochastic=True),
        )
        for order in (1, 2, 3)
    },
}
# 13 and 30 do not divide 1,000.
STEPS = (1, 5, 10, 13, 30, 50)
X_1 = np.linspace(-2, 2, 12).reshape(3, 2, 2, 1)
NOISES = np.random.default_rng(0).standard_normal((max(STEPS), *X_1.shape))


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


def told_variance(x, name, library):
    """What a network says of the variance: in [-1, 1], or itself."""
    if name == "learned_range":
        return library.sin(2 * x)
    return 0.02 + 0.01 * library.sin(x) if name == "learned" else None


def ours(sampler, kinds):
    """Our samples as a graph of noise and number of steps.

    The noise is repeated for each kind of prediction, one graph serves all: to
    trace it is what takes long.
    """
    variance = getattr(sampler, "variance", None)

    def denoise(x_t, point):
        # Alpha and sigma of the step's number, all that diffusers passes on.
        alpha, sigma = SCHEDULE.alpha(point.t), SCHEDULE.sigma(point.t)
        estimates = []
        for kind, part in zip(kinds, ops.split(x_t, len(kinds)), strict=True):
            output = predicted(part, alpha, sigma, kind, ops)
            estimates.append(
                PREDICTIONS[kind].split(part, output, point.alpha, point.sigma)
            )
        x_0, noise = (ops.concatenate(x) for x in zip(*estimates, strict=True))
        return Estimate(x_0, noise, told_variance(x_t, variance, ops))

    noises = tf.constant(np.concatenate([NOISES] * len(kinds), axis=1))
    run = compiled_sample(sampler, denoise, SCHEDULE, lambda i, k: noises[i])

    def run_all(x_1, num_steps):
        images = run(np.concatenate([x_1] * len(kinds)), num_steps).numpy()
        return dict(zip(kinds, np.split(images, len(kinds)), strict=True))

    return run_all


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
        # Between two steps, as Heun stands, the log-SNR is linear.
        log_snr = np.interp(float(t) + 1, np.arange(1, 1001), LOG_SNRS)
        alpha, sigma = np.sqrt(special.expit([log_snr, -log_snr]))
        output = predicted(scaled, alpha, sigma, prediction, torch)
        told = told_variance(scaled, options.get("variance_type"), torch)
        if told is not None:
            output = torch.cat([output, told], 1)
        x = scheduler.step(output, t, x, **eta).prev_sample.to(torch.float64)
    return x.permute(0, 2, 3, 1).numpy()


def check(pair, spacing, kinds, monkeypatch, steps=STEPS):
    name, options, make = pair
    if spacing == "karras":
        grid, options = KarrasGrid(), options | {"use_karras_sigmas": True}
    else:
        grid = GRIDS[spacing]
        options = options | {"timestep_spacing": spacing}
    sampler = make(grid=grid, compat="diffusers")
    eta = {"eta": sampler.eta} if isinstance(sampler, DDIM) else {}
    run = ours(sampler, kinds)
    for num_steps in steps:
        for kind, images in run(X_1, num_steps).items():
            expected = theirs(name, options, kind, num_steps, eta, monkeypatch)
            # Its tables of sigma / alpha are numpy's float32. Noise of up to 2
            # is taken off at sigma / alpha = 157: 6e-8 of that is 2e-5.
            atol = 2e-5 if kind == "epsilon" else 5e-6
            np.testing.assert_allclose(images, expected, atol=atol)


# By default each sampler on one of the grids in turn; test_golden_samples.py
# has the usual ones on all three.
@pytest.mark.parametrize(
    "pair, spacing",
    [
        pytest.param(
            pair, spacing, marks=[] if i % 3 == j else [pytest.mark.slow]
        )
        for i, pair in enumerate(PAIRS | NOISY_PAIRS)
        for j, spacing in enumerate(GRIDS)
    ],
)
def test_all_steps_are_those_of_diffusers(pair, spacing, double):
    kinds = list(PREDICTIONS)
    if pair == "euler_ancestral":
        kinds.remove("sample")  # diffusers has not written this.
    check((PAIRS | NOISY_PAIRS)[pair], spacing, kinds, double)


@pytest.mark.parametrize(
    "pair",
    ["euler", "heun", "lms"]
    + [f"dpm_solver_{order}" for order in (1, 2, 3)]
    + [f"dpm_solver_{order}_sde" for order in (1, 2, 3)]
    + [f"unipc_{order}" for order in (1, 2, 3)],
)
def test_all_steps_on_karras_grids_are_those_of_diffusers(pair, double):
    # A single one of diffusers stands at the least noise: the ends of its
    # Karras levels are those of the linspace grid of as many steps.
    pair = (PAIRS | NOISY_PAIRS)[pair]
    check(pair, "karras", PREDICTIONS, double, STEPS[1:])


def test_large_variances_by_logarithm_are_no_numbers_in_diffusers(double):
    options = UNCLIPPED | {"variance_type": "fixed_large_log"}
    expected = theirs("DDPMScheduler", options, "epsilon", 5, {}, double)
    assert np.isnan(expected).all()
    for compat, is_number in (("diffusers", False), ("paper", True)):
        sampler = DDPM("fixed_large_log", thresholding=None, compat=compat)
        images = ours(sampler, ["epsilon"])(X_1, 5)["epsilon"]
        assert (np.isfinite(images) == is_number).all()


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_euler_gives_the_samples_of_diffusers(shift):
    def denoise(x_t, point):
        velocity = predicted(x_t, point.alpha, point.sigma, "flow", ops)
        return x_t - point.sigma * velocity, x_t + point.alpha * velocity

    schedule = FlowSchedule(shift=shift)
    run = compiled_sample(FlowEuler(compat="diffusers"), denoise, schedule)
    for num_steps in STEPS:
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
        scheduler.set_timesteps(num_steps)
        x = torch.tensor(X_1)
        for t in scheduler.timesteps:
            sigma = float(t) / 1000
            output = predicted(x, 1 - sigma, sigma, "flow", torch)
            x = scheduler.step(output, t, x).prev_sample.double()
        # Shares of noise are float32 in diffusers, 6e-8, and so is the sum of
        # x_t and its step.
        np.testing.assert_allclose(run(X_1, num_steps), x, atol=5e-6)
