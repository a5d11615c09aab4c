"""What sets DPM-Solver++ apart: weights, orders and noise of its steps."""

import numpy as np
import pytest
from sampler_cases import as_images, gaussian_denoise
from sampler_paths import FixedPath, run_steps
from scipy import integrate

from keras_unet_diffusion.diffusion import FlowSchedule, VPSchedule
from keras_unet_diffusion.samplers import DDIM, DPMSolverPP, sample
from keras_unet_diffusion.samplers.dpm_solver import effective_order

SCHEDULE = VPSchedule()
TIMES = (0.7, 0.6, 0.52, 0.45)


@pytest.mark.parametrize("order", [0, 4])
def test_orders_that_do_not_exist_are_refused(order):
    with pytest.raises(ValueError, match=f"Received: order={order}. Pass"):
        DPMSolverPP(order=order)


def test_the_first_order_is_ddim():
    noise = as_images([-1.5, 0.3, 1.9])
    found, expected = (
        np.asarray(sample(sampler, gaussian_denoise(), noise, SCHEDULE, 7))
        for sampler in (DPMSolverPP(order=1), DDIM(thresholding=None))
    )
    # The same formula in another order: float64 rounding of seven steps.
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("degree", [0, 1, 2])
def test_the_third_order_integrates_parabolas_exactly(degree, stochastic):
    # x_0 a power of log(alpha / sigma): the last step, which knows three
    # estimates, is the integral of variation of constants.
    path = FixedPath(SCHEDULE, TIMES, num_steps=20)
    points = [path(i) for i in range(4)]
    lambdas = [float(p.half_log_snr) for p in points]
    rate = 2 if stochastic else 1
    sampler = DPMSolverPP(order=3, stochastic=stochastic)
    x = run_steps(
        sampler, path, 3, as_images([0.4]), lambda p: p.half_log_snr**degree
    )
    start = run_steps(
        sampler, path, 2, as_images([0.4]), lambda p: p.half_log_snr**degree
    )
    integral = integrate.quad(
        lambda u: rate * np.exp(rate * (u - lambdas[3])) * u**degree,
        lambdas[2],
        lambdas[3],
        epsabs=1e-13,
    )[0]
    decay = np.exp(lambdas[2] - lambdas[3])
    kept = float(points[3].sigma / points[2].sigma) * decay ** (rate - 1)
    expected = kept * start + float(points[3].alpha) * integral
    # Differences over steps of 0.3 in lambda of numbers of size one.
    np.testing.assert_allclose(x, expected, atol=1e-12)


def test_diffusers_third_order_does_not_integrate_parabolas():
    path = FixedPath(SCHEDULE, TIMES, num_steps=20)
    paper, theirs = (
        run_steps(
            DPMSolverPP(order=3, compat=compat),
            path,
            3,
            as_images([0.4]),
            lambda p: p.half_log_snr**2,
        )
        for compat in ("paper", "diffusers")
    )
    # Half a second derivative is missing: h**3 / 6, of h = 0.25.
    assert np.abs(paper - theirs).max() > 1e-4


@pytest.mark.parametrize(
    "num_steps, expected",
    [
        (14, [1, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 2, 1]),
        (15, [1, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 1]),
        (2, [1, 1]),
        (1, [1]),
    ],
)
def test_the_first_and_last_steps_are_of_low_order(num_steps, expected):
    path = FixedPath(None, (), num_steps)
    found = [
        int(effective_order(3, i, path, i == num_steps - 1))
        for i in range(num_steps)
    ]
    assert found == expected


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 20])
def test_samples_are_finite_from_noise_alone(order, stochastic, num_steps):
    # A flow begins with no image at all, whose log-SNR is infinite.
    images = sample(
        DPMSolverPP(order=order, stochastic=stochastic),
        gaussian_denoise(),
        as_images([-1.0, 2.0]),
        FlowSchedule(),
        num_steps,
        lambda i, k: as_images([0.5, 0.5]),
    )
    assert np.isfinite(np.asarray(images)).all()


def test_the_stochastic_step_draws_from_the_posterior():
    # At order 1 and with x_0 known, it is Ho et al. 2020, Eq. 7.
    path = FixedPath(SCHEDULE, TIMES, num_steps=20)
    now, after = path(0), path(1)
    share = float(now.alpha / after.alpha)
    beta = 1 - share**2
    total, left = float(now.sigma) ** 2, float(after.sigma) ** 2
    x_0, x_t = 0.3, 0.8
    mean = (float(after.alpha) * beta * x_0 + share * left * x_t) / total
    deviation = np.sqrt(left / total * beta)
    sampler = DPMSolverPP(order=1, stochastic=True)
    for drawn in (0.0, 1.0, -2.0):
        found = run_steps(
            sampler, path, 1, as_images([x_t]), lambda p: x_0, drawn
        )
        # Float64 rounding.
        np.testing.assert_allclose(found, mean + deviation * drawn, rtol=1e-12)
