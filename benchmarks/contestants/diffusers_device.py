"""PyTorch and diffusers as contestants: the device and the network."""


def prepare():
    """Returns the device, with TensorFloat-32 as TensorFlow and JAX use it."""
    import torch

    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def make_network(settings, device):
    """The network of the contest, eager or compiled; and itself.

    Returns:
        pair: what is called, and the `UNet2DModel` whose weights it has.
    """
    import torch
    from diffusers import UNet2DModel

    network = UNet2DModel(**settings["config"])
    network = network.to(device, memory_format=torch.channels_last)
    if not settings["compiled"]:
        return network, network
    return torch.compile(network, mode=settings["compile_mode"]), network


def random_images(settings, device):
    """One batch of random images, on the device already."""
    import torch

    height, width, channels = settings["image_shape"]
    shape = (settings["batch_size"], channels, height, width)
    images = 2 * torch.rand(shape, device=device) - 1
    return images.contiguous(memory_format=torch.channels_last)


def synchronize(device):
    """Waits until the device has done its work."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def peak_device_bytes(device):
    """The most memory of the card that was in use, int; None on a CPU."""
    import torch

    if device.type == "cpu":
        return None
    return torch.cuda.max_memory_allocated()


def give_back(device):
    """Frees what the allocator only keeps, for those whose turn is next."""
    import torch

    if device.type == "cuda":
        torch.cuda.empty_cache()
