"""Generates images with TensorFlow alone.

    python examples/python_tensorflow.py exported --labels=3,1,4 --seed=7

Needs: tensorflow. Image k of a seed is the one that `model.generate` makes,
and that the C program, the server and the web page make.
"""

import argparse
from pathlib import Path

import tensorflow as tf


def generate(exported, seed, num_steps, labels, guidance_scale, sampler):
    """Makes an image for each label, uint8 (batch, height, width, channels)."""
    model = tf.saved_model.load(str(Path(exported) / "saved_model"))
    function = model.signatures["generate"]
    inputs = {
        "num_images": tf.constant(len(labels)),
        "num_steps": tf.constant(num_steps),
        "seed": tf.constant(seed, tf.int64),
        "sampler": tf.constant(sampler),
        "labels": tf.constant(labels),
        "guidance_scale": tf.constant(guidance_scale),
    }
    # A model without classes takes no labels, and so on.
    names = function.structured_input_signature[1]
    images = function(**{name: inputs[name] for name in names})["images"]
    return model.signatures["decode_image"](images=images)["pixels"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("exported", help="folder that the export wrote")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--labels", default="0", help="such as 0,1,2")
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--sampler", default="ddim")
    parser.add_argument("--out", default="images.png")
    given = parser.parse_args()
    try:
        pixels = generate(
            given.exported,
            given.seed,
            given.steps,
            [int(label) for label in given.labels.split(",")],
            given.guidance,
            given.sampler,
        )
    except (tf.errors.InvalidArgumentError, OSError, ValueError) as error:
        # What the model refuses, a missing folder, labels that are no numbers.
        parser.error(str(error).splitlines()[0])
    row = tf.concat(tf.unstack(pixels), axis=1)  # side by side
    tf.io.write_file(given.out, tf.io.encode_png(row))


if __name__ == "__main__":
    main()
