"""Runs that are killed or stopped go on as if nothing had happened."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import forked_train
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

from keras_unet_diffusion.cli.command import STOPPED
from keras_unet_diffusion.training import load_model
from keras_unet_diffusion.training.checkpoints import (
    FINAL_MODEL,
    list_checkpoints,
)
from keras_unet_diffusion.training.model_files import check_model_file

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="needs fork"),
]
EPOCH, STEPS = 20, 60
RUN = [
    f"--train_steps={STEPS}",
    f"--steps_per_epoch={EPOCH}",
    "--checkpoint_epochs=1",
    "--sample_epochs=1000",
    "--num_sampling_steps=2",
    "--batch_size=8",
    # Each of these draws numbers of its own; so does dropout.
    "--flip",
    "--label_dropout=0.1",
]
WHOLE = [*RUN, "--validation_split=test"]
LIMIT_SECONDS = 600


def python_path():
    """Where a process finds `forked_train` and what this one finds."""
    return os.pathsep.join(
        [str(Path(__file__).parent), *filter(None, sys.path)]
    )


class Run:
    """The command in a process of its own.

    Args:
        workdir: of the command; its output goes to `<workdir>.out`.
        arguments: list of str, the other flags.
        eagerly: bool, see `forked_train.run`.
    """

    context = None

    def __init__(self, workdir, arguments=WHOLE, eagerly=False):
        if Run.context is None:
            Run.context = multiprocessing.get_context("forkserver")
            # It finds modules by this variable alone.
            os.environ["PYTHONPATH"] = python_path()
            Run.context.set_forkserver_preload(["forked_train"])
        self.output = Path(f"{workdir}.out")
        self.begin = self.output.stat().st_size if self.output.exists() else 0
        self.process = Run.context.Process(
            target=forked_train.run,
            args=([f"--workdir={workdir}", *arguments], self.output, eagerly),
        )
        self.process.start()

    @property
    def text(self):
        """What the command has printed."""
        if not self.output.exists():
            return ""
        return self.output.read_bytes()[self.begin :].decode()

    def wait_for(self, text):
        """Waits until the command prints a text."""
        end = time.monotonic() + LIMIT_SECONDS
        while text not in self.text:
            # Between the two it may have printed it.
            if not self.process.is_alive() and text not in self.text:
                raise AssertionError(f"{text!r} never came: {self.text}")
            assert time.monotonic() < end, self.text
            time.sleep(0.01)

    def kill(self):
        self.process.kill()
        self.process.join()
        assert self.process.exitcode == -signal.SIGKILL, self.text

    def finish(self, status=0):
        """Waits for the end and its status; returns what was printed."""
        self.process.join(LIMIT_SECONDS)
        assert self.process.exitcode == status, self.text
        return self.text


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


def scalars_of(workdir, run):
    """What TensorBoard shows of a run by step, but how fast it was."""
    events = event_accumulator.EventAccumulator(str(workdir / "logs" / run))
    return {
        (tag, event.step): float(tf.make_ndarray(event.tensor_proto))
        for tag in events.Reload().Tags()["tensors"]
        if tag.startswith("fit/") and "images_per_second" not in tag
        for event in events.Tensors(tag)
    }


def assert_same_state(workdir, expected):
    for found, wanted in zip(
        state_of(workdir), state_of(expected), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)


def assert_same_run(workdir, expected):
    assert_same_state(workdir, expected)
    for run in ("train", "validation"):
        found = scalars_of(workdir, run)
        assert ("fit/loss", STEPS) in found
        assert found == scalars_of(expected, run)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uninterrupted") / "run"
    Run(workdir).finish()
    assert load_model(workdir).optimizer.iterations == STEPS
    return workdir


def stop(workdir, number):
    """Stops a run amid its second epoch; returns the step it came to."""
    run = Run(workdir)
    # The signal comes at the line with which an epoch begins.
    run.wait_for("Epoch 2/3")
    os.kill(run.process.pid, number)
    text = run.finish(STOPPED)
    step, path = list_checkpoints(workdir)[-1]
    assert f"Stopped after step {step}; saved {path}." in text
    assert "Traceback" not in text
    assert EPOCH < step < 2 * EPOCH
    return step


def test_a_run_that_was_stopped_and_killed_goes_on_bit_for_bit(
    uninterrupted, tmp_path
):
    workdir = tmp_path / "run"
    step = stop(workdir, signal.SIGTERM)
    run = Run(workdir)
    run.wait_for(f"Going on after step {step}.")
    run.wait_for("Epoch 3/3")
    run.kill()
    # The best is one of the two.
    assert [step for step, _ in list_checkpoints(workdir)][-2:] == [step, 40]
    assert "Going on after step 40." in Run(workdir).finish()
    assert_same_run(workdir, uninterrupted)


def test_a_run_that_was_interrupted_goes_on_bit_for_bit(
    uninterrupted, tmp_path
):
    workdir = tmp_path / "run"
    step = stop(workdir, signal.SIGINT)
    assert f"Going on after step {step}." in Run(workdir).finish()
    assert_same_run(workdir, uninterrupted)


def test_a_second_signal_leaves_at_once_and_loses_nothing(tmp_path):
    workdir = tmp_path / "run"
    run = Run(workdir, [*RUN, "--train_steps=10000"], eagerly=True)
    run.wait_for("Epoch 2/")
    # Whether it leaves amid a step or amid the save of the first signal.
    os.kill(run.process.pid, signal.SIGTERM)
    run.wait_for("once more to leave at once")
    os.kill(run.process.pid, signal.SIGINT)
    assert "Traceback" not in run.finish(128 + signal.SIGINT)
    (step, path) = list_checkpoints(workdir)[0]
    assert step == EPOCH
    check_model_file(path)


def writings(workdir):
    """Checkpoints that are being written, or that a kill left half-written."""
    return list((workdir / "checkpoints").glob(".writing-*"))


def test_thirty_kills_at_random_moments_lose_no_checkpoint(tmp_path):
    """A checkpoint after every step; every other kill comes amid a save."""
    arguments = [*RUN, "--train_steps=2000", "--steps_per_epoch=1"]
    random = np.random.default_rng(0)
    workdir, steps, kills_in_a_save = tmp_path / "run", [0], 0
    for number in range(30):
        run = Run(workdir, arguments, eagerly=True)
        # The end of its first epoch.
        run.wait_for("loss: ")
        if number % 2:
            while not writings(workdir):
                assert run.process.is_alive(), run.text
            time.sleep(random.uniform(0, 0.2))
        else:
            time.sleep(random.uniform(0, 1.0))
        run.kill()
        found = list_checkpoints(workdir)
        for _, path in found:
            check_model_file(path)
        steps.append(found[-1][0])
        kills_in_a_save += bool(writings(workdir))
    assert steps == sorted(steps)
    assert 0 < steps[-1] < 2000
    # Else this test would show nothing.
    assert kills_in_a_save >= 5
    arguments = [*arguments, f"--train_steps={steps[-1] + 2}"]
    Run(workdir, arguments, eagerly=True).finish()
    assert writings(workdir) == []
    Run(tmp_path / "uninterrupted", arguments, eagerly=True).finish()
    assert_same_state(workdir, tmp_path / "uninterrupted")
    print(f"after {steps} steps, {kills_in_a_save} times amid a save")


def test_a_run_goes_on_when_a_full_disk_has_space_again(tmp_path):
    disk, out = tmp_path / "disk", tmp_path / "out.txt"
    disk.mkdir()
    expected = tmp_path / "expected"
    arguments = [*RUN, "--train_steps=6", "--steps_per_epoch=1"]
    Run(expected, arguments, eagerly=True).finish()
    # Room for the first checkpoints, not for one more beside them.
    size = int(3.5 * (expected / FINAL_MODEL).stat().st_size)
    script = """
        mount -t tmpfs -o size=$1 none $2 || exit 99
        shift 2
        "$@"; echo status $?; ls -A $0/run/checkpoints
        mount -o remount,size=64m $0
        "$@"; echo status $?
        cp -r $0/run $0-copy
    """
    call = f"import forked_train as x; x.run({[f'--workdir={disk}/run']}"
    call += f" + {arguments}, {str(out)!r}, True)"
    prefix = ["unshare", "-rm", "sh", "-c", script, disk, str(size), disk]
    try:
        done = subprocess.run(
            [*prefix, sys.executable, "-c", call],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": python_path()},
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip("mounting is not permitted")
    first, *names, second = done.stdout.splitlines()
    assert (first, second) == ("status 1", "status 0"), out.read_text()
    assert "Error: No space left on device. Mend that" in out.read_text()
    assert "Traceback" not in out.read_text()
    # Whole ones alone, and the run went on from one of them.
    assert names and all(name.startswith("step_") for name in names)
    step = max(int(name[5:13]) for name in names)
    assert f"Going on after step {step}." in out.read_text()
    assert_same_state(Path(f"{disk}-copy"), expected)
