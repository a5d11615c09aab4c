"""Dropout by a seed that was drawn before."""

import keras

from keras_unet_diffusion.backends import is_jax

# C. Wellons, "hash-prospector" (public domain): the mixer "lowbias32", in
# which each bit of the input flips each bit of the output with a probability
# that differs from one half by 0.17% on average.
_MULTIPLIERS = (0x7FEB352D, 0x846CA68B)
_SHIFTS = (16, 15, 16)


def drop(features, rate, seed):
    """Sets features to zero at random, and enlarges the others.

    On JAX a feature's fate follows from its number by a hash. That is computed
    where it is needed, in the forward and in the backward pass, and nothing is
    stored; JAX's own generator takes ten times as many operations.

    Args:
        features: tensor of any shape.
        rate: float in [0, 1). Share that is dropped.
        seed: two integers, of a `keras.random.SeedGenerator`.

    Returns:
        A tensor like the features, of the same expected value.

    Reference:
        Srivastava et al. 2014, "Dropout". Differences: enlarged in training
        instead of reduced afterwards, as is usual.
    """
    if not is_jax():
        return keras.random.dropout(features, rate, seed=_GivenSeed(seed))
    import jax

    @jax.custom_vjp
    def dropped(x, seed):
        kept = _is_kept(x.shape, rate, seed)
        return jax.numpy.where(kept, x / (1 - rate), jax.numpy.zeros_like(x))

    dropped.defvjp(
        lambda x, seed: (dropped(x, seed), seed),
        lambda seed, upstream: (dropped(upstream, seed), None),
    )
    return dropped(features, seed)


def _is_kept(shape, rate, seed):
    """Which features are kept, bool of `shape`, by JAX."""
    import jax
    import jax.numpy as jnp

    number = jnp.zeros(shape, "uint32")
    for axis, size in enumerate(shape):
        place = jax.lax.broadcasted_iota("uint32", shape, axis)
        number = number * jnp.uint32(size) + place
    first, second = seed.astype("uint32")
    # Seeds that are neighbours would otherwise drop the same, moved by one.
    first, second = _mixed(first + _mixed(second)), _mixed(second - first)
    bits = _mixed(_mixed(number + first) ^ second)
    return bits < jnp.uint32(round((1 - rate) * 2**32))


def _mixed(words):
    """For each number of 32 bits another, as if at random."""
    import jax.numpy as jnp

    first, second, third = _SHIFTS
    words = (words ^ (words >> first)) * jnp.uint32(_MULTIPLIERS[0])
    words = (words ^ (words >> second)) * jnp.uint32(_MULTIPLIERS[1])
    return words ^ (words >> third)


class _GivenSeed(keras.random.SeedGenerator):
    """Hands out one seed that was drawn before: Keras takes no tensor."""

    def __init__(self, seed):
        self._seed = seed

    def next(self, ordered=True):
        return self._seed
