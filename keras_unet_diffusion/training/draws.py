"""The random numbers of one training step."""

import dataclasses
from typing import Any

from keras_unet_diffusion import noise

# Streams of the generator that sampling does not use: see `generation`.
_FIRST_STREAM = 2**31


@dataclasses.dataclass(frozen=True)
class Draws:
    """Random numbers of the images that one update of the weights sees.

    Each depends on the seed, the number of the update, the number of the
    image in it and on what it is for. However an update is split over steps
    of accumulation, over devices, or over a run that was stopped, its numbers
    are the same.

    Args:
        seed: int, 64 bits.
        update: integer scalar. Number of the update.
        num_images: int scalar, on JAX a Python int. Images to draw for.
        first_image: integer scalar. Number in the update of the first.
    """

    seed: int
    update: Any
    num_images: Any
    first_image: Any = 0

    def uniform(self, purpose, shape=()):
        """Numbers in [0, 1).

        Args:
            purpose: int >= 0. Other purposes get other numbers.
            shape: tuple of ints, of the numbers of one image.

        Returns:
            float32 `(num_images, *shape)`.
        """
        return self._draw(noise.uniform_images, purpose, shape)

    def normal(self, purpose, shape):
        """Standard normal numbers, likewise."""
        return self._draw(noise.normal_images, purpose, shape)

    def _draw(self, function, purpose, shape):
        stream = (_FIRST_STREAM + purpose, self.update)
        return function(
            self.seed, stream, self.num_images, shape, self.first_image
        )
