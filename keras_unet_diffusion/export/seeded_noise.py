"""Normal noise of a seed, from the operations that LiteRT has built in.

The generator of `noise.py` needs integers that LiteRT lacks. This one is a
hash of the seed and of the number of each value: like it, value `i` of image
`k` depends on the seed, `k` and `i` alone.

Reference:
    Wellons 2018, "Prospecting for Hash Functions" ("lowbias32"), of which two
    rounds are taken, each with a key; Box and Muller 1958.
"""

import math

import tensorflow as tf

# lowbias32: shifts right, each followed by a multiplication but the last.
_SHIFTS = (16, 15, 16)
_MULTIPLIERS = (0x7FEB352D, 0x846CA68B)
# 2**32 divided by the golden ratio: makes two keys of one seed.
_KEY_STEP = 0x9E3779B9


def seeded_noise(seed, batch_shape):
    """Draws standard normal images.

    Args:
        seed: int32 scalar, any.
        batch_shape: tuple of ints, `(batch, height, width, channels)`.

    Returns:
        float32 tensor of that shape.
    """
    batch, *image_shape = batch_shape
    num_values = math.prod(image_shape)
    # Two uniform numbers make two normal ones.
    num_pairs = -(-num_values // 2)
    uniform = _uniform(seed, batch * 2 * num_pairs)
    first, second = tf.split(
        tf.reshape(uniform, (batch, 2 * num_pairs)), 2, axis=1
    )
    # 1 - u lies in (0, 1]: its logarithm is finite.
    radius = tf.sqrt(-2.0 * tf.math.log(1.0 - first))
    angle = (2 * math.pi) * second
    values = tf.concat(
        [radius * tf.cos(angle), radius * tf.sin(angle)], axis=1
    )[:, :num_values]
    return tf.reshape(values, batch_shape)


def _uniform(seed, num_values):
    """Numbers in [0, 1), float32 `(num_values,)`."""
    keys = _hash(tf.stack([seed, seed + _signed(_KEY_STEP)]))
    bits = _hash(tf.range(num_values) + keys[0])
    bits = _hash(tf.bitwise.bitwise_xor(bits, keys[1]))
    return tf.cast(_shifted(bits, 8), tf.float32) * 2.0**-24


def _hash(x):
    """One round of lowbias32 on int32 numbers, which wrap around."""
    for shift, multiplier in zip(_SHIFTS, (*_MULTIPLIERS, None), strict=True):
        x = tf.bitwise.bitwise_xor(x, _shifted(x, shift))
        if multiplier is not None:
            x = x * _signed(multiplier)
    return x


def _shifted(x, places):
    """Bits moved right, zeros moved in: int32 would move its sign in."""
    sign = tf.bitwise.right_shift(x, 31)  # -1 or 0
    return tf.bitwise.right_shift(x, places) - sign * 2 ** (32 - places)


def _signed(word):
    """32 bits as the int32 that they are."""
    return word - 2**32 if word >= 2**31 else word
