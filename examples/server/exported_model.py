"""The exported model: noise of a seed, and one step of sampling."""

import json
import math
from pathlib import Path

import numpy as np
import tensorflow as tf

# Of the generator whose numbers `generate` starts from: Philox4x32-10.
_PHILOX = 1
# What the server knows how to fill in.
_INPUTS = {"x_t", "step", "num_steps", "labels", "guidance_scale"}


class Model:
    """A folder of exported files, loaded for a loop of its own.

    The loop is here and not the signature `generate`, so that images of
    several requests, each with its own seed, share a batch, and one that
    nobody waits for any longer can leave it.

    Args:
        folder: what the command `export` wrote.
        exact: bool. Whether images are computed one at a time. In batches the
            last bits of a float32 depend on what else is in them, so that
            rarely a pixel is one grey level off; alone they do not.

    Raises:
        ValueError: there is no model, or it needs inputs that the server does
            not know.
    """

    def __init__(self, folder, exact=False):
        self.exact = exact
        path = Path(folder) / "manifest.json"
        if not path.is_file():
            raise ValueError(
                "There are no exported files. Received: a folder "
                f"{str(folder)!r} without manifest.json. Pass what "
                "python -m export wrote."
            )
        manifest = json.loads(path.read_text())
        self.image_shape = tuple(manifest["image_shape"])
        # A network may not say how many classes it knows.
        self.num_classes = manifest["num_classes"] or 2**31
        self.most_steps = manifest["num_timesteps"] or 128
        # Kept whole: the signature alone does not hold its variables.
        self._loaded = tf.saved_model.load(str(Path(folder) / "saved_model"))
        self._step = self._loaded.signatures["step"]
        self.inputs = set(self._step.structured_input_signature[1])
        if not self.inputs <= _INPUTS:
            raise ValueError(
                "The server cannot fill in all inputs of this model. Received: "
                f"{', '.join(sorted(self.inputs - _INPUTS))}. Serve a model "
                "of images from noise and labels."
            )

    @property
    def takes_labels(self):
        return "labels" in self.inputs

    @property
    def takes_guidance(self):
        return "guidance_scale" in self.inputs

    def noise(self, seed, count):
        """`draw_noise` for images of this model."""
        return draw_noise(seed, count, self.image_shape)

    def step(self, x_t, i, num_steps, labels, guidance_scale):
        """Takes one of the steps from noise to images.

        Args:
            x_t: float32 `(batch, height, width, channels)`.
            i: int, number of the step, from 0.
            num_steps: int.
            labels: int32 `(batch,)`; ignored by a model without classes.
            guidance_scale: float; ignored by one that cannot be guided.

        Returns:
            float32 array of the shape of x_t.
        """
        if self.exact and len(x_t) > 1:
            each = [
                self.step(x[None], i, num_steps, label[None], guidance_scale)
                for x, label in zip(x_t, labels, strict=True)
            ]
            return np.concatenate(each)
        inputs = {
            "x_t": tf.constant(x_t),
            "step": tf.constant(i),
            "num_steps": tf.constant(num_steps),
            "labels": tf.constant(labels, tf.int32),
            "guidance_scale": tf.constant(guidance_scale, tf.float32),
        }
        inputs = {name: inputs[name] for name in self.inputs}
        return self._step(**inputs)["x_next"].numpy()


def draw_noise(seed, count, image_shape):
    """Draws the noise that the signature `generate` starts from.

    Args:
        seed: int from 0, below 2**63.
        count: int, images. Image k depends on the seed and on k alone.
        image_shape: `(height, width, channels)`.

    Returns:
        float32 `(count, height, width, channels)`, standard normal.
    """
    size = math.prod(image_shape)
    # Whole blocks of four words an image.
    num_words = -(-size // 4) * 4
    bits = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[count * num_words],
        key=tf.constant([seed], tf.uint64),
        counter=tf.zeros([2], tf.uint64),
        alg=_PHILOX,
        dtype=tf.uint32,
    ).numpy()
    # The upper 24 bits are a float32 in [0, 1), exactly.
    uniform = (bits >> 8).astype("float32") * np.float32(2**-24)
    pairs = uniform.reshape(count, -1, 2)
    # Box and Muller 1958.
    radius = np.sqrt(-2 * np.log(1 - pairs[..., 0]))
    angle = np.float32(2 * np.pi) * pairs[..., 1]
    values = [radius * np.cos(angle), radius * np.sin(angle)]
    values = np.concatenate(values, axis=1)[:, :size]
    return values.reshape(count, *image_shape)
