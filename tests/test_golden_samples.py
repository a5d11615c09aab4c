"""Recorded samples of diffusers 0.42.1 and exact ends of the EDM process.

Ten steps from [-1.5, -0.3, 0.7, 1.9] for the optimal denoiser of N(0, 0.5**2).
"""

import numpy as np
import pytest
from sampler_cases import as_images, flow_end, gaussian_denoise

from keras_unet_diffusion.diffusion import EDMSchedule, LinearSchedule
from keras_unet_diffusion.samplers import (
    DDIM,
    DPMSolverPP,
    Euler,
    Heun,
    KarrasGrid,
    LeadingGrid,
    LinspaceGrid,
    TrailingGrid,
    UniPC,
    sample,
)

SCHEDULE = LinearSchedule()
NOISE = [-1.5, -0.3, 0.7, 1.9]
GRIDS = (LeadingGrid(), LinspaceGrid(), TrailingGrid())
GOLDEN = {
    DDIM: (
        [-0.5611934, -0.1122387, 0.2618903, 0.7108450],
        [-0.6283767, -0.1256753, 0.2932425, 0.7959439],
        [-0.5549323, -0.1109865, 0.2589684, 0.7029143],
    ),
    Euler: (
        [-0.5611932, -0.1122387, 0.2618902, 0.7108448],
        [-0.5424072, -0.1084815, 0.2531233, 0.6870495],
        [-0.5549208, -0.1109842, 0.2589631, 0.7028998],
    ),
    Heun: (
        [-0.8028216, -0.1605643, 0.3746501, 1.0169074],
        [-0.8150894, -0.1630179, 0.3803750, 1.0324466],
        [-0.6528811, -0.1305762, 0.3046778, 0.8269827],
    ),
    DPMSolverPP: (
        [-0.6284116, -0.1256824, 0.2932587, 0.7959881],
        [-0.6051980, -0.1210396, 0.2824257, 0.7665841],
        [-0.6071463, -0.1214293, 0.2833350, 0.7690521],
    ),
    UniPC: (
        [-0.6351527, -0.1270305, 0.2964046, 0.8045267],
        [-0.6122555, -0.1224511, 0.2857192, 0.7755236],
        [-0.6142699, -0.1228540, 0.2866593, 0.7780752],
    ),
}
CASES = [
    (kind, grid, values)
    for kind, rows in GOLDEN.items()
    for grid, values in zip(GRIDS, rows, strict=True)
]
# diffusers computes the schedule and every step in float32, so its figures are
# themselves off by a few roundings of 6e-8 in each of ten steps.
TOLERANCE = {"atol": 1e-6, "rtol": 1e-6}


@pytest.mark.parametrize(
    "kind, grid, values",
    CASES,
    ids=[f"{k.__name__}-{type(g).__name__}" for k, g, _ in CASES],
)
def test_samples_are_those_of_diffusers(kind, grid, values):
    sampler = kind(grid=grid, thresholding=None, compat="diffusers")
    images = sample(sampler, gaussian_denoise(), as_images(NOISE), SCHEDULE, 10)
    np.testing.assert_allclose(images, as_images(values), **TOLERANCE)


@pytest.mark.parametrize(
    "kind, grid",
    [
        (DDIM, LeadingGrid()),
        (DDIM, TrailingGrid()),
        (Euler, LeadingGrid()),
        (Heun, LeadingGrid()),
        (DPMSolverPP, TrailingGrid()),
        (UniPC, TrailingGrid()),
    ],
)
def test_the_paper_and_diffusers_agree_where_nothing_is_known_to_differ(
    kind, grid
):
    sampler = kind(grid=grid, thresholding=None)
    images = sample(sampler, gaussian_denoise(), as_images(NOISE), SCHEDULE, 10)
    golden = GOLDEN[kind][GRIDS.index(grid)]
    np.testing.assert_allclose(images, as_images(golden), **TOLERANCE)


@pytest.mark.parametrize(
    "kind, values",
    [
        (DPMSolverPP, [-0.8292184, -0.1658437, 0.3869686, 1.0503432]),
        (Euler, [-0.5380968, -0.1076194, 0.2511118, 0.6815894]),
    ],
)
def test_samples_on_karras_grids_are_those_of_diffusers(kind, values):
    # There the network is told a time, and the optimal noise belongs to it.
    def denoise(x_t, point):
        told = SCHEDULE.point(point.t)
        noise = gaussian_denoise()(x_t, told)[1]
        return (x_t - point.sigma * noise) / point.alpha, noise

    sampler = kind(grid=KarrasGrid(), compat="diffusers")
    images = sample(sampler, denoise, as_images(NOISE), SCHEDULE, 10)
    # diffusers' Karras levels are float32 too: relative 2e-6.
    np.testing.assert_allclose(images, as_images(values), rtol=3e-6)


def test_heun_on_edms_levels_gives_the_recorded_samples():
    images = sample(
        Heun(), gaussian_denoise(), as_images(NOISE), EDMSchedule(), 18
    )
    golden = [-0.7914370, -0.1582874, 0.3693372, 1.0024868]
    np.testing.assert_allclose(images, as_images(golden), **TOLERANCE)


def test_the_exact_end_of_edms_process_is_the_recorded_one():
    schedule = EDMSchedule()
    begin = schedule.point(np.float64(schedule.max_time))
    clean = schedule.point(np.float64(0))
    end = flow_end(as_images(NOISE) * 80, begin, clean)
    recorded = [-0.7499854, -0.1499971, 0.3499932, 0.9499814]
    # Printed to seven digits.
    np.testing.assert_allclose(end, as_images(recorded), atol=1e-7)
