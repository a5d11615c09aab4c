"""Random numbers: a published generator, the same in every mode."""

import numpy as np
import pytest
import tensorflow as tf

from keras_unet_diffusion.noise import normal_images, random_bits, uniform

SHAPE = (5, 7, 3)  # an odd number of values


def philox_4x32_10(counter, key):
    """Salmon et al. 2011, section 3.3, by Python's own integers."""
    counter, key = list(counter), list(key)
    for _ in range(10):
        high_0, low_0 = divmod(0xD2511F53 * counter[0], 2**32)
        high_1, low_1 = divmod(0xCD9E8D57 * counter[2], 2**32)
        counter = [
            high_1 ^ counter[1] ^ key[0],
            low_1,
            high_0 ^ counter[3] ^ key[1],
            low_0,
        ]
        key = [(key[0] + 0x9E3779B9) % 2**32, (key[1] + 0xBB67AE85) % 2**32]
    return counter


def test_the_reference_is_philox():
    # Known answer published with the generator (Random123, kat_vectors).
    assert philox_4x32_10([0] * 4, [0] * 2) == [
        0x6627E8D5,
        0xE169C58D,
        0xBC57AC4C,
        0x9B00DBD8,
    ]


@pytest.mark.parametrize("seed, stream", [(0, 0), (2**40 + 5, 3), (7, 2**33)])
def test_bits_are_the_philox_sequence_of_seed_and_stream(seed, stream):
    bits = random_bits(seed, stream, 8, first_word=12).numpy()
    key = [seed % 2**32, seed >> 32]
    expected = [
        word
        for block in (3, 4)
        for word in philox_4x32_10(
            [block, 0, stream % 2**32, stream >> 32], key
        )
    ]
    np.testing.assert_array_equal(bits, expected)


def test_numbers_are_the_same_with_and_without_xla():
    def draw():
        bits = random_bits(5, 1, 10)
        return bits, uniform(5, 1, 10), normal_images(5, 1, 3, SHAPE)

    eager = draw()
    for jit_compile in (False, True):
        compiled = tf.function(draw, jit_compile=jit_compile)()
        np.testing.assert_array_equal(compiled[0], eager[0])
        np.testing.assert_array_equal(compiled[1], eager[1])
        # Logarithm and cosine differ in their last bit between compilers.
        np.testing.assert_allclose(compiled[2], eager[2], atol=1e-6)


def test_an_image_does_not_depend_on_the_images_around_it():
    together = normal_images(3, 0, 6, SHAPE)
    for first, count in ((0, 1), (2, 3), (5, 1)):
        alone = normal_images(3, 0, count, SHAPE, first_image=first)
        # As above: vectorised logarithms round differently at array ends.
        np.testing.assert_allclose(
            alone, together[first : first + count], atol=1e-6
        )


def test_seeds_streams_and_images_differ():
    draws = [
        normal_images(seed, stream, 2, SHAPE)[k].numpy().ravel()
        for seed in (1, 2)
        for stream in (0, 1)
        for k in (0, 1)
    ]
    correlation = np.corrcoef(draws) - np.eye(8)
    # 105 values: a correlation of 0.55 comes up once in 10 million.
    assert np.abs(correlation).max() < 0.55


def test_normal_images_are_standard_normal():
    from scipy import stats

    values = normal_images(11, 0, 100, (16, 16, 3)).numpy().ravel()
    # Five standard errors: a false alarm once in 1.7 million.
    count = len(values)
    assert abs(values.mean()) < 5 / count**0.5
    assert abs(values.var() - 1) < 5 * (2 / count) ** 0.5
    # Fixed seed, so this either always passes or never.
    assert stats.kstest(values, "norm").pvalue > 1e-3


def test_uniform_numbers_lie_below_one():
    values = uniform(3, 0, 100_000).numpy()
    assert values.min() >= 0 and values.max() < 1
    assert abs(values.mean() - 0.5) < 5 * (1 / 12 / 100_000) ** 0.5
