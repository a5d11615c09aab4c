"""Averages of weights against their closed forms and published recursions."""

import subprocess
import sys
from decimal import Decimal, localcontext

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_unet_diffusion.training.averaging import (
    ExponentialMovingAverage,
    HalfLifeAverage,
    PowerFunctionAverage,
    power_function_exponent,
)

AVERAGES = [
    ExponentialMovingAverage(0.9),
    ExponentialMovingAverage(0.9, warmup=False),
    HalfLifeAverage(1000),
    HalfLifeAverage(1000, ramp_up_ratio=None),
    PowerFunctionAverage(0.1),
]


def follow(average, values, initial=0.0, images_per_update=None):
    """The average after updates to each of the values, numpy."""
    initial = np.broadcast_to(initial, np.shape(values[0]))
    weight, kept = keras.Variable(initial), keras.Variable(initial)
    for n, value in enumerate(values):
        weight.assign(value)
        average.update([kept], [weight], n, images_per_update)
    return ops.convert_to_numpy(kept)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9999])
def test_the_average_follows_the_published_recursion(decay):
    average = ExponentialMovingAverage(decay)
    weight, kept = keras.Variable(0.0), keras.Variable(1.0)
    expected = 1.0
    for n in range(200):
        value = np.sin(n)
        weight.assign(value)
        average.update([kept], [weight], n)
        share = min(decay, (1 + n) / (10 + n))
        expected = share * expected + (1 - share) * value
        # 200 float32 roundings of numbers of size 1.
        assert float(kept.value) == pytest.approx(expected, abs=1e-5)


def test_without_warm_up_what_is_left_of_the_start_is_a_power_of_the_decay():
    average = ExponentialMovingAverage(0.99, warmup=False)
    kept = follow(average, [0.0] * 300, initial=1.0)
    # 300 float32 roundings, each of 6e-8 of the number.
    assert kept == pytest.approx(0.99**300, rel=2e-5)


def test_after_a_half_life_one_half_of_the_old_weights_is_left():
    average = HalfLifeAverage(640, ramp_up_ratio=None)
    kept = follow(average, [0.0] * 10, initial=1.0, images_per_update=64)
    # Ten float32 roundings.
    assert kept == pytest.approx(0.5, abs=1e-6)


def test_a_half_life_in_images_does_not_depend_on_the_batch_size():
    average = HalfLifeAverage(1000, ramp_up_ratio=None)
    small = follow(average, [1.0] * 16, images_per_update=32)
    large = follow(average, [1.0] * 4, images_per_update=128)
    # Twenty float32 roundings.
    assert small == pytest.approx(float(large), abs=2e-6)


@pytest.mark.parametrize("images_per_update", [1, 64, 4096])
def test_a_ramp_up_bounds_the_half_life_by_the_images_before_the_update(
    images_per_update,
):
    average = HalfLifeAverage(1e12, ramp_up_ratio=0.05)
    for n in (0, 1, 20, 1000, 1_000_000):
        rate = float(average.rate(n, images_per_update))
        # An update of B images after n such, half-life of n * B / 20.
        expected = 1 - 0.5 ** (20 / n) if n else 1.0
        # A few float32 roundings; those of 0.5**x lose nothing at large n.
        assert rate == pytest.approx(expected, rel=1e-6)


def test_a_ramp_up_ends_where_the_half_life_is_reached():
    with_ramp, without = HalfLifeAverage(1000), HalfLifeAverage(1000, None)
    # 0.05 of 20,000 images is 1,000 images: 200 updates of 100.
    assert float(with_ramp.rate(199, 100)) > float(without.rate(199, 100))
    for n in (200, 201, 10_000):
        assert float(with_ramp.rate(n, 100)) == float(without.rate(n, 100))


@pytest.mark.parametrize("relative_deviation", [0.05, 0.1, 0.28])
def test_the_deviation_of_a_power_function_is_the_one_asked_for(
    relative_deviation,
):
    # The share of each update, by averaging the rows of a unit matrix.
    num_updates = 200
    average = PowerFunctionAverage(relative_deviation)
    shares = follow(average, np.eye(num_updates, dtype="float32"))
    # 200 float32 roundings of a sum of 1.
    assert shares.sum() == pytest.approx(1, abs=1e-5)
    times = (np.arange(num_updates) + 0.5) / num_updates
    mean = np.sum(shares * times)
    deviation = np.sqrt(np.sum(shares * (times - mean) ** 2))
    # Sums instead of integrals: off by about (1 / 200)**2.
    assert deviation == pytest.approx(relative_deviation, abs=1e-4)


def test_the_exponents_are_the_published_ones():
    # Karras et al. 2024, section 3.1.
    assert power_function_exponent(0.05) == pytest.approx(16.97, abs=0.005)
    assert power_function_exponent(0.10) == pytest.approx(6.94, abs=0.005)
    # All weights alike. A cubic in float64 rounds off a few times 1e-16.
    assert power_function_exponent(12**-0.5) == pytest.approx(0, abs=1e-13)


def test_the_widest_power_function_is_the_plain_mean():
    values = np.random.default_rng(0).normal(size=50).astype("float32")
    kept = follow(PowerFunctionAverage(12**-0.5), values)
    # 50 float32 roundings of numbers of size 1.
    assert kept == pytest.approx(values.mean(dtype="float64"), abs=5e-6)


