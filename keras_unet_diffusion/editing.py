"""Sampling that begins with images: to vary and to complete them."""

import dataclasses

import numpy as np

from keras_unet_diffusion.given_images import GivenImages
from keras_unet_diffusion.paths import path_ratios


class EditingMethods(GivenImages):
    """The methods of `DiffusionModel` that change given images.

    Whoever inherits has `ema_network`, `process` and a `generator`.
    """

    def image_to_image(
        self,
        images,
        strength=None,
        noise_level=None,
        num_frames=None,
        **options,
    ):
        """Makes variations of images: noise is added, and taken away again.

        Args:
            images: `(num_images, height, width, channels)`, pixels in [-1, 1].
            strength: float in (0, 1]. Share of the steps that are taken, so
                how much noise is added; 1 leaves next to nothing of the image.
                None for 0.5, or for what `noise_level` says.
            noise_level: float > 0, or None. In place of `strength`: the noise
                per image, sigma / alpha, at most; the first step of the grid
                with no more begins.
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
        images = self.checked_images(images)
        generator = self.generator
        request = self.request_for(images, **options)
        if noise_level is None:
            strength = 0.5 if strength is None else strength
            skipped_steps = _skipped_by_strength(request, strength)
        elif strength is None:
            skipped_steps = _skipped_by_noise(
                request, self.process.schedule, noise_level
            )
        else:
            raise ValueError(
                "strength and noise_level say the same thing. Received: "
                f"strength={strength} and noise_level={noise_level}. Pass one."
            )
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
        images = self.checked_images(images)
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
        request = self.request_for(images, **options)
        task = dataclasses.replace(
            request.task, num_resamples=int(num_resamples)
        )
        arrays = request.arrays | {"images": images, "mask": mask}
        request = dataclasses.replace(request, task=task, arrays=arrays)

        def noise(first, count):
            return generator.initial(request, images.shape[1:], first, count)

        return generator.run(request, noise, num_frames)


def _skipped_by_strength(request, strength):
    """First steps to leave out so that a share of them is taken."""
    steps_taken = round(strength * request.num_steps)
    if not 0 < strength <= 1 or not steps_taken:
        raise ValueError(
            "strength is the share of the steps that are taken, at least one. "
            f"Received: strength={strength} of {request.num_steps} steps. Pass "
            "a number above 0 and up to 1, or more steps."
        )
    return request.num_steps - steps_taken


def _skipped_by_noise(request, schedule, noise_level):
    """First steps to leave out: those that begin with more noise."""
    ratios = path_ratios(schedule, request.task.sampler, request.num_steps)
    most, least = ratios[0], ratios[request.num_steps - 1]
    if not least <= noise_level <= most:
        raise ValueError(
            "noise_level is the noise per image, sigma / alpha, to begin with. "
            f"Received: noise_level={noise_level}. Pass a number from "
            f"{least:.4g} to {most:.4g}, where the first and last steps begin."
        )
    return int(np.argmax(ratios <= noise_level))
