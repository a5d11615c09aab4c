"""Runs that are killed or stopped go on as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from command_fixtures import ROOT, SMALL
from tensorboard.backend.event_processing import event_accumulator

from keras_unet_diffusion.cli.command import STOPPED
from keras_unet_diffusion.training import load_model
from keras_unet_diffusion.training.checkpoints import (
    check_model_file,
    list_checkpoints,
)

# Each run of the command takes half a minute.
pytestmark = pytest.mark.slow
EPOCH, STEPS = 20, 60
RUN = [
    *SMALL,
    f"--train_steps={STEPS}",
    f"--steps_per_epoch={EPOCH}",
    "--checkpoint_epochs=1",
    "--sample_epochs=100",
    "--batch_size=8",
    # Each of these draws numbers of its own.
    "--dropout=0.2",
    "--flip",
    "--label_dropout=0.1",
    "--validation_split=test",
]


def start(workdir, *arguments):
    """Starts `python -m train` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "train", f"--workdir={workdir}", *RUN]
        + list(arguments),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"},
    )


def wait_for(process, text):
    """Reads what a process prints until a line holds a text."""
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"{text} never came: {process.stderr.read()}")


def finish(workdir, *arguments):
    """Runs the command to its end; returns what it printed."""
    process = start(workdir, *arguments)
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


def state_of(workdir):
    """All numbers of a finished run's model: weights, averages, optimizer,
    the states of all seed generators, the loss so far."""
    model = load_model(workdir)
    # The averaged network never draws dropout.
    averaged = model.ema_network
    idle = {id(x) for x in averaged.variables} - {
        id(x) for x in averaged.weights
    }
    variables = [*model.variables, *model.optimizer.variables]
    return [np.array(x) for x in variables if id(x) not in idle]


def losses_of(workdir, run="train"):
    """Losses in TensorBoard by epoch."""
    events = event_accumulator.EventAccumulator(str(workdir / "logs" / run))
    return {
        event.step: float(tf.make_ndarray(event.tensor_proto))
        for event in events.Reload().Tensors("epoch_loss")
    }


def assert_same_run(workdir, expected):
    for found, wanted in zip(
        state_of(workdir), state_of(expected), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)
    for run in ("train", "validation"):
        assert losses_of(workdir, run) == losses_of(expected, run)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uninterrupted") / "run"
    finish(workdir)
    assert load_model(workdir).optimizer.iterations == STEPS
    return workdir


def stop(workdir, number):
    """Stops a run amid its second epoch; returns the step it came to."""
    process = start(workdir)
    # The signal comes at the line with which an epoch begins.
    wait_for(process, "Epoch 2/3")
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == STOPPED, err
    step, path = list_checkpoints(workdir)[-1]
    assert f"Stopped after step {step}; saved {path}." in err
    assert "Traceback" not in err
    assert EPOCH < step < 2 * EPOCH
    return step


def test_a_run_that_was_stopped_and_killed_goes_on_bit_for_bit(
    uninterrupted, tmp_path
):
    workdir = tmp_path / "run"
    step = stop(workdir, signal.SIGTERM)
    process = start(workdir)
    wait_for(process, f"Going on after step {step}.")
    wait_for(process, "Epoch 3/3")
    process.kill()
    process.communicate()
    assert [step for step, _ in list_checkpoints(workdir)] == [step, 40]
    assert "Going on after step 40." in finish(workdir)
    assert_same_run(workdir, uninterrupted)


def test_a_run_that_was_interrupted_goes_on_bit_for_bit(
    uninterrupted, tmp_path
):
    workdir = tmp_path / "run"
    step = stop(workdir, signal.SIGINT)
    assert f"Going on after step {step}." in finish(workdir)
    assert_same_run(workdir, uninterrupted)


def test_thirty_kills_at_random_moments_lose_no_checkpoint(tmp_path):
    """A checkpoint after every two steps, so that many kills come in one."""
    run = [
        "--train_steps=1000",
        "--steps_per_epoch=2",
    ]
    random = np.random.default_rng(0)
    workdir, steps = tmp_path / "run", [0]
    for _ in range(30):
        process = start(workdir, *run)
        wait_for(process, "Epoch ")
        time.sleep(random.uniform(0, 1.5))
        process.kill()
        process.communicate()
        found = list_checkpoints(workdir)
        for _, path in found:
            check_model_file(path)
        steps.append(found[-1][0] if found else 0)
    assert steps == sorted(steps)
    assert 0 < steps[-1] < 1000
    finish(workdir, *run)
    finish(tmp_path / "uninterrupted", *run)
    assert_same_run(workdir, tmp_path / "uninterrupted")
