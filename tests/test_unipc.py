"""What sets UniPC apart: the weights of its predictor and its corrector."""

import numpy as np
import pytest
from sampler_cases import as_images, gaussian_denoise
from sampler_paths import FixedPath, run_steps
from scipy import integrate

from keras_unet_diffusion.diffusion import FlowSchedule, VPSchedule
from keras_unet_diffusion.samplers import DPMSolverPP, UniPC, sample

SCHEDULE = VPSchedule()
TIMES = (0.7, 0.6, 0.52, 0.45, 0.4)


@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_the_third_order_corrects_cubics_exactly(degree, variant):
    # The corrector of order 3 knows four estimates. What it makes of x is the
    # first entry of the state of the step after.
    path = FixedPath(SCHEDULE, TIMES, num_steps=20)
    points = [path(i) for i in range(5)]
    lambdas = [float(p.half_log_snr) for p in points]

    def x_0_at(point):
        return point.half_log_snr**degree

    sampler = UniPC(order=3, variant=variant)
    corrected = [corrected_at(sampler, path, i, x_0_at) for i in (2, 3)]
    integral = integrate.quad(
        lambda u: np.exp(u - lambdas[3]) * u**degree,
        lambdas[2],
        lambdas[3],
        epsabs=1e-13,
    )[0]
    kept = float(points[3].sigma / points[2].sigma)
    expected = kept * corrected[0] + float(points[3].alpha) * integral
    # Solved for weights of a matrix of ratios up to 3: a few roundings.
    np.testing.assert_allclose(corrected[1], expected, atol=1e-11)


def corrected_at(sampler, path, i, x_0_at):
    """x at a boundary after it was corrected, from a start at 0.4."""
    states = []

    class Recorded:
        def __getattr__(self, name):
            return getattr(sampler, name)

        def step(self, *args):
            result = sampler.step(*args)
            states.append(result[1])
            return result

    run_steps(Recorded(), path, i + 1, as_images([0.4]), x_0_at)
    return np.asarray(states[i][0])


def test_the_first_step_is_that_of_first_order():
    path = FixedPath(SCHEDULE, TIMES, num_steps=20)
    found, expected = (
        run_steps(sampler, path, 1, as_images([0.4]), lambda p: 0.3)
        for sampler in (UniPC(order=3), DPMSolverPP(order=1))
    )
    # Float64 rounding.
    np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 20])
def test_samples_are_finite_from_noise_alone(order, variant, num_steps):
    # Unlike diffusers, whose bh1 is infinity times zero in the last step.
    images = sample(
        UniPC(order=order, variant=variant),
        gaussian_denoise(),
        as_images([-1.0, 2.0]),
        FlowSchedule(),
        num_steps,
    )
    assert np.isfinite(np.asarray(images)).all()


@pytest.mark.parametrize("arguments", [{"order": 4}, {"variant": "bh3"}])
def test_what_does_not_exist_is_refused(arguments):
    with pytest.raises(ValueError, match=f"{list(arguments)[0]}="):
        UniPC(**arguments)
