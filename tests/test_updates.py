"""From gradients to updates: accumulation, clipping, steps that are skipped."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import one_block_network

from keras_unet_diffusion import DiffusionModel
from keras_unet_diffusion.training.draws import Draws

BATCH = 12


def make_model(optimizer=None, policy="float32", **arguments):
    keras.utils.set_random_seed(0)
    model = DiffusionModel(one_block_network(policy), seed=7, **arguments)
    model.compile(optimizer or keras.optimizers.SGD(1.0), jit_compile=False)
    return model


def fit(model, images, batch_size):
    """Trains on images in their order; returns the logs of the end."""
    history = model.fit(
        images, batch_size=batch_size, shuffle=False, verbose=0
    ).history
    return {name: values[-1] for name, values in history.items()}


def flat(network):
    return np.concatenate([np.ravel(w) for w in network.get_weights()])


def state(model):
    """All numbers that an update may change."""
    variables = [
        *model.network.weights,
        *model.ema_network.weights,
        *model.optimizer.variables,
    ]
    return [np.array(x) for x in variables]


@pytest.fixture
def images(digits):
    return digits[0][: 2 * BATCH]


@pytest.mark.parametrize(
    "clip_norm", [pytest.param(None, marks=pytest.mark.slow), 0.05]
)
def test_accumulated_steps_are_one_step_on_all_their_images(images, clip_norm):
    whole = make_model(clip_norm=clip_norm)
    parts = make_model(clip_norm=clip_norm, accumulation_steps=3)
    start = flat(whole.network)
    logs = fit(whole, images, BATCH), fit(parts, images, BATCH // 3)
    assert int(parts.optimizer.iterations) == 2
    moved = np.abs(flat(whole.network) - start).max()
    assert moved > 1e-3
    for name in ("network", "ema_network"):
        difference = flat(getattr(whole, name)) - flat(getattr(parts, name))
        # Sums of float32 gradients in another order.
        assert np.abs(difference).max() < 1e-4 * moved
    # The same noise, so the same losses.
    for name in ("loss", "loss_quartile_1", "loss_quartile_4"):
        assert logs[1][name] == pytest.approx(logs[0][name], rel=1e-5)


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_a_step_that_is_not_finite_changes_nothing(images, accumulation_steps):
    model = make_model(
        keras.optimizers.AdamW(1e-3), accumulation_steps=accumulation_steps
    )
    good = images[: 4 * accumulation_steps]
    fit(model, good, 4)
    before, bad = state(model), good.copy()
    bad[1] = np.nan
    logs = fit(model, bad, 4)
    for old, new in zip(before, state(model), strict=True):
        np.testing.assert_array_equal(old, new)
    assert logs["skipped_steps"] == int(model.updates.skipped_steps) == 1
    # Nothing of it is left behind in what adds up gradients.
    fit(model, good, 4)
    assert np.isfinite(flat(model.network)).all()
    assert int(model.optimizer.iterations) == 2


def test_rows_of_skipped_steps_are_counted_from_where_they_began(images):
    model = make_model()
    good, bad = images[:4], np.full_like(images[:4], np.nan)
    rows = []
    for batch in (bad, good, good, bad, bad, bad):
        model.train_on_batch(batch)
        updates = model.updates
        rows.append(
            (int(updates.skipped_in_a_row), int(updates.first_skipped_step))
        )
    assert rows == [(1, 0), (0, 0), (0, 0), (1, 3), (2, 3), (3, 3)]
    assert int(model.updates.skipped_steps) == 4
    assert int(model.updates.steps_taken) == 6


def test_skipped_steps_do_not_count_in_the_metrics(images):
    model, same = make_model(), make_model()
    bad = np.full_like(images[:4], np.nan)
    logs = fit(model, np.concatenate([images[:4], bad]), 4)
    expected = fit(same, images[:4], 4)
    for name in set(expected) - {"skipped_steps"}:
        assert logs[name] == expected[name]


def test_overflow_that_finds_the_loss_scale_is_no_row(images):
    model = make_model(keras.optimizers.SGD(1e-3), policy="mixed_float16")
    # Finite as a loss, but its gradients are none of float16's numbers.
    model.updates.loss_scale.assign(2.0**60)
    for k in range(3):
        model.train_on_batch(images[:4])
        assert float(model.updates.loss_scale) == 2.0 ** (59 - k)
    assert int(model.updates.skipped_steps) == 3
    assert int(model.updates.skipped_in_a_row) == 0
    # A loss that is not finite itself is no matter of the scale.
    model.train_on_batch(images[:4] * 1e30)
    assert int(model.updates.skipped_in_a_row) == 1
    # Nor is anything at the least scale, which stays.
    model.updates.loss_scale.assign(1.0)
    model.train_on_batch(images[:4] * 1e30)
    assert float(model.updates.loss_scale) == 1.0
    assert int(model.updates.skipped_in_a_row) == 2


def test_the_loss_scale_doubles_after_two_thousand_good_updates(images):
    model = make_model(keras.optimizers.SGD(1e-3), policy="mixed_float16")
    model.updates.updates_since_overflow.assign(1998)
    scales = []
    for _ in range(3):
        model.train_on_batch(images[:4])
        scales.append(float(model.updates.loss_scale))
    assert scales == [2.0**15, 2.0**16, 2.0**16]


def test_the_norm_that_is_logged_is_that_of_the_mean_gradient(images):
    model = make_model(keras.optimizers.SGD(0.5), clip_norm=None)
    start = flat(model.network)
    logs = fit(model, images[:4], 4)
    norm = np.linalg.norm(flat(model.network) - start) / 0.5
    # Weights of size 1 are known to 6e-8, and there are thousands.
    assert logs["gradient_norm"] == pytest.approx(norm, rel=1e-3)


def test_quartiles_are_means_over_images_by_their_time(images):
    model = make_model(keras.optimizers.SGD(0.0))
    losses, t = model.objective.losses(
        model.network, images, None, Draws(7, 0, len(images)), True
    )
    losses, t = losses.numpy(), t.numpy()
    logs = fit(model, images, len(images))
    for k in range(4):
        is_in = (k / 4 <= t) & (t < (k + 1) / 4)
        assert is_in.any()
        assert logs[f"loss_quartile_{k + 1}"] == pytest.approx(
            losses[is_in].mean(), rel=1e-5
        )
    assert logs["loss"] == pytest.approx(losses.mean(), rel=1e-5)


def test_draws_do_not_depend_on_how_images_are_split():
    whole = Draws(3, 5, 6)
    for draw in (
        lambda draws: draws.uniform(2),
        lambda draws: draws.normal(2, (5, 3)),
    ):
        parts = [draw(Draws(3, 5, 2, first)) for first in (0, 2, 4)]
        # Vectorised logarithms round differently at array ends.
        np.testing.assert_allclose(
            np.concatenate(parts), draw(whole), atol=1e-6
        )
    others = [whole.uniform(k) for k in (0, 1)] + [Draws(3, 6, 6).uniform(0)]
    assert np.abs(np.diff(others, axis=0)).min() > 0


def test_losses_at_given_times_are_those_of_the_averaged_network(images):
    model = make_model()
    t = np.linspace(0.1, 0.9, 6, dtype="float32")
    found = model.losses_at(images[:6], t, seed=2)
    noise = Draws(2, 0, 6).normal(1, images.shape[1:])
    process = model.process
    x_t = process.corrupt(tf.constant(images[:6]), noise, t)
    prediction = model.ema_network(
        {"noisy_images": x_t, "noise_level": process.noise_level(t)}
    )
    # The default process predicts noise, and weighs all times alike.
    expected = np.square(prediction - noise).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
