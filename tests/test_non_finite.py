"""A run without finite numbers is ended where it was still good."""

import keras
import numpy as np
import pytest
from conftest import one_block_network

from keras_unet_diffusion import DiffusionModel
from keras_unet_diffusion.training import (
    Diverged,
    SaveCheckpoints,
    StopOnNonFinite,
    load_model,
)
from keras_unet_diffusion.training.checkpoints import list_checkpoints

STEPS_PER_EPOCH = 12


@keras.saving.register_keras_serializable(package="test_non_finite")
class Counters(keras.layers.Layer):
    """Those of `training.updates.Updates`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        for name in (
            "steps_taken",
            "skipped_steps",
            "skipped_in_a_row",
            "first_skipped_step",
        ):
            variable = self.add_weight(
                (), "zeros", "int32", name=name, trainable=False
            )
            setattr(self, name, variable)

    def skip(self):
        if int(self.skipped_in_a_row) == 0:
            self.first_skipped_step.assign(self.steps_taken - 1)
        self.skipped_steps.assign_add(1)
        self.skipped_in_a_row.assign_add(1)


@keras.saving.register_keras_serializable(package="test_non_finite")
class SkippingModel(keras.Sequential):
    """Skips the steps that it is told to skip, as `DiffusionModel` would.

    Its weights are a function of the steps that it did not skip.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.updates = Counters()
        self.bad_steps = ()

    def train_step(self, data):
        updates = self.updates
        updates.steps_taken.assign_add(1)
        step = int(updates.steps_taken)
        if step in self.bad_steps:
            updates.skip()
        else:
            updates.skipped_in_a_row.assign(0)
            self.layers[0].kernel.assign_add([[1.0], [1 / step]])
        return {"loss": 1 / step}


def fit(bad_steps, *callbacks, epochs=4):
    """Epochs of 12 steps; returns the model, how it ended, and the weights
    after each step."""
    model = SkippingModel([keras.Input((2,)), keras.layers.Dense(1)])
    model.bad_steps = bad_steps
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    weights = []

    class Remember(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            weights.append(self.model.layers[0].get_weights())

    numbers = np.ones((STEPS_PER_EPOCH, 2), "float32")
    ended = None
    try:
        model.fit(
            numbers,
            numbers[:, :1],
            batch_size=1,
            epochs=epochs,
            callbacks=[*callbacks, Remember()],
            verbose=0,
        )
    except Diverged as diverged:
        ended = diverged
    return model, ended, weights


def test_a_run_ends_with_the_weights_before_the_row(tmp_path):
    bad_steps = [4, *range(20, 100)]
    model, diverged, weights = fit(bad_steps, StopOnNonFinite(tmp_path, 5))
    assert diverged.first_step == 20
    # It looks after steps 12 (the epoch's end), 17, 22, 24 (the end again).
    assert len(weights) == 24
    assert (diverged.num_in_a_row, diverged.num_skipped) == (5, 6)
    assert list_checkpoints(tmp_path) == [(24, diverged.path)]
    saved = load_model(diverged.path)
    # Weights number 18 are those after step 19.
    for a, b in zip(saved.layers[0].get_weights(), weights[18], strict=True):
        np.testing.assert_array_equal(a, b)
    assert (weights[18][0] != weights[17][0]).all()
    assert saved.updates.steps_taken == 24


def test_the_report_says_where_it_began_and_what_the_losses_were(tmp_path):
    stop = StopOnNonFinite(tmp_path, 3)
    history = keras.callbacks.History()
    _, diverged, _ = fit(range(30, 100), stop, history)
    losses = history.history["loss"]
    assert diverged.losses == losses[:2] and len(losses) == 2
    text = str(diverged)
    for part in ("from step 30 on", f"{losses[1]:.4g}", str(diverged.path)):
        assert part in text


def test_the_report_of_a_run_that_never_began_has_no_losses(tmp_path):
    _, diverged, weights = fit(range(1, 100), StopOnNonFinite(tmp_path, 4))
    assert diverged.first_step == 1 and diverged.losses == []
    assert "none yet" in str(diverged)
    # At once: it looks before step 5.
    assert len(weights) == 4


def test_shorter_rows_and_single_steps_end_no_run(tmp_path):
    bad_steps = [*range(1, 5), 7, 9, *range(11, 15), *range(40, 44)]
    model, diverged, weights = fit(bad_steps, StopOnNonFinite(tmp_path, 5))
    assert diverged is None
    assert len(weights) == 4 * STEPS_PER_EPOCH
    assert model.updates.skipped_steps == len(bad_steps)
    assert list_checkpoints(tmp_path) == []


@pytest.mark.parametrize("first", [1, 2, 4, 11])
def test_it_ends_at_most_the_length_of_a_row_late(tmp_path, first):
    _, diverged, weights = fit(range(first, 100), StopOnNonFinite(tmp_path, 3))
    assert diverged.first_step == first
    assert 3 <= diverged.num_in_a_row < 6
    assert len(weights) == first + diverged.num_in_a_row - 1


def test_no_older_checkpoint_is_removed_for_the_last(tmp_path):
    save = SaveCheckpoints(tmp_path, keep=2)
    _, diverged, _ = fit(range(30, 100), StopOnNonFinite(tmp_path, 3), save)
    steps = [step for step, _ in list_checkpoints(tmp_path)]
    assert steps[:-1] == [12, 24] and list_checkpoints(tmp_path)[-1][1] == (
        diverged.path
    )


def test_looking_is_rare(tmp_path):
    """Each look waits for the device."""
    looks = []

    class Counting(StopOnNonFinite):
        def _look(self, losses):
            looks.append(losses is not None)
            super()._look(losses)

    fit([], Counting(tmp_path, 5), epochs=2)
    # Before steps 6 and 11 of each epoch of 12, and at its end.
    assert looks == [False, False, True] * 2


def test_a_diffusion_model_ends_with_all_that_it_had(tmp_path):
    model = DiffusionModel(one_block_network(), seed=0)
    model.compile(keras.optimizers.Adam(1e-3))
    images = np.random.default_rng(0).uniform(-1, 1, (32, 8, 8, 1))
    images = images.astype("float32")
    options = {"batch_size": 8, "verbose": 0}
    stop = StopOnNonFinite(tmp_path, 3)
    model.fit(images, callbacks=[stop], **options)
    kept = [
        *model.network.variables,
        *model.ema_network.weights,
        *model.optimizer.variables,
    ]
    before = [np.array(variable) for variable in kept]
    with pytest.raises(Diverged) as ended:
        model.fit(images * np.nan, epochs=2, callbacks=[stop], **options)
    assert ended.value.first_step == 5
    assert ended.value.num_in_a_row == ended.value.num_skipped == 3
    saved = load_model(ended.value.path)
    assert int(saved.updates.steps_taken) == 7
    after = [
        *saved.network.variables,
        *saved.ema_network.weights,
        *saved.optimizer.variables,
    ]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, np.array(b))


def test_a_row_of_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="max_in_a_row=0"):
        StopOnNonFinite(tmp_path, 0)
