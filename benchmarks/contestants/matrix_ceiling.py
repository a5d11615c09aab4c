"""The most arithmetic that the device reached: a large matrix product."""

import importlib.util
import time

from harness.worker import serve


def make(settings):
    """Measures the product of two square matrices of random numbers."""
    size, dtype = settings["size"], settings["dtype"]
    by_torch = importlib.util.find_spec("torch") is not None
    make_product = _torch_product if by_torch else _jax_product
    multiply, device = make_product(size, dtype)
    multiply()  # Compiling, and the first touch of memory.
    seconds = min(_seconds_of(multiply) for _ in range(settings["repeats"]))
    facts = {
        "teraflops": 2 * size**3 / seconds / 1e12,
        "size": size,
        "dtype": dtype,
        "measured_by": "torch" if by_torch else "jax",
        "device": device,
    }
    return None, facts


def _torch_product(size, dtype):
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = True
    shape, dtype = (size, size), getattr(torch, dtype)
    a, b = (torch.randn(shape, device=device).to(dtype) for _ in range(2))

    def multiply():
        for _ in range(10):
            c = a @ b
        c[0, 0].item()  # Waits for the device.

    return multiply, device


def _jax_product(size, dtype):
    import jax
    import jax.numpy as jnp

    keys = jax.random.split(jax.random.key(0))
    a, b = (jax.random.normal(key, (size, size), dtype) for key in keys)
    product = jax.jit(jnp.matmul)

    def multiply():
        for _ in range(10):
            c = product(a, b)
        c.block_until_ready()

    return multiply, jax.default_backend()


def _seconds_of(function):
    start = time.perf_counter()
    function()
    return (time.perf_counter() - start) / 10


if __name__ == "__main__":
    serve(make)
