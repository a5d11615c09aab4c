"""How much of an error lies at which spatial frequency."""

import numpy as np


def band_edges(num_bands):
    """Upper edges of the bands, in cycles per pixel, an array `(num_bands,)`.

    Octaves, as the levels of a U-Net are: feature maps at half the resolution
    can hold up to a quarter of a cycle per pixel of the image, and so on. The
    last band is what only the finest level can hold, and has the corners of
    the spectrum too.

    Args:
        num_bands: int >= 1, usually the number of levels.
    """
    return 0.5 / 2.0 ** np.arange(num_bands - 1, -1, -1)


def band_names(num_bands):
    """Names of the bands for tables, a tuple of str, the coarsest first."""
    inner = [f"1/{round(1 / edge)}" for edge in band_edges(num_bands)[:-1]]
    if not inner:
        return ("all",)
    between = [
        f"{low} to {high}"
        for low, high in zip(inner[:-1], inner[1:], strict=True)
    ]
    return (f"up to {inner[0]}", *between, f"over {inner[-1]}")


def frequencies(height, width):
    """Radius of each coefficient of `numpy.fft.fft2`, `(height, width)`, in
    cycles per pixel."""
    vertical = np.fft.fftfreq(height)[:, np.newaxis]
    horizontal = np.fft.fftfreq(width)[np.newaxis, :]
    return np.hypot(vertical, horizontal)


def band_numbers(height, width, num_bands):
    """Band of each coefficient of `numpy.fft.fft2`, int `(height, width)`.

    Args:
        height: int, pixels.
        width: int, pixels.
        num_bands: int >= 1.

    Raises:
        ValueError: the image is so small that a band is empty.
    """
    edges = band_edges(num_bands)[:-1]
    # On an edge belongs below it; a rounding error is no frequency.
    numbers = np.searchsorted(edges, frequencies(height, width) - 1e-9)
    if len(np.unique(numbers)) < num_bands:
        raise ValueError(
            "Some bands have no frequency in them. Received: "
            f"num_bands={num_bands} for images of {height}x{width} pixels. "
            "Ask for fewer bands, or use larger images."
        )
    return numbers


def spectrum(images):
    """Power at each frequency, `(..., height, width, channels)`.

    By the orthonormal transform, so that the sum is that of the squared
    pixels (Parseval), and white noise of variance 1 has a power of 1 at every
    frequency.

    Args:
        images: `(..., height, width, channels)`.
    """
    waves = np.fft.fft2(np.asarray(images, "float64"), axes=(-3, -2))
    return np.abs(waves) ** 2 / np.prod(images.shape[-3:-1])


def band_power(images, num_bands):
    """Mean power in each band of frequencies.

    Args:
        images: `(..., height, width, channels)`, such as errors of pixels.
        num_bands: int >= 1.

    Returns:
        float64 array `(..., num_bands)`: mean over the frequencies of a band
        and over the channels. Weighed by the numbers of frequencies, the
        bands' mean is the mean square of the pixels.

    Raises:
        ValueError: a band is empty.

    Example:

    ```python
    band_power(prediction - noise, num_bands=3)
    ```
    """
    power = spectrum(images).mean(axis=-1)
    numbers = band_numbers(*images.shape[-3:-1], num_bands)
    bands = [power[..., numbers == band] for band in range(num_bands)]
    return np.stack([band.mean(axis=-1) for band in bands], axis=-1)


def checkerboard(images):
    """How much stronger the finest pattern is than its neighbours.

    Upsampling by two that treats even and odd pixels unequally leaves a
    pattern of period two, at exactly half a cycle per pixel along an axis.

    Args:
        images: `(..., height, width, channels)`, of even size of at least 4.

    Returns:
        float: power at half a cycle per pixel along either axis, over that at
        the next lower frequency along it; 1 for white noise.

    Reference:
        Odena et al. 2016, "Deconvolution and Checkerboard Artifacts".
    """
    power = spectrum(images)
    power = power.reshape(-1, *power.shape[-3:]).mean(axis=(0, 3))
    ratios = []
    for lines in (power, power.T):
        finest = len(lines) // 2
        # Above and below half a cycle lie the same, mirrored.
        next_lower = (lines[finest - 1] + lines[finest + 1]) / 2
        ratios.append(lines[finest].mean() / next_lower.mean())
    return float(np.mean(ratios))
