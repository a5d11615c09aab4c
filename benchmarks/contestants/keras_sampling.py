"""This library's sampling, as users call it: `DiffusionModel.generate`."""

import time

from harness.worker import Clock, peak_process_bytes, serve

from contestants import keras_device


def make(settings):
    """Builds the model and makes the first images; see `sampling.py`."""
    clock = Clock(settings["started"])
    backend = keras_device.prepare()
    import keras
    import numpy as np

    from keras_unet_diffusion import DDIM, DiffusionModel, DPMSolverPP, UNet

    clock.mark("import_seconds")
    keras.utils.set_random_seed(0)
    policy = settings["dtype"]
    if policy != "float32":
        policy = f"mixed_{policy}"
    network = UNet.from_preset(
        settings["preset"],
        dtype=policy,
        # Last layers of zero would predict nothing but zeros.
        **{"initialization": "diffusers"} | settings["overrides"],
    )
    model = DiffusionModel(network, seed=0)
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
        return {
            "seconds": seconds,
            "images_per_second": num_batches * batch_size / seconds,
            "images_are_finite": bool(np.isfinite(images).all()),
            "peak_device_bytes": keras_device.peak_device_bytes(),
            "peak_process_bytes": peak_process_bytes(),
        }

    for case in settings["cases"]:
        run(**case, num_batches=1)  # Traces and compiles.
    clock.mark("first_images_seconds")
    facts = clock.seconds | {
        "backend": backend,
        "device": keras_device.device_name(),
        "jit_compile": bool(model.jit_compile),
        "flags": keras_device.flags(),
        "num_parameters": network.count_params(),
    }
    return run, facts


if __name__ == "__main__":
    serve(make)
