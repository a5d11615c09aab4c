"""Networks of diffusers with random weights, and what they predict."""

import diffusers
import numpy as np
import torch


def random_model(config, seed):
    """A `UNet2DModel` in which every number matters."""
    torch.manual_seed(seed)
    model = diffusers.UNet2DModel(**config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # PyTorch starts normalisations at 1 and 0.
            if parameter.ndim == 1:
                parameter += 0.1 * torch.randn(parameter.shape)
    return model


def random_inputs(config, seed):
    """Inputs of our network for images of the size of a config."""
    random = np.random.default_rng(seed)
    size = config["sample_size"]
    # Where no size is set, any will do, also oblong ones.
    height, width = (size, size) if isinstance(size, int) else (16, 24)
    shape = (2, height, width, config["in_channels"])
    inputs = {
        "noisy_images": random.standard_normal(shape, "float32"),
        "noise_level": np.array([3, 700], "float32"),
    }
    if config["num_class_embeds"] is not None:
        inputs["labels"] = random.integers(config["num_class_embeds"], size=2)
    return inputs


def predict(model, inputs):
    """What a `UNet2DModel` makes of inputs of ours, in our order of axes."""
    labels = inputs.get("labels")
    with torch.no_grad():
        outputs = model(
            torch.tensor(inputs["noisy_images"]).permute(0, 3, 1, 2),
            torch.tensor(inputs["noise_level"]),
            class_labels=None if labels is None else torch.tensor(labels),
        ).sample
    return outputs.permute(0, 2, 3, 1).numpy()
