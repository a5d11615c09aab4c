"""Samples of every sampler are drawn from the data, by exact two-sample tests.

The denoisers are closed forms, so what differs is the sampler's doing. All
draws have fixed seeds: a test that passes always passes. With other seeds each
would refuse a right sampler in 1 of 200 runs.
"""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from sampler_cases import (
    DETERMINISTIC,
    FLOW,
    STOCHASTIC,
    compiled_sample,
    name_of,
)
from scipy import stats

from keras_unet_diffusion.diffusion import (
    EDMSchedule,
    FlowSchedule,
    VPSchedule,
)
from keras_unet_diffusion.samplers import (
    DDIM,
    DDPM,
    DPMSolverPP,
    KarrasGrid,
    LinspaceGrid,
    Path,
    UniPC,
    advance,
    start,
)

FALSE_ALARMS = 1 / 200
CENTRES = np.array([[-0.8, -0.4], [0.7, -0.5], [0.1, 0.9]])
SHARES = np.array([0.2, 0.3, 0.5])
NUM_SAMPLES = 600
FLOW_SAMPLERS = [
    *FLOW,
    DDIM(thresholding=None),
    DPMSolverPP(order=2),
    UniPC(order=2),
]


def mixture_denoise(deviation):
    """The optimal denoiser of two pixels from Gaussians around CENTRES.

    With deviation 0 that is a finite data set: the posterior's mean.
    """
    centres = CENTRES.reshape((3, 1, 1, 2, 1))

    def denoise(x_t, point):
        variance = (point.alpha * deviation) ** 2 + point.sigma**2
        residual = x_t[None] - point.alpha * centres
        log_share = np.log(SHARES).reshape((3, 1, 1, 1, 1)) - ops.sum(
            residual**2, axis=(2, 3, 4), keepdims=True
        ) / (2 * variance)
        share = ops.softmax(log_share, axis=0)
        gain = point.alpha * deviation**2 / variance
        x_0 = ops.sum(share * (centres + gain * residual), axis=0)
        noise = ops.sum(share * residual, axis=0) * (point.sigma / variance)
        return x_0, noise

    return denoise


def draw_data(num, deviation, seed):
    random = np.random.default_rng(seed)
    chosen = CENTRES[random.choice(3, size=num, p=SHARES)]
    return chosen + deviation * random.standard_normal((num, 2))


def draw_noise(i, k):
    seed = tf.stack([7, 10 * i + k])
    return tf.random.stateless_normal(
        (NUM_SAMPLES, 1, 2, 1), seed, dtype="float64"
    )


def first_noise():
    random = np.random.default_rng(3)
    return random.standard_normal((NUM_SAMPLES, 1, 2, 1))


def p_value(first, second):
    """Of the energy distance: its rank among those of random splits."""
    both = np.concatenate([first, second])
    distances = np.linalg.norm(both[:, None] - both[None], axis=-1)
    signs = np.repeat([1.0, -1.0], [len(first), len(second)])
    random = np.random.default_rng(11)
    splits = np.stack([signs, *(random.permutation(signs) for _ in range(799))])
    # Of equally many: the distance is -signs' D signs up to a factor.
    energies = -np.einsum("si,si->s", splits @ distances, splits)
    return np.mean(energies >= energies[0])


def samples(sampler, schedule, num_steps, deviation):
    run = compiled_sample(
        sampler, mixture_denoise(deviation), schedule, draw_noise
    )
    return run(first_noise(), num_steps).numpy().reshape((-1, 2))


def num_steps_of(sampler):
    # Ancestral steps are of first order in their variance.
    first_order = isinstance(sampler, DDPM) or sampler.is_stochastic
    return 400 if first_order else 60


# On EDM's schedule the finite data set below is found by default.
@pytest.mark.parametrize(
    "schedule",
    [
        pytest.param(EDMSchedule(), marks=pytest.mark.slow, id="edm"),
        pytest.param(VPSchedule(), id="vp"),
    ],
)
# Those without noise of their own go where test_sampler_orders.py has them go
# exactly; by default they find the finite data set below.
@pytest.mark.parametrize(
    "sampler",
    [
        *(pytest.param(x, marks=pytest.mark.slow) for x in DETERMINISTIC),
        *STOCHASTIC,
    ],
    ids=name_of,
)
def test_samples_are_distributed_like_the_data(sampler, schedule):
    sampler = dataclasses.replace(sampler, grid=KarrasGrid())
    made = samples(sampler, schedule, num_steps_of(sampler), 0.25)
    data = draw_data(NUM_SAMPLES, 0.25, seed=5)
    assert p_value(made, data) > FALSE_ALARMS


@pytest.mark.parametrize("sampler", FLOW_SAMPLERS, ids=name_of)
def test_samples_of_flows_are_distributed_like_the_data(sampler):
    sampler = dataclasses.replace(sampler, grid=LinspaceGrid())
    made = samples(sampler, FlowSchedule(), 100, 0.25)
    data = draw_data(NUM_SAMPLES, 0.25, seed=5)
    assert p_value(made, data) > FALSE_ALARMS


@pytest.mark.parametrize("sampler", [DDIM(thresholding=None), UniPC()])
def test_too_few_steps_are_noticed(sampler):
    # The check has power: three steps of these do not do.
    sampler = dataclasses.replace(sampler, grid=KarrasGrid())
    made = samples(sampler, EDMSchedule(), 3, 0.25)
    data = draw_data(NUM_SAMPLES, 0.25, seed=5)
    assert p_value(made, data) < FALSE_ALARMS


@pytest.mark.parametrize("sampler", [*DETERMINISTIC, *STOCHASTIC], ids=name_of)
def test_a_finite_data_set_is_found_again_in_its_shares(sampler):
    sampler = dataclasses.replace(sampler, grid=KarrasGrid())
    made = samples(sampler, EDMSchedule(), num_steps_of(sampler), 0.0)
    distances = np.linalg.norm(made[:, None] - CENTRES[None], axis=-1)
    # The last level is 0.002, where an image lies 600 of those from the next;
    # what extrapolates may be off by a few of those.
    assert distances.min(axis=1).max() < 0.01
    counts = np.bincount(distances.argmin(axis=1), minlength=3)
    expected = NUM_SAMPLES * SHARES
    assert stats.chisquare(counts, expected).pvalue > FALSE_ALARMS


@pytest.mark.parametrize("sampler", STOCHASTIC, ids=name_of)
def test_half_way_down_samples_are_distributed_like_noisy_data(sampler):
    schedule = VPSchedule()
    sampler = dataclasses.replace(sampler, grid=KarrasGrid())
    num_steps, half = 400, 200
    path = Path(schedule, sampler, tf.constant(num_steps), "float64")

    @tf.function(autograph=False)
    def run(noise):
        variables = start(sampler, sampler.initial(noise, path))
        zero = tf.constant(0)
        return advance(
            sampler,
            lambda x_t, point, x_0: mixture_denoise(0.25)(x_t, point),
            variables,
            path,
            zero,
            tf.constant(half),
            draw_noise,
        )[0]

    made = run(tf.constant(first_noise())).numpy().reshape((-1, 2))
    point = path(tf.constant(half))
    noise = np.random.default_rng(17).standard_normal((NUM_SAMPLES, 2))
    data = float(point.alpha) * draw_data(NUM_SAMPLES, 0.25, seed=5)
    assert p_value(made, data + float(point.sigma) * noise) > FALSE_ALARMS
