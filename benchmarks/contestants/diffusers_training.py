"""A trainer of diffusers' network, written as one would write it today.

AdamW in one kernel, gradients clipped, an average of the weights in few
kernels, 16-bit arithmetic by autocast, channels last; losses stay on the
device until they are asked for.
"""

import math
import time

from harness.worker import Clock, serve, speed

from contestants import diffusers_device


def make(settings):
    """Builds, compiles and takes the first step; see `training.py`."""
    clock = Clock(settings["started"])
    import diffusers  # noqa: F401
    import torch

    clock.mark("import_seconds")
    trainer = DiffusersTraining(settings, diffusers_device.prepare())
    clock.mark("build_seconds")
    loss = trainer.step().item()
    first_step_seconds = clock.since_start()
    clock.mark("first_call_seconds")
    start = time.perf_counter()
    trainer.step().item()
    again = time.perf_counter() - start
    facts = clock.seconds | {
        "first_step_seconds": first_step_seconds,
        "trace_seconds": None,  # One with compiling.
        "compile_seconds": max(
            0.0, clock.seconds["first_call_seconds"] - again
        ),
        "first_loss": loss,
        "device": "gpu" if torch.cuda.is_available() else "cpu",
        "num_parameters": sum(x.numel() for x in trainer.parameters),
    }
    return trainer.run, facts


class DiffusersTraining:
    """The training loop.

    Args:
        settings: dict, of `training.py`.
        device: `torch.device`.
    """

    def __init__(self, settings, device):
        import torch
        from diffusers import DDPMScheduler
        from diffusers.training_utils import EMAModel

        self.device = device
        self.batch_size = settings["batch_size"]
        self.dtype = getattr(torch, settings["dtype"])
        self.network, network = diffusers_device.make_network(settings, device)
        network.train()
        self.parameters = list(network.parameters())
        self.scheduler = DDPMScheduler(beta_schedule="linear")
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=settings["learning_rate"], fused=True
        )
        self.scaler = torch.amp.GradScaler(
            device.type, enabled=settings["dtype"] == "float16"
        )
        self.average = EMAModel(self.parameters, decay=0.9999, foreach=True)
        self.average.to(device)
        self.images = diffusers_device.random_images(settings, device)

    def step(self):
        """One update of the weights and of their average; the loss."""
        import torch

        images = self.images
        noise = torch.randn_like(images)
        steps = torch.randint(0, 1000, (len(images),), device=self.device)
        noisy_images = self.scheduler.add_noise(images, noise, steps)
        is_mixed = self.dtype != torch.float32
        with torch.autocast(self.device.type, self.dtype, enabled=is_mixed):
            (prediction,) = self.network(noisy_images, steps, return_dict=False)
        loss = torch.nn.functional.mse_loss(prediction.float(), noise)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.step(self.parameters)
        return loss.detach()

    def run(self, num_steps):
        """Trains; the time goes until the losses are on the host."""
        import torch

        self.step().item()  # The card's clock falls in a pause.
        start = time.perf_counter()
        losses = [self.step() for _ in range(num_steps)]
        losses = torch.stack(losses).tolist()
        diffusers_device.synchronize(self.device)
        seconds = time.perf_counter() - start
        sums = torch.stack([x.detach().sum() for x in self.parameters])
        answer = speed(
            num_steps * self.batch_size,
            seconds,
            diffusers_device.peak_device_bytes(self.device),
        ) | {
            "loss": sum(losses) / num_steps,
            "skipped_steps": None,
            "weights_are_finite": all(map(math.isfinite, sums.tolist())),
        }
        diffusers_device.give_back(self.device)
        return answer


if __name__ == "__main__":
    serve(make)
