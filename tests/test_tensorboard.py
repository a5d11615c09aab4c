"""What TensorBoard gets of a run, in one process or several."""

import keras
import numpy as np
import pytest
from scalar_events import counting_model, fit, scalars_in, values_in
from tensorboard.plugins.hparams import plugin_data_pb2

from keras_unet_diffusion.training.tensorboard import (
    LogScalars,
    write_hparams,
)


def as_float32(values):
    return [np.float32(value).item() for value in values]


def test_all_logs_are_written_at_the_steps_that_were_taken(tmp_path):
    history = fit(counting_model(), [LogScalars(tmp_path)], epochs=3).history
    for name, run, tag in (
        ("loss", "train", "fit/loss"),
        ("val_loss", "validation", "fit/loss"),
    ):
        found = scalars_in(tmp_path / run, tag)
        assert found == list(
            zip([3, 6, 9], as_float32(history[name]), strict=True)
        )


@pytest.mark.parametrize("scales_loss", [False, True])
def test_the_learning_rate_is_that_of_the_step(tmp_path, scales_loss):
    schedule = keras.optimizers.schedules.PolynomialDecay(
        0.1, decay_steps=10, end_learning_rate=0.0
    )
    optimizer = keras.optimizers.SGD(schedule)
    if scales_loss:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    fit(counting_model(optimizer), [LogScalars(tmp_path)], epochs=2)
    (first, rate), (second, last) = scalars_in(
        tmp_path / "train", "fit/learning_rate"
    )
    assert (first, second) == (3, 6)
    # A straight line from 0.1 at step 0 to 0 at step 10, in float32.
    assert rate == pytest.approx(0.07, rel=1e-6)
    assert last == pytest.approx(0.04, rel=1e-6)


def test_an_epoch_is_on_disk_when_the_next_callback_acts(tmp_path):
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(len(scalars_in(tmp_path / "train", "fit/loss")))

    fit(counting_model(), [LogScalars(tmp_path), Look()], epochs=3)
    assert seen == [1, 2, 3]


def state_of(model):
    return [np.array(x) for x in (*model.variables, *model.optimizer.variables)]


def restore(model, state):
    variables = (*model.variables, *model.optimizer.variables)
    for variable, value in zip(variables, state, strict=True):
        variable.assign(value)


def test_a_run_that_was_killed_and_went_on_logged_what_one_run_logs(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    fit(counting_model(), [LogScalars(whole, {"a": 1})], epochs=5)
    model = counting_model()
    fit(model, [LogScalars(killed, {"a": 1})], epochs=2)
    checkpoint = state_of(model)
    # Two more epochs, of which there is no checkpoint.
    log = LogScalars(killed)
    fit(model, [log], epochs=4, initial_epoch=2)
    model = counting_model()
    restore(model, checkpoint)
    fit(model, [LogScalars(killed, {"a": 1})], epochs=5, initial_epoch=2)
    for run in ("train", "validation"):
        expected = scalars_in(whole / run, "fit/loss")
        assert [step for step, _ in expected] == [3, 6, 9, 12, 15]
        assert scalars_in(killed / run, "fit/loss") == expected
    tags = [(step, tag) for step, tag, _ in values_in(killed / "train")]
    assert sorted(tags) == sorted(
        (step, tag) for step, tag, _ in values_in(whole / "train")
    )
    assert "_hparams_/session_start_info" in [tag for _, tag in tags]


def hparams_in(folder):
    """What TensorBoard's plugin finds: its own parser of its own format."""
    experiment = session = None
    for _, _, value in values_in(folder / "train"):
        if value.metadata.plugin_data.plugin_name != "hparams":
            continue
        content = value.metadata.plugin_data.content
        data = plugin_data_pb2.HParamsPluginData.FromString(content)
        if data.HasField("experiment"):
            experiment = data.experiment
        if data.HasField("session_start_info"):
            session = data.session_start_info
    return experiment, session


def test_hparams_are_those_of_the_run_and_none_that_are_left_out(tmp_path):
    write_hparams(
        tmp_path,
        {
            "learning_rate": 0.5,
            "flip": True,
            "source": "digits",
            "attention_resolutions": ["16", "8"],
            "dropout": None,
        },
    )
    experiment, session = hparams_in(tmp_path)
    found = {
        name: getattr(value, value.WhichOneof("kind"))
        for name, value in session.hparams.items()
    }
    assert found == {
        "learning_rate": 0.5,
        "flip": True,
        "source": "digits",
        "attention_resolutions": "16,8",
    }
    columns = [info.name for info in experiment.hparam_infos]
    assert sorted(columns) == sorted([*found, "dropout"])


def test_every_metric_beside_the_hparams_is_one_that_fit_logs(tmp_path):
    from keras_unet_diffusion.training.callbacks import ImagesPerSecond

    callbacks = [ImagesPerSecond(4), LogScalars(tmp_path, {"a": 1})]
    fit(counting_model(), callbacks, epochs=1)
    experiment, _ = hparams_in(tmp_path)
    assert len(experiment.metric_infos) == 3
    for metric in experiment.metric_infos:
        # The session's own run.
        assert metric.name.group == ""
        assert scalars_in(tmp_path / "train", metric.name.tag)
