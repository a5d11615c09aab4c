"""Training that is told to stop: when it does, and what it leaves."""

import os
import signal

import keras
import numpy as np
import pytest

from keras_unet_diffusion.training import StopOnSignal, Stopped, load_model
from keras_unet_diffusion.training.checkpoints import list_checkpoints


class Signal(keras.callbacks.Callback):
    """Sends this process a signal after some batches; notes epochs' ends."""

    def __init__(self, after, number=signal.SIGTERM):
        super().__init__()
        self.left = after
        self.number = number
        self.ended = []

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), self.number)

    def on_epoch_end(self, epoch, logs=None):
        self.ended.append(epoch)


@pytest.fixture
def model():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


def fit(model, *callbacks):
    """Three epochs of four batches."""
    numbers = np.ones((16, 2), "float32")
    model.fit(
        numbers,
        numbers[:, :1],
        batch_size=4,
        epochs=3,
        callbacks=list(callbacks),
        verbose=0,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_after_the_running_step(model, number, tmp_path):
    sender = Signal(6, number)
    with pytest.raises(Stopped) as stopped:
        with StopOnSignal(tmp_path, steps_done=100) as stop:
            fit(model, sender, stop)
    assert stopped.value.step == 106
    assert list_checkpoints(tmp_path) == [(106, stopped.value.path)]
    # Keras's count of steps is that of the weights in the file.
    assert load_model(stopped.value.path).optimizer.iterations == 6
    assert sender.ended == [0]


def test_an_epoch_whose_last_step_it_was_is_ended_first(model, tmp_path):
    sender = Signal(8)
    with pytest.raises(Stopped, match="after step 8; saved"):
        with StopOnSignal(tmp_path) as stop:
            fit(model, sender, stop)
    assert sender.ended == [0, 1]


def test_a_second_signal_leaves_at_once(model, tmp_path, monkeypatch):
    class Left(Exception):
        pass

    def leave(status):
        raise Left(status)

    monkeypatch.setattr(os, "_exit", leave)
    # The second comes before the step that the first waits for has ended.
    with pytest.raises(Left, match=str(128 + signal.SIGTERM)):
        with StopOnSignal(tmp_path) as stop:
            fit(model, Signal(2), Signal(2), stop)
    assert list_checkpoints(tmp_path) == []


def test_outside_of_its_block_signals_are_what_they_were(model, tmp_path):
    before = [signal.getsignal(x) for x in (signal.SIGTERM, signal.SIGINT)]
    with StopOnSignal(tmp_path) as stop:
        fit(model, stop)
        assert signal.getsignal(signal.SIGTERM) != before[0]
    after = [signal.getsignal(x) for x in (signal.SIGTERM, signal.SIGINT)]
    assert after == before
    assert list_checkpoints(tmp_path) == []
