"""This library's trainer, as users run it: `DiffusionModel.fit`."""

import math
import time

from harness.worker import Clock, serve, speed

from contestants import keras_data, keras_device


def make(settings):
    """Builds, compiles and takes the first step; see `training.py`."""
    clock = Clock(settings["started"])
    keras_device.prepare()
    import keras

    import keras_unet_diffusion  # noqa: F401  Is counted as importing.

    clock.mark("import_seconds")
    with keras_device.data_parallel(settings["devices"]):
        model = keras_device.make_model(settings)
        model.compile(
            keras.optimizers.AdamW(settings["learning_rate"]),
            steps_per_execution=settings["steps_per_execution"],
            jit_compile=keras_device.jit_compile(settings["jit_compile"]),
        )
    dataset = keras_data.image_batches(
        settings["data"],
        model.network.input["noisy_images"].shape[1:],
        settings["batch_size"],
        settings["data_dir"],
    )
    clock.mark("build_seconds")
    trainer = KerasTraining(model, dataset, settings)
    facts = trainer.first_step(clock) | keras_device.model_facts(model)
    return trainer.run, facts


class KerasTraining:
    """Runs `fit` for a number of steps.

    Args:
        model: a compiled `DiffusionModel`.
        dataset: an endless `tf.data.Dataset`.
        settings: dict, of `training.py`.
    """

    def __init__(self, model, dataset, settings):
        self.model = model
        self.dataset = dataset
        self.batch_size = settings["batch_size"]
        self.execution = settings["steps_per_execution"]

    def first_step(self, clock):
        """Traces, compiles and runs; returns what took how long."""
        tracing = time_calls(self.model, "train_step")
        losses = self._fit(self.execution)
        # The loss is on the host by now.
        first_step_seconds = clock.since_start()
        clock.mark("first_fit_seconds")
        traced = sum(tracing)
        start = time.perf_counter()
        self._fit(self.execution)
        again = time.perf_counter() - start
        seconds = clock.seconds
        return seconds | {
            "first_step_seconds": first_step_seconds,
            "trace_seconds": traced,
            "num_traces": len(tracing),
            # What the first call has more than the second, but for tracing.
            "compile_seconds": max(
                0.0, seconds["first_fit_seconds"] - traced - again
            ),
            "first_loss": losses[0],
        }

    def run(self, num_steps, every_loss=False):
        """Trains; the time is that of `fit`, until the loss is there.

        Args:
            num_steps: int, a multiple of the steps at once.
            every_loss: bool. Whether to return the loss of each step, which
                waits for the device after each.
        """
        if not every_loss:
            self._fit(self.execution)  # The card's clock falls in a pause.
        skipped = self._num_skipped()
        start = time.perf_counter()
        losses = self._fit(num_steps, every_loss)
        seconds = time.perf_counter() - start
        answer = speed(
            num_steps * self.batch_size,
            seconds,
            keras_device.peak_device_bytes(),
        ) | {
            "loss": losses[-1],
            "skipped_steps": self._num_skipped() - skipped,
            "weights_are_finite": self._weights_are_finite(),
        }
        return answer | ({"losses": losses} if every_loss else {})

    def _fit(self, num_steps, every_loss=False):
        """Trains; the losses of all steps, or their mean alone."""
        import keras

        reader = LossReader(self._num_skipped())
        callback = keras.callbacks.LambdaCallback(on_train_batch_end=reader)
        history = self.model.fit(
            self.dataset,
            steps_per_epoch=num_steps,
            epochs=1,
            verbose=0,
            shuffle=False,
            callbacks=[callback] if every_loss else [],
        )
        return reader.losses or history.history["loss"]

    def _num_skipped(self):
        """Steps left out because something in them was not finite."""
        return int(self.model.updates.skipped_steps.numpy())

    def _weights_are_finite(self):
        from keras import ops

        sums = [float(ops.sum(x)) for x in self.model.trainable_variables]
        return all(map(math.isfinite, sums))


class LossReader:
    """Reads the loss of each step from the means of an epoch.

    Args:
        num_skipped: int, steps skipped before the epoch.
    """

    def __init__(self, num_skipped):
        self.num_skipped = self.skipped_before = num_skipped
        self.losses = []

    def __call__(self, batch, logs):
        """Takes the logs after step `batch` (from 0) of the epoch."""
        skipped = int(logs["skipped_steps"])
        if skipped > self.num_skipped:
            # Left out of the mean; only that it was not finite is known.
            self.losses.append(math.nan)
        else:
            counted = batch + 1 - (skipped - self.skipped_before)
            before = sum(x for x in self.losses if not math.isnan(x))
            self.losses.append(counted * float(logs["loss"]) - before)
        self.num_skipped = skipped


def time_calls(model, name):
    """Lets a method of a model note its seconds in a list, returned here.

    A training step is a Python function that runs only while it is traced.
    """
    seconds = []
    method = getattr(model, name)

    def timed(*args, **kwargs):
        start = time.perf_counter()
        outputs = method(*args, **kwargs)
        seconds.append(time.perf_counter() - start)
        return outputs

    setattr(model, name, timed)
    return seconds


if __name__ == "__main__":
    serve(make)
