"""Learning rates against published values and the authors' own programs."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_unet_diffusion.training.learning_rates import (
    ConstantRate,
    InverseRootRate,
    learning_rate_schedule,
)

SCHEDULES = {
    "constant": learning_rate_schedule("constant", 0.5, 8),
    "cosine": learning_rate_schedule("cosine", 0.5, 8, total_steps=40),
    "inverse_root": learning_rate_schedule("inverse_root", 0.5, 8, None, 20),
}


def rates(schedule, steps):
    return np.array([float(schedule(step)) for step in steps])


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_warm_up_is_a_straight_line_from_zero(name):
    found = rates(SCHEDULES[name], range(9))
    # Multiples of 1 / 16 are exact in float32.
    np.testing.assert_array_equal(found, np.arange(9) / 16)


@pytest.mark.parametrize("name", SCHEDULES)
def test_without_a_warm_up_the_first_rate_is_the_whole_rate(name):
    schedule = learning_rate_schedule(name, 0.25, 0, 40, 20)
    assert float(schedule(0)) == 0.25


def test_after_its_warm_up_a_constant_rate_stays():
    found = rates(SCHEDULES["constant"], [8, 9, 1000, 10**7])
    assert set(found) == {0.5}


def test_a_constant_rate_is_bit_for_bit_a_cosine_that_stays_at_one():
    # What this project's recipes were trained with before.
    before = keras.optimizers.schedules.CosineDecay(
        0.0,
        decay_steps=1,
        alpha=1.0,
        warmup_target=2e-3,
        warmup_steps=100,
    )
    steps = [0, 1, 7, 33, 99, 100, 101, 5000]
    found = rates(ConstantRate(2e-3, 100), steps)
    np.testing.assert_array_equal(found, rates(before, steps))


def test_the_cosine_is_at_its_middle_halfway_and_at_zero_in_the_end():
    # Loshchilov and Hutter 2017, Eq. 5: half of (1 + cos(pi * x)).
    found = rates(SCHEDULES["cosine"], [8, 16, 24, 32, 40, 99])
    share = (1 + math.sqrt(0.5)) / 2
    expected = [0.5, 0.5 * share, 0.25, 0.5 * (1 - share), 0, 0]
    # The cosine of a float32 is right to 1e-7.
    np.testing.assert_allclose(found, expected, atol=2e-7)


def authors_rate(num_images, batch_size, reference, reference_batches, warm_up):
    """Karras et al. 2024, Eq. 67 with the authors' warm-up in images."""
    rate = reference / math.sqrt(
        max(num_images / (reference_batches * batch_size), 1)
    )
    return rate * min(num_images / warm_up, 1)


def test_the_inverse_root_is_that_of_edm2():
    # EDM2-S at 512 pixels: 0.01, 70,000 batches of 2,048, 10 million images.
    schedule = InverseRootRate(0.01, 70_000, warmup_steps=1e7 / 2048)
    steps = [0, 100, 4882, 4883, 69_999, 70_000, 70_001, 500_000, 1_048_576]
    expected = [authors_rate(2048 * n, 2048, 0.01, 7e4, 1e7) for n in steps]
    # Four float32 operations.
    np.testing.assert_allclose(rates(schedule, steps), expected, rtol=3e-7)
    # At four times the reference, half of the rate.
    assert float(schedule(280_000)) == pytest.approx(0.005, rel=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_schedule_is_the_same_in_a_graph(name, jit_compile):
    schedule = SCHEDULES[name]
    compiled = tf.function(lambda n: schedule(n), jit_compile=jit_compile)
    for step in (0, 3, 8, 21, 39):
        found = float(compiled(tf.constant(step, "int64")))
        # XLA may round elementwise functions otherwise, by a unit or two.
        assert found == pytest.approx(float(schedule(step)), rel=3e-7)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_saved_with_its_optimizer(name):
    optimizer = keras.optimizers.Adam(SCHEDULES[name])
    config = keras.saving.serialize_keras_object(optimizer)
    loaded = keras.saving.deserialize_keras_object(config)
    schedule = loaded.get_config()["learning_rate"]
    original = optimizer.get_config()["learning_rate"]
    assert schedule == original
    variable = keras.Variable(0.0)
    loaded.build([variable])
    for step in (0, 5, 30):
        loaded.iterations.assign(step)
        assert float(loaded.learning_rate) == float(SCHEDULES[name](step))


@pytest.mark.parametrize("name", SCHEDULES)
def test_each_update_is_made_at_its_rate(name):
    # Plain descent on a slope of 1 moves by the learning rate.
    variable = keras.Variable(0.0)
    optimizer = keras.optimizers.SGD(SCHEDULES[name])
    moved = []
    for _ in range(30):
        before = float(variable)
        optimizer.apply([tf.constant(1.0)], [variable])
        moved.append(before - float(variable))
    # Differences of float32 numbers up to 12.
    np.testing.assert_allclose(
        moved, rates(SCHEDULES[name], range(30)), atol=2e-6
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("constant", 0.0), "learning_rate=0.0"),
        (("constant", float("nan")), "learning_rate=nan"),
        (("cosine", 0.1, -1, 10), "warmup_steps=-1"),
        (("cosine", 0.1, 10), "total_steps=None"),
        (("cosine", 0.1, 10, 10), "total_steps=10"),
        (("inverse_root", 0.1, 10), "decay_steps=None"),
        (("inverse_root", 0.1, 10, None, 0), "decay_steps=0"),
        (("linear", 0.1), "'linear'"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        learning_rate_schedule(*arguments)
