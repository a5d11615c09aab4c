"""This library's sampling, as users call it: `DiffusionModel.generate`."""

import time

from harness.worker import Clock, serve, speed

from contestants import keras_device


def make(settings):
    """Builds the model and makes the first images; see `sampling.py`."""
    clock = Clock(settings["started"])
    keras_device.prepare()
    import numpy as np

    from keras_unet_diffusion import DDIM, DPMSolverPP

    clock.mark("import_seconds")
    # Last layers of zero would predict nothing but zeros.
    model = keras_device.make_model(settings, initialization="diffusers")
    model.compile(
        "sgd", jit_compile=keras_device.jit_compile(settings["jit_compile"])
    )
    samplers = {"dpm_solver_2": DPMSolverPP(order=2), "ddim": DDIM()}
    clock.mark("build_seconds")
    batch_size = settings["batch_size"]

    def run(sampler, num_steps, num_batches):
        start = time.perf_counter()
        for seed in range(num_batches):
            images = model.generate(
                batch_size,
                sampler=samplers[sampler],
                num_steps=num_steps,
                seed=seed,
                verbose=0,
            )
        seconds = time.perf_counter() - start
        return speed(
            num_batches * batch_size, seconds, keras_device.peak_device_bytes()
        ) | {"images_are_finite": bool(np.isfinite(images).all())}

    for case in settings["cases"]:
        run(**case, num_batches=1)  # Traces and compiles.
    clock.mark("first_images_seconds")
    facts = clock.seconds | keras_device.model_facts(model)
    return run, facts


if __name__ == "__main__":
    serve(make)
