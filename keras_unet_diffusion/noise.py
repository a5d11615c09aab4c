"""Random numbers that are the same bits in every mode, runtime and backend.

`keras.random.normal`, and `tf.random.stateless_normal` also with
`alg="philox"`, draw other numbers under XLA than in a graph, and others again
on JAX. The integers of the Philox generator are the same everywhere, so
numbers are made from them here: element `i` of image `k` depends on the seed,
the stream, `k` and `i` alone, never on the batch.

Numbers of 64 bits are given as Python ints, as int64 scalars, or, where a
backend has no such integers, as pairs `(low, high)` of scalars of 32 bits.

Reference:
    Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3"
    (Philox4x32-10); Box and Muller 1958 for the normal distribution.
"""

import math
import numbers

import tensorflow as tf
from keras import ops

from keras_unet_diffusion.backends import is_jax

_PHILOX = 1
_WORD = 2**32 - 1
# Salmon et al. 2011, section 3.3 and table 2.
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_NUM_ROUNDS = 10


def random_bits(seed, stream, num_words, first_word=0):
    """Draws 32-bit words of the Philox4x32-10 sequence of a seed.

    Args:
        seed: 64 bits; the key of the generator.
        stream: 64 bits; the upper half of its counter. Other streams of a
            seed are independent of each other.
        num_words: int scalar >= 0, on JAX a Python int. Words to draw.
        first_word: integer scalar, multiple of 4. Words of the sequence to
            skip, at no cost.

    Returns:
        uint32 tensor of shape `(num_words,)`.
    """
    if is_jax():
        return _jax_bits(seed, stream, num_words, first_word)
    block = _int64(first_word) // 4
    counter = tf.stack([block, _int64(stream)])
    return tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[num_words],
        key=tf.bitcast(tf.reshape(_int64(seed), [1]), tf.uint64),
        counter=tf.bitcast(counter, tf.uint64),
        alg=_PHILOX,
        dtype=tf.uint32,
    )


def _int64(value):
    """64 bits as one number of TensorFlow."""
    if isinstance(value, tuple):
        low, high = (tf.cast(word, tf.int64) for word in value)
        return low + high * 2**32
    return tf.cast(value, tf.int64)


def _jax_bits(seed, stream, num_words, first_word):
    """The same words by JAX, which usually has no integers of 64 bits."""
    import jax.numpy as jnp

    first_low, first_high = _words(first_word)
    first_low = first_low // 4 + (first_high % 4) * 2**30
    low = first_low + jnp.arange(-(-num_words // 4), dtype="uint32")
    high = first_high // 4 + (low < first_low).astype("uint32")
    counter = [low, high, *_words(stream)]
    key = _words(seed)
    for _ in range(_NUM_ROUNDS):
        high_0, low_0 = _product(_MULTIPLIERS[0], counter[0])
        high_1, low_1 = _product(_MULTIPLIERS[1], counter[2])
        counter = [
            high_1 ^ counter[1] ^ key[0],
            low_1,
            high_0 ^ counter[3] ^ key[1],
            low_0,
        ]
        key = [k + jnp.uint32(x) for k, x in zip(key, _KEY_STEPS, strict=True)]
    words = jnp.broadcast_arrays(*counter)
    return jnp.stack(words, axis=1).reshape(-1)[:num_words]


def _words(value):
    """64 bits as two uint32 scalars of JAX, the lower first."""
    import jax.numpy as jnp

    if isinstance(value, numbers.Integral):
        value = (value & _WORD, (value >> 32) & _WORD)
    elif not isinstance(value, tuple):
        value = jnp.asarray(value)
        is_long = value.dtype.itemsize == 8
        value = (value & _WORD, value >> 32) if is_long else (value, 0)
    return [
        jnp.uint32(word)
        if isinstance(word, numbers.Integral)
        else jnp.asarray(word).astype("uint32")
        for word in value
    ]


def _product(number, words):
    """Upper and lower words of the products of an int and uint32 numbers."""
    import jax.numpy as jnp

    number = jnp.uint32(number)
    low, high = words & 0xFFFF, words >> 16
    number_low, number_high = number & 0xFFFF, number >> 16
    # By halves of 16 bits; none of the sums exceeds 32.
    middle = number_high * low + (number_low * low >> 16)
    carry = number_low * high + (middle & 0xFFFF)
    return number_high * high + (middle >> 16) + (carry >> 16), number * words


def _to_uniform(bits):
    """The upper 24 bits as a float32 in [0, 1), exactly."""
    shifted = ops.right_shift(bits, ops.cast(8, "uint32"))
    return ops.cast(shifted, "float32") * 2.0**-24


def uniform(seed, stream, num_values):
    """Draws numbers evenly from [0, 1).

    Args:
        seed: 64 bits.
        stream: 64 bits.
        num_values: int scalar, on JAX a Python int.

    Returns:
        float32 tensor of shape `(num_values,)`.
    """
    return _to_uniform(random_bits(seed, stream, num_values))


def uniform_images(seed, stream, num_images, image_shape, first_image=0):
    """Draws numbers evenly from [0, 1), for each image its own.

    Args:
        seed: 64 bits.
        stream: 64 bits.
        num_images: int scalar, on JAX a Python int.
        image_shape: tuple of ints, `()` for one number an image.
        first_image: integer scalar. Number of the first image: images 5 to 9
            are the same whether drawn alone or after images 0 to 4.

    Returns:
        float32 tensor of shape `(num_images, *image_shape)`.
    """
    num_values = math.prod(image_shape)
    # Whole blocks of four words for each image, so that its first word can
    # be skipped to.
    num_words = -(-num_values // 4) * 4
    if not is_jax():
        first_image = tf.cast(first_image, tf.int64)
    bits = random_bits(
        seed, stream, num_images * num_words, first_image * num_words
    )
    values = ops.reshape(_to_uniform(bits), (num_images, num_words))
    return ops.reshape(values[:, :num_values], (num_images, *image_shape))


def normal_images(seed, stream, num_images, image_shape, first_image=0):
    """Draws standard normal images.

    Args:
        seed: 64 bits.
        stream: 64 bits.
        num_images: int scalar, on JAX a Python int.
        image_shape: tuple of ints, such as `(height, width, channels)`.
        first_image: integer scalar, see `uniform_images`.

    Returns:
        float32 tensor of shape `(num_images, *image_shape)`.
    """
    num_values = math.prod(image_shape)
    num_pairs = -(-num_values // 4) * 2
    pairs = uniform_images(
        seed, stream, num_images, (num_pairs, 2), first_image
    )
    # 1 - u lies in (0, 1]: its logarithm is finite.
    radius = ops.sqrt(-2.0 * ops.log(1.0 - pairs[..., 0]))
    angle = (2 * math.pi) * pairs[..., 1]
    values = ops.concatenate(
        [radius * ops.cos(angle), radius * ops.sin(angle)], axis=1
    )[:, :num_values]
    return ops.reshape(values, (num_images, *image_shape))
