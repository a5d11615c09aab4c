"""Random numbers that are the same bits in every mode and runtime.

`keras.random.normal`, and `tf.random.stateless_normal` also with
`alg="philox"`, draw other numbers under XLA than in a graph. The integers of
the Philox generator are the same everywhere, so numbers are made from them
here: element `i` of image `k` depends on the seed, the stream, `k` and `i`
alone, never on the batch.

Reference:
    Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3"
    (Philox4x32-10); Box and Muller 1958 for the normal distribution.
"""

import math

import tensorflow as tf

_PHILOX = 1


def random_bits(seed, stream, num_words, first_word=0):
    """Draws 32-bit words of the Philox4x32-10 sequence of a seed.

    Args:
        seed: int64 scalar; the key of the generator.
        stream: int64 scalar; the upper half of its counter. Other streams of
            a seed are independent of each other.
        num_words: int scalar >= 0. Words to draw.
        first_word: int64 scalar, multiple of 4. Words of the sequence to skip,
            at no cost.

    Returns:
        uint32 tensor of shape `(num_words,)`.
    """
    block = tf.cast(first_word, tf.int64) // 4
    counter = tf.stack([block, tf.cast(stream, tf.int64)])
    return tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[num_words],
        key=tf.bitcast(tf.reshape(tf.cast(seed, tf.int64), [1]), tf.uint64),
        counter=tf.bitcast(counter, tf.uint64),
        alg=_PHILOX,
        dtype=tf.uint32,
    )


def _to_uniform(bits):
    """The upper 24 bits as a float32 in [0, 1), exactly."""
    return tf.cast(tf.bitwise.right_shift(bits, 8), tf.float32) * 2.0**-24


def uniform(seed, stream, num_values):
    """Draws numbers evenly from [0, 1).

    Args:
        seed: int64 scalar.
        stream: int64 scalar.
        num_values: int scalar.

    Returns:
        float32 tensor of shape `(num_values,)`.
    """
    return _to_uniform(random_bits(seed, stream, num_values))


def normal_images(seed, stream, num_images, image_shape, first_image=0):
    """Draws standard normal images.

    Args:
        seed: int64 scalar.
        stream: int64 scalar.
        num_images: int scalar.
        image_shape: `(height, width, channels)`, ints.
        first_image: int scalar. Number of the first image: images 5 to 9 are
            the same whether drawn alone or after images 0 to 4.

    Returns:
        float32 tensor of shape `(num_images, height, width, channels)`.
    """
    num_values = math.prod(image_shape)
    num_pairs = -(-num_values // 2)
    # Whole blocks of four words for each image, so that its first word can
    # be skipped to.
    num_words = -(-2 * num_pairs // 4) * 4
    first_word = tf.cast(first_image, tf.int64) * num_words
    bits = random_bits(seed, stream, num_images * num_words, first_word)
    pairs = tf.reshape(_to_uniform(bits), [num_images, num_words // 2, 2])
    # 1 - u lies in (0, 1]: its logarithm is finite.
    radius = tf.sqrt(-2.0 * tf.math.log(1.0 - pairs[..., 0]))
    angle = (2 * math.pi) * pairs[..., 1]
    values = tf.concat(
        [radius * tf.cos(angle), radius * tf.sin(angle)], axis=1
    )[:, :num_values]
    return tf.reshape(values, [num_images, *image_shape])
