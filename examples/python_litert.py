"""Generates an image with LiteRT alone, as on phones and small devices.

    python examples/python_litert.py exported --label=3 --seed=7

Needs: ai-edge-litert, numpy, pillow. The loop is here, so that an application
can show each step; the file's signature `generate` takes all in one call.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image


def open_step(exported, precision="float32"):
    """The function of the file's signature `step`."""
    path = Path(exported) / "litert" / f"{precision}.tflite"
    return Interpreter(str(path)).get_signature_runner("step")


def draw_noise(step, seed):
    """Standard normal noise of the images' shape, with a batch of one."""
    shape = step.get_input_details()["x_t"]["shape"]
    random = np.random.default_rng(seed)
    return random.standard_normal(shape).astype("float32")


def generate(step, noise, num_steps, label, guidance_scale):
    """Makes an image of noise, float32 (1, height, width, channels)."""
    inputs = {
        "num_steps": np.int32(num_steps),
        "labels": np.array([label], "int32"),
        "guidance_scale": np.float32(guidance_scale),
    }
    # A model without classes takes no labels, and so on.
    names = step.get_input_details()
    inputs = {name: x for name, x in inputs.items() if name in names}
    x_t = noise
    for i in range(num_steps):
        began = time.perf_counter()
        x_t = step(x_t=x_t, step=np.int32(i), **inputs)["x_next"]
        milliseconds = 1000 * (time.perf_counter() - began)
        print(f"step {i + 1} of {num_steps}: {milliseconds:.0f} ms")
    return x_t


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("exported", help="folder that the export wrote")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--label", type=int, default=0)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--out", default="image.png")
    given = parser.parse_args()
    if given.steps < 1:
        parser.error("--steps must be at least 1.")
    step = open_step(given.exported, given.precision)
    noise = draw_noise(step, given.seed)
    (image,) = generate(step, noise, given.steps, given.label, given.guidance)
    pixels = np.round((np.clip(image, -1, 1) + 1) * 127.5).astype("uint8")
    if pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    Image.fromarray(pixels).save(given.out)


if __name__ == "__main__":
    main()