def one_minus_beta(relative_deviation, t):
    """1 - (1 - 1 / t)**(gamma + 1) to 50 digits."""
    with localcontext(prec=50):
        power = Decimal(power_function_exponent(relative_deviation)) + 1
        return float(1 - (1 - 1 / Decimal(t)) ** power)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("relative_deviation", [0.05, 0.1, 0.28])
def test_a_rate_is_right_to_float32_after_ten_million_updates(
    relative_deviation, compiled
):
    average = PowerFunctionAverage(relative_deviation)
    rate = tf.function(lambda n: average.rate(n), jit_compile=compiled)
    for t in (1, 2, 10, 1000, 100_000, 10_000_000):
        found = float(rate(tf.constant(t - 1)))
        expected = one_minus_beta(relative_deviation, t)
        # Four float32 operations, each right to 6e-8.
        assert found == pytest.approx(expected, rel=2.5e-7)


@pytest.mark.parametrize("average", AVERAGES, ids=repr)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_an_update_that_is_not_due_changes_no_bit(average, jit_compile):
    start = np.array([1.1, -2e-30, 3e30, 0], "float32")
    bad = np.array([np.nan, np.inf, -np.inf, np.nan], "float32")
    weight = keras.Variable(bad)
    kept = keras.Variable(start)

    @tf.function(jit_compile=jit_compile)
    def update(n, is_due):
        average.update([kept], [weight], n, 64, is_due)

    update(tf.constant(7), tf.constant(False))
    np.testing.assert_array_equal(ops.convert_to_numpy(kept), start)
    # It is the argument that keeps them.
    update(tf.constant(7), tf.constant(True))
    assert not np.isfinite(ops.convert_to_numpy(kept)).any()


def test_an_update_that_is_not_due_in_python_changes_nothing():
    weight, kept = keras.Variable(3.0), keras.Variable(1.0)
    ExponentialMovingAverage(0.5).update([kept], [weight], 0, is_due=False)
    assert float(kept.value) == 1.0


@pytest.mark.parametrize(
    "average",
    [
        HalfLifeAverage(1000),
        PowerFunctionAverage(0.1),
        ExponentialMovingAverage(0),
    ],
    ids=repr,
)
def test_the_first_update_takes_the_weights_as_they_are(average):
    kept = follow(average, [7.0], initial=1e3, images_per_update=1)
    assert kept == 7


def test_numbers_that_are_no_floats_are_copied():
    count = keras.Variable(5, dtype="int32")
    kept = keras.Variable(2, dtype="int32")
    PowerFunctionAverage(0.1).update([kept], [count], 1000)
    assert int(kept.value) == 5


def test_float32_averages_of_lower_weights_are_not_rounded_to_these():
    weight = keras.Variable(1.0, dtype="bfloat16")
    kept = keras.Variable(0.0, dtype="float32")
    ExponentialMovingAverage(0.999, warmup=False).update([kept], [weight], 0)
    # bfloat16 would have 0.00099945; float32 rounds off 6e-8.
    assert float(kept.value) == pytest.approx(0.001, rel=1e-6)


@pytest.mark.parametrize("average", AVERAGES, ids=repr)
def test_an_average_is_saved_by_its_arguments(average):
    config = keras.saving.serialize_keras_object(average)
    assert keras.saving.deserialize_keras_object(config) == average


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(ValueError, match=f"decay={decay}"):
        ExponentialMovingAverage(decay)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "half_life_images=0"),
        ((float("nan"),), "half_life_images=nan"),
        ((1000, 0.0), "ramp_up_ratio=0.0"),
    ],
)
def test_a_half_life_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        HalfLifeAverage(*arguments)


def test_a_half_life_without_images_is_refused():
    with pytest.raises(ValueError, match="images_per_update=None"):
        HalfLifeAverage().rate(0)


@pytest.mark.parametrize("deviation", [0, -0.1, 0.2887, float("nan")])
def test_a_relative_deviation_out_of_range_is_refused(deviation):
    with pytest.raises(ValueError, match=f"relative_deviation={deviation}"):
        PowerFunctionAverage(deviation)


ON_JAX = """
import jax, keras
from keras_unet_diffusion.training.averaging import *
averages = [
    ExponentialMovingAverage(0.9999),
    HalfLifeAverage(500_000),
    PowerFunctionAverage(0.1),
]
for average in averages:
    rate = jax.jit(lambda n: average.rate(n, 512))
    print(*[float(rate(n)) for n in (0, 1, 1000, 9_999_999)])
kept, weight = keras.Variable(1.5), keras.Variable(float("nan"))
average.update([kept], [weight], 3, 512, keras.ops.array(False))
assert float(kept.value) == 1.5
weight.assign(2.5)
average.update([kept], [weight], 0, 512, keras.ops.array(True))
assert float(kept.value) == 2.5
"""


@pytest.mark.slow
def test_the_rates_on_jax_are_those_on_tensorflow():
    pytest.importorskip("jax")
    ran = subprocess.run(
        [sys.executable, "-c", ON_JAX],
        env={"KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    averages = [
        ExponentialMovingAverage(0.9999),
        HalfLifeAverage(500_000),
        PowerFunctionAverage(0.1),
    ]
    for average, line in zip(averages, ran.stdout.splitlines(), strict=True):
        expected = [
            float(average.rate(n, 512)) for n in (0, 1, 1000, 9_999_999)
        ]
        # Two float32 results, each right to 2.5e-7.
        assert [float(x) for x in line.split()] == pytest.approx(
            expected, rel=5e-7
        )
