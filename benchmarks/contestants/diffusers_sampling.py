"""Sampling with diffusers' network and schedulers, as its pipelines do.

The weights are 16-bit, as a pipeline loads them with `torch_dtype`.
"""

import time

from harness.worker import Clock, serve, speed

from contestants import diffusers_device


def make(settings):
    """Builds the network and makes the first images; see `sampling.py`."""
    clock = Clock(settings["started"])
    import diffusers
    import torch

    clock.mark("import_seconds")
    device = diffusers_device.prepare()
    dtype = getattr(torch, settings["dtype"])
    network, weights = diffusers_device.make_network(settings, device)
    weights.eval().to(dtype)
    schedulers = {
        "dpm_solver_2": diffusers.DPMSolverMultistepScheduler(
            beta_schedule="linear", solver_order=2
        ),
        "ddim": diffusers.DDIMScheduler(beta_schedule="linear"),
    }
    clock.mark("build_seconds")
    height, width, channels = settings["image_shape"]
    shape = (settings["batch_size"], channels, height, width)

    def make_images(scheduler, num_steps):
        scheduler.set_timesteps(num_steps, device=device)
        images = torch.randn(shape, device=device).to(
            dtype, memory_format=torch.channels_last
        )
        images = images * scheduler.init_noise_sigma
        for step in scheduler.timesteps:
            (prediction,) = network(images, step, return_dict=False)
            images = scheduler.step(prediction, step, images).prev_sample
        return images.float().clamp(-1, 1).permute(0, 2, 3, 1).cpu().numpy()

    @torch.no_grad()
    def run(sampler, num_steps, num_batches):
        import numpy as np

        start = time.perf_counter()
        for _ in range(num_batches):
            images = make_images(schedulers[sampler], num_steps)
        seconds = time.perf_counter() - start
        return speed(
            num_batches * len(images),
            seconds,
            diffusers_device.peak_device_bytes(device),
        ) | {"images_are_finite": bool(np.isfinite(images).all())}

    for case in settings["cases"]:
        run(**case, num_batches=1)  # Compiles.
    clock.mark("first_images_seconds")
    facts = clock.seconds | {
        "device": device.type,
        "num_parameters": sum(x.numel() for x in weights.parameters()),
    }
    return run, facts


if __name__ == "__main__":
    serve(make)
