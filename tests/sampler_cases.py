"""Closed forms that samplers are tested against; no network anywhere."""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_unet_diffusion.samplers import (
    DDIM,
    DDPM,
    LMS,
    DPMSolverPP,
    Euler,
    EulerAncestral,
    FlowEuler,
    FlowHeun,
    Heun,
    UniPC,
    sample,
)

# One of every kind; DDPM and DDIM without their clipping, which no closed form
# knows of.
DETERMINISTIC = [
    DDIM(thresholding=None),
    Euler(),
    Heun(),
    DPMSolverPP(order=1),
    DPMSolverPP(order=2),
    DPMSolverPP(order=3),
    UniPC(order=1),
    UniPC(order=2),
    UniPC(order=3),
    UniPC(order=2, variant="bh1"),
    LMS(order=1),
    LMS(order=2),
    LMS(order=3),
    LMS(order=4),
]
FLOW = [FlowEuler(), FlowHeun()]
STOCHASTIC = [
    DDPM(thresholding=None),
    DDPM("fixed_large", thresholding=None),
    DDIM(eta=0.5, thresholding=None),
    DDIM(eta=1.0, thresholding=None),
    EulerAncestral(),
    Heun(churn=10),
    DPMSolverPP(order=1, stochastic=True),
    DPMSolverPP(order=2, stochastic=True),
    DPMSolverPP(order=3, stochastic=True),
]


def name_of(sampler):
    """Class and options, for the names of tests."""
    parts = [
        f"{field.name}={getattr(sampler, field.name)}"
        for field in dataclasses.fields(sampler)
        if not field.kw_only and getattr(sampler, field.name) != field.default
    ]
    return f"{type(sampler).__name__}({','.join(parts)})"


def as_images(values):
    """Numbers as float64 images of one pixel."""
    return np.reshape(np.asarray(values, "float64"), (-1, 1, 1, 1))


def gaussian_denoise(deviation=0.5, mean=0.0):
    """The optimal denoiser of pixels drawn from N(mean, deviation**2)."""

    def denoise(x_t, point):
        variance = (point.alpha * deviation) ** 2 + point.sigma**2
        residual = x_t - point.alpha * mean
        x_0 = mean + point.alpha * deviation**2 / variance * residual
        return x_0, point.sigma / variance * residual

    return denoise


def flow_end(x, begin, end, deviation=0.5):
    """Solution of the probability-flow ODE of that data with mean 0.

    x_t / sqrt((alpha deviation)**2 + sigma**2) is constant along it.
    """

    def spread(point):
        return np.sqrt((point.alpha * deviation) ** 2 + point.sigma**2)

    return x * (spread(end) / spread(begin))


def compiled_sample(sampler, denoise, schedule, draw_noise=None):
    """`sample` as one graph of noise and number of steps: fast to run."""
    return tf.function(
        lambda x_1, num_steps: sample(
            sampler, denoise, x_1, schedule, num_steps, draw_noise
        ),
        input_signature=[
            tf.TensorSpec((None, None, None, None), tf.float64),
            tf.TensorSpec((), tf.int32),
        ],
        autograph=False,
    )
