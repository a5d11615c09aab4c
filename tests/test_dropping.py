"""Dropout on JAX, by a hash of each feature's number."""

import importlib.util

import numpy as np
import pytest

from keras_unet_diffusion.layers import dropping

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="needs JAX"
)
SHAPE = (64, 16, 16, 32)
RATE = 0.1


@pytest.fixture
def on_jax(monkeypatch):
    monkeypatch.setattr(dropping, "is_jax", lambda: True)


def seed(first, second):
    import jax.numpy as jnp

    return jnp.array([first, second], "uint32")


def kept(first=5, second=0, shape=SHAPE, rate=RATE):
    """Which features are kept, as numbers of mean 0 and deviation 1."""
    mask = np.asarray(dropping._is_kept(shape, rate, seed(first, second)))
    return (mask - (1 - rate)) / np.sqrt(rate * (1 - rate))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_that_is_dropped_is_the_rate_in_every_image(rate):
    by_image = kept(rate=rate).reshape(SHAPE[0], -1).mean(1)
    error = 1 / np.sqrt(np.prod(SHAPE[1:]))
    # The means of 64 images: one of 10,000 runs is as far off as 4.7 errors.
    assert np.abs(by_image).max() < 4.7 * error
    # And they differ as much as they should: 64 are a fifth at most off.
    assert 0.7 * error < by_image.std() < 1.3 * error


@pytest.mark.parametrize("axis", range(4))
def test_neighbours_are_dropped_independently(axis):
    mask = np.moveaxis(kept(), axis, 0)
    products = mask[1:] * mask[:-1]
    # Five deviations of the mean of independent products.
    assert abs(products.mean()) < 5 / np.sqrt(products.size)


@pytest.mark.parametrize("other", [(6, 0), (5, 1), (0, 5), (5, 2**31)])
@pytest.mark.parametrize("moved", [0, 1, 2**10])
def test_another_seed_drops_other_features(other, moved):
    mask = kept().ravel()
    products = mask[: mask.size - moved] * kept(*other).ravel()[moved:]
    assert abs(products.mean()) < 5 / np.sqrt(products.size)


def test_the_gradient_is_that_of_the_features_that_were_kept(on_jax):
    import jax
    import jax.numpy as jnp

    features = jnp.asarray(
        np.random.default_rng(0).standard_normal((4, 8, 8, 16)), "float32"
    )
    weights = jnp.arange(16.0)

    def loss(x):
        return jnp.sum(dropping.drop(x, 0.25, seed(3, 4)) * weights)

    outputs = np.asarray(dropping.drop(features, 0.25, seed(3, 4)))
    mask = outputs != 0
    assert 0.2 < 1 - mask.mean() < 0.3
    # One division in float32.
    np.testing.assert_allclose(
        outputs[mask], np.asarray(features)[mask] / 0.75, rtol=1e-6
    )
    gradient = jax.jit(jax.grad(loss))(features)
    np.testing.assert_allclose(gradient, mask * np.arange(16) / 0.75, rtol=1e-6)


def test_features_of_bfloat16_stay_so(on_jax):
    import jax.numpy as jnp

    features = jnp.ones((2, 4, 4, 8), "bfloat16")
    assert dropping.drop(features, 0.5, seed(0, 0)).dtype == jnp.bfloat16
