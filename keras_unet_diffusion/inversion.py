"""The noise that images come from: found, mixed, and decoded again."""

import dataclasses

import numpy as np
from keras import ops

from keras_unet_diffusion.given_images import GivenImages
from keras_unet_diffusion.samplers import (
    DDIM,
    LinspaceGrid,
    TrailingGrid,
    make_sampler,
)
from keras_unet_diffusion.sampling_loop import LOOP_DTYPE


class InversionMethods(GivenImages):
    """The methods of `DiffusionModel` that go from images to noise and back.

    Whoever inherits has `ema_network`, `process` and a `generator`.
    """

    def invert(self, images, sampler=None, **options):
        """Finds the noise from which a deterministic sampler makes images.

        Args:
            images: `(num_images, height, width, channels)`, pixels in [-1, 1].
            sampler: `DDIM()`, `Euler()` or `Heun()`, None for the first. Its
                estimates are not bounded.
            **options: `labels`, `num_steps`, `guidance_scale`, `guidance`,
                `batch_size` and `verbose` of `generate`. More steps give a
                more exact inverse; a network with labels needs `labels`. A
                `seed` changes nothing.

        Returns:
            float32 array of the shape of `images`, to be given to `decode`.

        Raises:
            ValueError: the sampler is stochastic, or remembers steps.

        Example:

        ```python
        again = model.decode(model.invert(photos))
        ```

        Reference:
            Song et al. 2021, "Denoising Diffusion Implicit Models", section
            4.3. Differences: starts at the smallest noise level of the grid,
            where the image is taken as it is, instead of at none.
        """
        images = self.checked_images(images)
        generator = self.generator
        options = {"seed": 0} | options
        request = self.request_for(
            images, sampler=_reversible(sampler), **options
        )
        task = dataclasses.replace(request.task, inverts=True)
        alpha = generator.point(request, request.num_steps).alpha

        def all_but_clean(first, count):
            return alpha * images[first : first + count]

        noise = generator.run(
            dataclasses.replace(request, task=task), all_but_clean
        )
        one = np.ones((), LOOP_DTYPE)
        return noise / np.float32(generator.scaled(request, one))

    def decode(self, noise, sampler=None, **options):
        """Makes images of given noise, such as `invert` finds.

        Args:
            noise: `(num_images, height, width, channels)`, standard normal.
            sampler: see `invert`.
            **options: see `invert`.

        Returns:
            float32 array of the shape of `noise`.

        Raises:
            ValueError: see `invert`.

        Example:

        ```python
        images = model.decode(np.random.standard_normal((4, 32, 32, 3)))
        ```
        """
        noise = self.checked_images(noise)
        generator = self.generator
        options = {"seed": 0} | options
        request = self.request_for(
            noise, sampler=_reversible(sampler), **options
        )
        alpha = generator.point(request, request.num_steps).alpha

        def noisy(first, count):
            return generator.scaled(request, noise[first : first + count])

        return generator.run(request, noisy) / np.float32(alpha)

    def interpolate(self, first, second, num_images, **options):
        """Makes images between two images, along an arc between their noises.

        Args:
            first: `(height, width, channels)`, pixels in [-1, 1].
            second: likewise.
            num_images: int >= 2, both ends included.
            **options: see `invert`; `labels` is one label, for all.

        Returns:
            float32 array `(num_images, height, width, channels)`.

        Raises:
            ValueError: an argument is out of range.

        Example:

        ```python
        images = model.interpolate(photos[0], photos[1], num_images=8)
        ```

        Reference:
            Song et al. 2021, section 5.3 and appendix D.5 (spherical).
            Differences: the ends are images, inverted.
        """
        if num_images < 2:
            raise ValueError(
                "Both ends are included. Received: num_images="
                f"{num_images}. Pass at least 2."
            )
        shapes = np.shape(first), np.shape(second)
        if shapes[0] != shapes[1] or len(shapes[0]) != 3:
            raise ValueError(
                "Both ends are images (height, width, channels) of one size. "
                f"Received: shapes {shapes[0]} and {shapes[1]}. Resize one."
            )
        if np.ndim(options.get("labels")):
            raise ValueError(
                "Images between two others are all of one class. Received: "
                f"labels={options['labels']}. Pass one label."
            )
        ends = self.invert(np.stack([first, second]), **options)
        noise = spherical(*ends, np.linspace(0, 1, num_images))
        return self.decode(noise, **options)


def _reversible(sampler):
    """The same sampler from one noisy point to another, without bounds."""
    sampler = DDIM() if sampler is None else make_sampler(sampler)
    remembers = sampler.init(ops.zeros((1, 1, 1, 1)))
    if sampler.is_stochastic or remembers or sampler.compat != "paper":
        raise ValueError(
            "Only deterministic samplers of one step, as published, can be run "
            f"backwards. Received: sampler={sampler!r}. Pass DDIM(), Euler() "
            "or Heun()."
        )
    # A trailing grid ends far from the image, a linear one next to it.
    is_trailing = sampler.usual_grid == TrailingGrid()
    usual_grid = LinspaceGrid() if is_trailing else sampler.usual_grid
    return dataclasses.replace(
        sampler,
        grid=sampler.grid or usual_grid,
        thresholding=None,
        final_denoising=False,
    )


def spherical(first, second, shares):
    """Interpolates along the great circle between two noises.

    Args:
        first: `(height, width, channels)`.
        second: likewise.
        shares: numbers from 0, `first`, to 1, `second`.

    Returns:
        `(len(shares), height, width, channels)`. Shoemake 1985 ("slerp").

    Raises:
        ValueError: they point in opposite directions.
    """
    cosine = np.vdot(first, second) / (
        np.linalg.norm(first) * np.linalg.norm(second)
    )
    angle = np.arccos(np.clip(cosine, -1, 1))
    if cosine < -1 + 1e-9:
        raise ValueError(
            "Between opposite noises there are many arcs. Received: two that "
            "are. Pass others."
        )
    shares = np.reshape(shares, (-1, 1, 1, 1))
    if np.sin(angle) < 1e-6:  # the same direction: a straight line
        return (1 - shares) * first + shares * second
    return (
        np.sin((1 - shares) * angle) * first + np.sin(shares * angle) * second
    ) / np.sin(angle)
