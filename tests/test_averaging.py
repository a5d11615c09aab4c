"""The exponential moving average against its closed form."""

import keras
import numpy as np
import pytest

from keras_unet_diffusion.training import ExponentialMovingAverage


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


def test_an_update_that_is_not_due_changes_nothing():
    weight, kept = keras.Variable(3.0), keras.Variable(1.0)
    ExponentialMovingAverage(0.5).update([kept], [weight], 0, is_due=False)
    assert float(kept.value) == 1.0


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(ValueError, match=f"decay={decay}"):
        ExponentialMovingAverage(decay)
