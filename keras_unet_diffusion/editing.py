"""Sampling that begins with images: to vary, complete, invert and mix them."""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_unet_diffusion.generation import LOOP_DTYPE
from keras_unet_diffusion.network_calls import takes_labels
from keras_unet_diffusion.samplers import (
    DDIM,
    LinspaceGrid,
    TrailingGrid,
    make_sampler,
)


class EditingMethods:
    """The methods of `DiffusionModel` that are given images.

    Whoever inherits has `ema_network`, `process` and a `generator`.
    """

    def image_to_image(self, images, strength=0.5, num_frames=None, **options):
        """Makes variations of images: noise is added, and taken away again.

        Args:
            images: `(num_images, height, width, channels)`, pixels in [-1, 1].
            strength: float in (0, 1]. Share of the steps that are taken, so
                how much noise is added; 1 leaves next to nothing of the image.
            num_frames: see `generate`; the first is the noisy image.
            **options: see `generate`; a network with labels needs `labels`.

        Returns:
            See `generate`.

        Raises:
            ValueError: an argument is out of range.

        Example:

        ```python
        variations = model.image_to_image(photos, strength=0.6, seed=0)
        ```

        Reference:
            Meng et al. 2022, "SDEdit", algorithm 1. Differences: none.
        """
        images = self._checked(images)
        if not 0 < strength <= 1:
            raise ValueError(
                "strength is the share of the steps that are taken. Received: "
                f"strength={strength}. Pass a number above 0 and up to 1."
            )
        generator = self.generator
        request = self._request(images, **options)
        steps_taken = max(1, round(strength * request.num_steps))
        skipped_steps = request.num_steps - steps_taken
        request = dataclasses.replace(request, skipped_steps=skipped_steps)
        point = generator.point(request, skipped_steps)

        def noisy(first, count):
            noise = generator.noise(
                request.seed, images.shape[1:], first, count
            )
            clean = images[first : first + count]
            return point.alpha * clean + point.sigma * noise

        return generator.run(request, noisy, num_frames)

    def inpaint(
        self, images, mask, num_resamples=10, num_frames=None, **options
    ):
        """Makes a part of images anew, to fit the rest.

        Args:
            images: `(num_images, height, width, channels)`, pixels in [-1, 1].
            mask: 1 where pixels are kept, 0 where they are made anew; `(height,
                width)` or `(num_images, height, width)`.
            num_resamples: int >= 1. How often each step is taken; more let the
                new part fit better. Network calls grow by as much.
            num_frames: see `generate`.
            **options: see `generate`; a network with labels needs `labels`.

        Returns:
            See `generate`. Kept pixels are those of `images`.

        Raises:
            ValueError: an argument is out of range.

        Example:

        ```python
        images = model.inpaint(photos, mask, num_steps=50, seed=0)
        ```

        Reference:
            Lugmayr et al. 2022, "RePaint", algorithm 1; see `RePaint`.
        """
        images = self._checked(images)
        mask = np.asarray(mask, "float64")
        if mask.shape not in (images.shape[:3], images.shape[1:3]):
            raise ValueError(
                "A mask has the height and width of the images. Received: a "
                f"mask of shape {mask.shape} for images of shape "
                f"{images.shape}. Pass {images.shape[1:3]} or "
                f"{images.shape[:3]}."
            )
        if not np.isin(mask, (0, 1)).all():
            raise ValueError(
                "A mask is 1 where pixels are kept and 0 elsewhere. Received: "
                f"a mask from {mask.min()} to {mask.max()}. Compare it with a "
                "threshold."
            )
        is_whole = isinstance(num_resamples, int | np.integer)
        if not is_whole or num_resamples < 1:
            raise ValueError(
                "Each step is taken at least once. Received: num_resamples="
                f"{num_resamples}. Pass a positive whole number."
            )
        mask = np.broadcast_to(mask, images.shape[:3])[..., None]
        generator = self.generator
        request = self._request(images, **options)
        task = dataclasses.replace(
            request.task, num_resamples=int(num_resamples)
        )
        arrays = request.arrays | {"images": images, "mask": mask}
        request = dataclasses.replace(request, task=task, arrays=arrays)

        def noise(first, count):
            return generator.initial(request, images.shape[1:], first, count)

        return generator.run(request, noise, num_frames)

    def invert(self, images, sampler=None, **options):
        """Finds the noise from which a deterministic sampler makes images.

        Args:
            images: `(num_images, height, width, channels)`, pixels in [-1, 1].
            sampler: `DDIM()`, `Euler()` or `Heun()`, None for the first. Its
                estimates are not bounded.
            **options: see `generate`; more `num_steps` give a more exact
                inverse. A network with labels needs `labels`.

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
        images = self._checked(images)
        generator = self.generator
        request = self._request(
            images, sampler=_reversible(sampler), seed=0, **options
        )
        task = dataclasses.replace(request.task, inverts=True)
        alpha = generator.point(request, request.num_steps).alpha

        def all_but_clean(first, count):
            return alpha * images[first : first + count]

        noise = generator.run(
            dataclasses.replace(request, task=task), all_but_clean
        )
        one = tf.ones((), LOOP_DTYPE)
        return noise / np.float32(generator.scaled(request, one))

    def decode(self, noise, sampler=None, **options):
        """Makes images of given noise, such as `invert` finds.

        Args:
            noise: `(num_images, height, width, channels)`, standard normal.
            sampler: see `invert`.
            **options: see `generate`. A network with labels needs `labels`.

        Returns:
            float32 array of the shape of `noise`.

        Raises:
            ValueError: see `invert`.

        Example:

        ```python
        images = model.decode(np.random.standard_normal((4, 32, 32, 3)))
        ```
        """
        noise = self._checked(noise)
        generator = self.generator
        request = self._request(
            noise, sampler=_reversible(sampler), seed=0, **options
        )
        alpha = generator.point(request, request.num_steps).alpha

        def noisy(first, count):
            part = tf.constant(noise[first : first + count])
            return generator.scaled(request, part)

        return generator.run(request, noisy) / np.float32(alpha)

    def interpolate(self, first, second, num_images, **options):
        """Makes images between two images, or two noises, along an arc.

        Args:
            first: `(height, width, channels)`, pixels in [-1, 1].
            second: likewise.
            num_images: int >= 2, both ends included.
            **options: see `invert`; of `labels` one for all.

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
        ends = self.invert(np.stack([first, second]), **options)
        noise = spherical(*ends, np.linspace(0, 1, num_images))
        return self.decode(noise, **options)

    def _request(self, images, labels=None, **options):
        if labels is None and takes_labels(self.ema_network):
            raise ValueError(
                "The network must be told what given images show. Received: "
                "labels=None. Pass a label for all of them, or one for each."
            )
        return self.generator.request(len(images), labels=labels, **options)

    def _checked(self, images):
        images = np.asarray(images, LOOP_DTYPE)
        if images.ndim != 4 or not len(images):
            raise ValueError(
                "Images have the shape (num_images, height, width, channels). "
                f"Received: images of shape {images.shape}. For a single one "
                "pass image[None]."
            )
        shape = self.ema_network.input["noisy_images"].shape[1:]
        stride = getattr(self.ema_network, "total_stride", 1)
        pairs = zip(shape, images.shape[1:], strict=True)
        fits = all(size in (None, given) for size, given in pairs)
        if not fits or any(size % stride for size in images.shape[1:3]):
            raise ValueError(
                f"The network takes images of shape {tuple(shape)}, height and "
                f"width multiples of {stride}. Received: images of shape "
                f"{images.shape[1:]}. Resize them."
            )
        return images


def _reversible(sampler):
    """The same sampler from one noisy point to another, without bounds."""
    sampler = DDIM() if sampler is None else make_sampler(sampler)
    remembers = sampler.init(tf.zeros((1, 1, 1, 1), LOOP_DTYPE))
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
    """
    cosine = np.vdot(first, second) / (
        np.linalg.norm(first) * np.linalg.norm(second)
    )
    angle = np.arccos(np.clip(cosine, -1, 1))
    shares = np.reshape(shares, (-1, 1, 1, 1))
    if np.sin(angle) < 1e-6:  # the same direction: a straight line
        return (1 - shares) * first + shares * second
    return (
        np.sin((1 - shares) * angle) * first + np.sin(shares * angle) * second
    ) / np.sin(angle)
