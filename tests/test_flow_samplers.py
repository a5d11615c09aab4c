"""Flow samplers: straight paths, their grids and what they refuse."""

import numpy as np
import pytest
from sampler_cases import as_images, gaussian_denoise

from keras_unet_diffusion.diffusion import FlowSchedule, LinearSchedule
from keras_unet_diffusion.samplers import FlowEuler, FlowHeun, Path, sample

BOTH = pytest.mark.parametrize("sampler", [FlowEuler(), FlowHeun()])


@BOTH
@pytest.mark.parametrize("num_steps", [1, 3])
def test_a_straight_path_is_followed_exactly(sampler, num_steps):
    # One image: the velocity noise - x_0 is the same all along the path.
    def denoise(x_t, point):
        return 0.25 + 0 * x_t, (x_t - point.alpha * 0.25) / point.sigma

    noise = as_images([-1.0, 2.0])
    images = sample(sampler, denoise, noise, FlowSchedule(3.0), num_steps)
    # Float64 rounding.
    np.testing.assert_allclose(images, 0.25 + 0 * noise, atol=1e-14)


@BOTH
def test_other_schedules_are_refused(sampler):
    with pytest.raises(ValueError, match="Received: .*LinearSchedule"):
        sample(
            sampler, gaussian_denoise(), as_images([1.0]), LinearSchedule(), 3
        )


@pytest.mark.parametrize(
    "shift, levels",
    [
        # sigmas of diffusers 0.42.1's FlowMatchEulerDiscreteScheduler.
        (1.0, [1, 0.75025, 0.5005, 0.25075, 0.001, 0]),
        (3.0, [1, 0.90036, 0.75112, 0.50299, 0.00893, 0]),
    ],
)
def test_diffusers_levels_are_shifted_twice(shift, levels):
    path = Path(
        FlowSchedule(shift),
        FlowEuler(compat="diffusers"),
        np.int32(5),
        "float64",
    )
    found = [float(path(np.int32(i)).sigma) for i in range(6)]
    # Printed to five digits.
    np.testing.assert_allclose(found, levels, atol=5e-6)


def test_heuns_last_step_asks_the_network_once():
    asked = []

    def denoise(x_t, point):
        asked.append(float(point.sigma))
        return gaussian_denoise()(x_t, point)

    sample(FlowHeun(), denoise, as_images([1.0]), FlowSchedule(), 4)
    assert len(asked) == 7 and min(asked) > 0
