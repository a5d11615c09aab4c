"""Gaussian images, their bytes, and the network that would know them best."""

import numpy as np
from scipy import stats

DEVIATION = 0.25
BYTES = np.arange(256) / 127.5 - 1


def gaussian_denoiser(deviation):
    """The optimal denoiser of pixels from N(0, deviation**2)."""

    def denoise(x_t, point):
        image = point.alpha * deviation**2
        variance = point.alpha * image + point.sigma**2
        return image / variance * x_t, point.sigma / variance * x_t

    return denoise


def normal_images(shape, deviation=1.0, seed=0):
    return deviation * np.random.default_rng(seed).standard_normal(shape)


def gaussian_bytes(num_images, seed=0):
    """Images of bytes drawn from a normal distribution, and its bits."""
    edges = np.concatenate([[-np.inf], BYTES[:-1] + 1 / 255, [np.inf]])
    shares = np.diff(stats.norm.cdf(edges / DEVIATION))
    drawn = np.random.default_rng(seed).choice(
        BYTES, size=(num_images, 10, 10, 1), p=shares
    )
    return drawn, -np.sum(shares * np.log2(np.maximum(shares, 1e-300)))
