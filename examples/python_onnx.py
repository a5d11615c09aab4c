"""Generates images with onnxruntime alone.

    python examples/python_onnx.py exported --labels=3,1,4 --seed=7

Needs: onnxruntime, numpy, pillow.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


def open_step(exported):
    """The session of the file that takes one step."""
    path = Path(exported) / "onnx" / "step.onnx"
    return onnxruntime.InferenceSession(
        str(path), providers=["CPUExecutionProvider"]
    )


def draw_noise(exported, seed, num_images):
    """Standard normal noise, float32 (num_images, height, width, channels)."""
    manifest = json.loads((Path(exported) / "manifest.json").read_text())
    random = np.random.default_rng(seed)
    shape = (num_images, *manifest["image_shape"])
    return random.standard_normal(shape).astype("float32")


def generate(step, noise, num_steps, labels, guidance_scale):
    """Makes images of noise, an array of its shape."""
    inputs = {
        "num_steps": np.array(num_steps, "int32"),
        "labels": np.array(labels, "int32"),
        "guidance_scale": np.array(guidance_scale, "float32"),
    }
    # A model without classes takes no labels, and so on.
    names = [x.name for x in step.get_inputs()]
    inputs = {name: x for name, x in inputs.items() if name in names}
    x_t = noise
    for i in range(num_steps):
        now = {"x_t": x_t, "step": np.array(i, "int32")}
        (x_t,) = step.run(["x_next"], inputs | now)
    return x_t


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("exported", help="folder that the export wrote")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--labels", default="0", help="such as 0,1,2")
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--out", default="images.png")
    given = parser.parse_args()
    if given.steps < 1:
        parser.error("--steps must be at least 1.")
    labels = [int(label) for label in given.labels.split(",")]
    step = open_step(given.exported)
    noise = draw_noise(given.exported, given.seed, len(labels))
    images = generate(step, noise, given.steps, labels, given.guidance)
    pixels = np.round((np.clip(images, -1, 1) + 1) * 127.5).astype("uint8")
    row = np.concatenate(list(pixels), axis=1)  # side by side
    if row.shape[-1] == 1:
        row = row[..., 0]
    Image.fromarray(row).save(given.out)


if __name__ == "__main__":
    main()
