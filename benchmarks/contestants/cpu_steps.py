"""Single training steps on a processor: this library's, or diffusers'."""

import time

from harness.worker import Clock, peak_process_bytes, serve

from contestants import keras_data, keras_device


def make(settings):
    """Builds a trainer and takes its first step; see `cpu_step.py`."""
    clock = Clock(settings["started"])
    makers = {"keras": make_keras_step, "diffusers": make_diffusers_step}
    step = makers[settings["library"]](settings)
    clock.mark("build_seconds")
    first_loss = step()
    facts = {
        "first_step_seconds": clock.since_start(),
        "first_loss": first_loss,
    }

    def run(num_steps):
        step()  # What others left in the caches is not counted.
        return time_steps(step, num_steps) | {
            "peak_process_bytes": peak_process_bytes()
        }

    return run, facts


def make_keras_step(settings):
    """`DiffusionModel.train_step`, compiled: clipping and average included."""
    import tensorflow as tf

    from keras_unet_diffusion.training.fused_adam import FusedAdam

    model = keras_device.make_model(settings)
    model.compile(FusedAdam(settings["learning_rate"], weight_decay=0.01))
    images = tf.constant(
        keras_data.random_images(
            settings["batch_size"], settings["image_shape"]
        )
    )
    # As `fit` compiles it.
    train_step = tf.function(model.train_step, autograph=False)
    return lambda: float(train_step(images)["loss"])


def make_diffusers_step(settings):
    """The loop of `diffusers_training`, on the same network."""
    from contestants import diffusers_device
    from contestants.diffusers_training import DiffusersTraining

    trainer = DiffusersTraining(settings, diffusers_device.prepare())
    return lambda: float(trainer.step())


def time_steps(step, num_steps):
    """Milliseconds of each step: by the clock, and of all cores together.

    On a machine that others use too the latter is the steadier.
    """
    wall, processor = [], []
    for _ in range(num_steps):
        start, start_processor = time.perf_counter(), time.process_time()
        loss = step()
        wall.append(1e3 * (time.perf_counter() - start))
        processor.append(1e3 * (time.process_time() - start_processor))
    return {
        "wall_milliseconds": wall,
        "processor_milliseconds": processor,
        "loss": loss,
    }


if __name__ == "__main__":
    serve(make)
