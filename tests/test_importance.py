"""Times drawn by past losses."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_unet_diffusion.training.importance import LossHistory


def filled(losses):
    """A history of steps that had the same loss ten times each."""
    history = LossHistory(len(losses))
    t = (np.arange(len(losses), dtype="float32") + 1) / len(losses)
    for _ in range(10):
        history.record(t, np.asarray(losses, "float32"))
    return history


def test_steps_are_equally_likely_until_each_has_ten_losses():
    history = LossHistory(4)
    t = np.array([0.25, 0.5, 0.75, 1.0], "float32")
    for _ in range(9):
        history.record(t, np.array([1.0, 2.0, 3.0, 4.0], "float32"))
    history.record(t[:3], np.ones(3, "float32"))
    np.testing.assert_array_equal(history.probabilities(), 0.25)
    drawn, weight = history.times(np.array([0.0, 0.3, 0.99], "float32"))
    np.testing.assert_array_equal(drawn, [0.25, 0.5, 1.0])
    np.testing.assert_array_equal(weight, 1)
    history.record(t[3:], np.ones(1, "float32"))
    assert np.ptp(history.probabilities()) > 0.1


def test_a_full_history_makes_steps_as_likely_as_their_losses_are_large():
    probabilities = filled([1.0, 3.0, 4.0, 2.0]).probabilities()
    # Eq. 18, and one in a thousand for all alike; float32.
    expected = 0.999 * np.array([0.1, 0.3, 0.4, 0.2]) + 0.001 / 4
    np.testing.assert_allclose(probabilities, expected, rtol=1e-6)


def test_the_weighted_loss_has_the_mean_of_even_times_and_less_variance():
    losses = np.array([0.1, 2.0, 0.5, 5.0, 0.01], "float32")
    # Uniform numbers on a fine grid integrate the expectation.
    uniform = (np.arange(100_000, dtype="float32") + 0.5) / 100_000
    t, weight = filled(losses).times(uniform)
    weighted = losses[np.round(t * 5).astype(int) - 1] * weight.numpy()
    # The grid's cells and float32 sums.
    assert weighted.mean() == pytest.approx(losses.mean(), rel=1e-4)
    assert weighted.std() < 0.1 * losses.std()


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_last_ten_losses_of_each_step_are_kept(jit_compile):
    history = LossHistory(3)
    record = tf.function(history.record, jit_compile=jit_compile)
    random = np.random.default_rng(0)
    expected = {step: [] for step in range(3)}
    for _ in range(30):
        # Of step 2 a batch may hold more than ten.
        steps = random.choice(3, size=20, p=[0.05, 0.2, 0.75])
        losses = random.random(20).astype("float32")
        # A loss that is no number is not remembered.
        losses[random.integers(20)] = np.nan
        record((steps + 1).astype("float32") / 3, losses)
        for step, loss in zip(steps, losses, strict=True):
            if np.isfinite(loss):
                expected[step].append(loss)
    kept = history.past_losses.numpy()
    for step in range(3):
        np.testing.assert_array_equal(
            np.sort(kept[step]), np.sort(expected[step][-10:])
        )
    assert (history.counts.numpy() >= 10).all()
    assert (history.counts.numpy() < 20).all()


def test_losses_of_zero_leave_the_steps_equally_likely():
    np.testing.assert_array_equal(filled([0.0] * 4).probabilities(), 0.25)


def test_every_step_of_a_thousand_is_drawn_and_found_again():
    history = LossHistory(1000)
    t = np.arange(1, 1001, dtype="float32") / 1000
    history.record(t, np.arange(1000, dtype="float32"))
    np.testing.assert_array_equal(history.past_losses[:, 0], np.arange(1000))


def test_the_history_is_built_from_its_config():
    history = LossHistory.from_config(LossHistory(7).get_config())
    assert history.past_losses.shape == (7, 10)
    assert isinstance(history, keras.layers.Layer)
    assert not history.trainable_weights
