"""DiffusionModel in mixed precision and compiled by XLA."""

import keras
import numpy as np
import pytest
from model_cases import largest_difference, make_model, train, weights_of


# By default, float32 is compared in test_training_options.py, with all that a
# model may add; below, it is compiled in bfloat16 too.
@pytest.mark.slow
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_xla_trains_the_same(policy, digits):
    losses = []
    for jit_compile in (False, True):
        model = make_model(policy)
        model.compile(keras.optimizers.SGD(0.1), jit_compile=jit_compile)
        losses.append(train(model, digits[0][:16], 5))
    # The noise has the same bits; convolutions round to 24 or 8 bits.
    tolerance = {"float32": 1e-4, "mixed_bfloat16": 0.02}[policy]
    np.testing.assert_allclose(losses[1], losses[0], rtol=tolerance)


@pytest.mark.slow
def test_mixed_precision_trains_like_float32(digits):
    losses = {}
    for policy in ("float32", "mixed_float16", "mixed_bfloat16"):
        model = make_model(policy, keras.optimizers.Adam(3e-3))
        # XLA: float16 convolutions without it are very slow on a CPU.
        model.compile(model.optimizer, jit_compile=True)
        first, *_, last = np.split(train(model, digits[0][:32], 40), [1, 30])
        losses[policy] = last.mean()
        assert losses[policy] < 0.8 * first[0]
        # The same noise in every step; the steps' rounding adds up slowly.
        np.testing.assert_allclose(
            losses[policy], losses["float32"], rtol=0.05, err_msg=policy
        )


def test_float16_updates_have_the_size_of_float32_updates(digits):
    # Adam would hide gradients that are too small by a factor; SGD does not.
    moved = {}
    for policy in ("float32", "mixed_float16"):
        model = make_model(policy, keras.optimizers.SGD(0.01), clip_norm=None)
        model.run_eagerly = True
        start = weights_of(model.network)
        train(model, digits[0][:16], 1)
        end = weights_of(model.network)
        moved[policy] = np.concatenate(
            [(e - s).ravel() for s, e in zip(start, end, strict=True)]
        )
    difference = np.linalg.norm(moved["mixed_float16"] - moved["float32"])
    # Gradients of 11 bits through a dozen layers.
    assert difference < 0.05 * np.linalg.norm(moved["float32"])


def test_a_float16_overflow_skips_the_update_and_the_average(digits):
    model = make_model("mixed_float16")
    train(model, digits[0][:8], 1)
    raw, averaged = weights_of(model.network), weights_of(model.ema_network)
    scale = float(model.updates.loss_scale)
    # Finite themselves, but not as float16.
    train(model, digits[0][:8] * 1e30, 1)
    assert float(model.updates.loss_scale) == scale / 2
    assert int(model.updates.skipped_steps) == 1
    assert largest_difference(raw, weights_of(model.network)) == 0
    assert largest_difference(averaged, weights_of(model.ema_network)) == 0


def test_the_policy_of_the_network_decides_about_loss_scaling():
    # Under a global float32 policy, Keras alone would not scale.
    assert float(make_model("mixed_float16").updates.loss_scale) == 2**15
    assert float(make_model("mixed_bfloat16").updates.loss_scale) == 1
