"""The loop and the paths that all samplers share."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from gaussian_images import gaussian_denoiser, normal_images
from keras import ops

from keras_unet_diffusion import LinearSchedule
from keras_unet_diffusion.diffusion import EDMSchedule, FlowSchedule
from keras_unet_diffusion.samplers import (
    DDIM,
    DDPM,
    DPMSolverPP,
    Estimate,
    Heun,
    KarrasGrid,
    LinspaceGrid,
    Path,
    RestOfPath,
    ReversedPath,
    StaticThresholding,
    advance,
    sample,
    start,
)

SHAPE = (2, 3, 3, 1)
SCHEDULES = [LinearSchedule(), EDMSchedule(), FlowSchedule()]


def number(i):
    return ops.cast(i, "int32")


def path_of(sampler, schedule, num_steps=7):
    return Path(schedule, sampler, number(num_steps), "float64")


def denoise_after(x_t, point, x_0):
    """A denoiser that minds what was estimated before."""
    image, _ = gaussian_denoiser(0.5)(x_t, point)
    image = image + 0.1 * ops.tanh(x_0)
    return Estimate(image, (x_t - point.alpha * image) / point.sigma)


def noise_of(step, k):
    numbers = np.random.default_rng(0).standard_normal((10, 2, *SHAPE))
    return ops.convert_to_tensor(numbers)[step, k]


@pytest.mark.parametrize(
    "sampler",
    [DDIM(), DDPM(), Heun(churn=2.0), DPMSolverPP(order=3)],
    ids=lambda sampler: type(sampler).__name__,
)
def test_steps_in_pieces_are_the_steps_at_once(sampler):
    path = path_of(sampler, LinearSchedule())

    def run(stops):
        variables = start(sampler, ops.convert_to_tensor(normal_images(SHAPE)))
        for first, last in zip(stops, stops[1:], strict=False):
            variables = advance(
                sampler,
                denoise_after,
                variables,
                path,
                number(first),
                number(last),
                noise_of,
            )
        return variables[0]

    np.testing.assert_array_equal(run([0, 1, 4, 4, 7]), run([0, 7]))


def test_a_step_is_traced_once_whatever_their_number():
    traces = []

    class Traced(DDIM):
        def step(self, *arguments):
            traces.append(1)
            return super().step(*arguments)

    @tf.function
    def run(x_1, num_steps):
        return sample(
            Traced(),
            gaussian_denoiser(0.5),
            x_1,
            LinearSchedule(),
            num_steps,
        )

    noise = normal_images(SHAPE)
    for num_steps in (3, 10, 20):
        compiled = run(tf.constant(noise), tf.constant(num_steps))
    assert len(traces) == 1
    at_once = sample(
        DDIM(), gaussian_denoiser(0.5), noise, LinearSchedule(), 20
    )
    # Float64, in another order.
    np.testing.assert_allclose(compiled, at_once, atol=1e-12)


def test_the_denoiser_is_told_the_estimate_of_the_step_before():
    told = []

    def denoise(x_t, point, x_0):
        told.append(float(x_0[0, 0, 0, 0]))
        count = len(told) * ops.ones_like(x_t)
        return count, (x_t - point.alpha * count) / point.sigma

    variables = start(DDIM(), ops.convert_to_tensor(normal_images(SHAPE)))
    sampler = DDIM(thresholding=StaticThresholding(2.5))
    path = path_of(sampler, LinearSchedule(), 5)
    _, x_0, _ = advance(sampler, denoise, variables, path, number(0), number(5))
    # Zeros first, then each estimate, bounded like the sampler's.
    assert told == [0, 1, 2, 2.5, 2.5]
    np.testing.assert_array_equal(x_0, np.full(SHAPE, 2.5))


def test_a_second_call_in_a_step_does_not_become_the_estimate_before():
    """Heun asks again at the end of a step."""
    told = []

    def denoise(x_t, point, x_0):
        told.append((float(point.t), float(x_0[0, 0, 0, 0])))
        image = ops.full_like(x_t, float(point.t))
        return image, (x_t - point.alpha * image) / point.sigma

    sampler = Heun()
    path = path_of(sampler, EDMSchedule(), 3)
    variables = start(sampler, ops.convert_to_tensor(normal_images(SHAPE)))
    advance(sampler, denoise, variables, path, number(0), number(3))
    times = [float(path(number(i)).t) for i in range(3)]
    asked = [0, 1, 1, 2, 2]  # the points of the five calls
    before = [0, 0, times[0], times[0], times[1]]
    assert told == [
        (times[i], x_0) for i, x_0 in zip(asked, before, strict=True)
    ]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("sampler", [DDIM(), Heun()], ids=repr)
def test_a_path_falls_from_noise_to_the_clean_image(sampler, schedule):
    path = path_of(sampler, schedule)
    points = [path(number(i)) for i in range(8)]
    assert points[-1] == (0, 1, 0)
    ratios = [float(point.noise_ratio) for point in points]
    assert (np.diff(ratios) < 0).all() or not np.isfinite(ratios[0])
    assert (np.diff([float(point.t) for point in points]) < 0).all()
    for point in points:
        assert {x.dtype for x in point} == {tf.float64}


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("grid", [LinspaceGrid(), KarrasGrid()], ids=repr)
def test_without_the_last_denoising_a_path_ends_at_the_least_noise(
    schedule, grid
):
    sampler = Heun(grid=grid, final_denoising=False)
    end = path_of(sampler, schedule)(number(7))
    least = schedule.point(np.float64(schedule.min_time))
    # The share of the image is 1 to within 1e-4 there, and 1 - t to all
    # digits: float64 powers and logarithms of rho leave seven.
    np.testing.assert_allclose(end.sigma, least.sigma, rtol=1e-7)


def test_where_there_is_no_image_its_share_is_next_to_nothing():
    """2**-24 for alpha**2, as diffusers has it, where it is divided by."""
    for sampler, alpha in ((DDIM(), 0.0), (DPMSolverPP(), 2.0**-12)):
        point = path_of(sampler, FlowSchedule())(number(0))
        assert point == (1, alpha, 1)


def test_a_reversed_path_goes_from_the_image_to_the_noise():
    sampler = DDIM(final_denoising=False, grid=LinspaceGrid())
    path = path_of(sampler, LinearSchedule())
    reverse = ReversedPath(path)
    assert reverse.num_steps == reverse.total_steps == 7
    assert reverse.schedule == LinearSchedule()
    assert reverse.at_ratio(ops.ones(())) == path.at_ratio(ops.ones(()))
    for i in range(8):
        assert reverse(number(i)) == path(number(7 - i))


def test_the_rest_of_a_path_begins_later_and_ends_alike():
    path = path_of(DDIM(), LinearSchedule())
    rest = RestOfPath(path, number(3))
    assert rest.num_steps == 4
    assert rest.total_steps == path.total_steps == 7
    assert rest.schedule == LinearSchedule()
    for i in range(5):
        assert rest(number(i)) == path(number(3 + i))


def test_sampling_keeps_the_precision_it_is_given():
    for dtype in ("float32", "float64"):
        noise = normal_images(SHAPE).astype(dtype)
        images = sample(Heun(), gaussian_denoiser(0.5), noise, EDMSchedule(), 5)
        assert keras.backend.standardize_dtype(images.dtype) == dtype


@pytest.mark.parametrize(
    "field, value",
    [("grid", "karras"), ("thresholding", True), ("compat", "torch")],
)
def test_what_a_sampler_cannot_use_is_refused(field, value):
    with pytest.raises(ValueError, match=f"{field}={value!r}"):
        dataclasses.replace(DDIM(), **{field: value})
