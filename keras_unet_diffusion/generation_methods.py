"""What a `DiffusionModel` can do with its averaged network: make images."""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_unet_diffusion.generation import LOOP_DTYPE, ImageGenerator
from keras_unet_diffusion.samplers import DDIM


class GenerationMethods:
    """The methods of `DiffusionModel` that sample.

    Whoever inherits has `ema_network`, `process`, `jit_compile` and a dict
    `_generators`.
    """

    @property
    def generator(self):
        """The `ImageGenerator` of the averaged weights."""
        jit_compile = bool(self.jit_compile)
        if jit_compile not in self._generators:
            self._generators[jit_compile] = ImageGenerator(
                self.ema_network, self.process, jit_compile
            )
        return self._generators[jit_compile]

    def generate(self, num_images, **options):
        """Generates images from noise, by the averaged weights.

        Image `k` depends on the seed, on `k` and on its label alone: not on
        the batch, nor on whether XLA compiles the network. The loop is traced
        once for each sampler, whatever the number of steps.

        Args:
            num_images: int >= 1.
            labels: int or sequence of `num_images` ints, for a network with
                labels; None gives image `k` the label `k % num_classes`.
            num_steps: int >= 1, 50 by default, at most the number of the
                schedule's steps. Each costs one call of the network, of
                `Heun` two.
            seed: int from 0 to 2**63 - 1, or None for a random one.
            sampler: a `Sampler`, or its name, such as "ddim" (the default) or
                "dpm_solver_2"; `samplers.SAMPLER_NAMES` lists them.
            guidance_scale: float >= 0. 1, the default, for no guidance.
            guidance: a `Guidance`; None for `ClassifierFreeGuidance()`.
            batch_size: int >= 1. Images made at once; None for all.
            image_size: int. Height and width in pixels, only for a network
                of any size.
            low_resolution_images: `(num_images, height, width, channels)`, for
                a super-resolution network; pixels in [-1, 1].
            num_frames: int >= 2. Returns images on the way too.
            verbose: 1 for a progress bar if sampling takes more than three
                seconds, 0 for none; "auto" for one on a terminal.

        Returns:
            float32 numpy array `(num_images, height, width, channels)`, pixels
            in [-1, 1]; `keras_unet_diffusion.data.to_uint8` makes bytes. With
            `num_frames` a pair: the images, and `(num_frames, num_images,
            height, width, channels)` from noise to image.

        Raises:
            ValueError: an argument is out of range.

        Example:

        ```python
        images = model.generate(
            64, labels=3, sampler=DPMSolverPP(order=2), num_steps=20, seed=0
        )
        ```
        """
        return self.generator.generate(num_images, **options)

    def image_to_image(self, images, strength=0.5, **options):
        """Makes variations of images: noise is added, and taken away again.

        Args:
            images: `(num_images, height, width, channels)`, pixels in [-1, 1].
            strength: float in (0, 1]. Share of the steps that are taken, so
                how much noise is added; 1 leaves next to nothing of the image.
            **options: see `generate`.

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
        num_frames = options.pop("num_frames", None)
        generator = self.generator
        request = generator.request(len(images), **options)
        first_step = request.num_steps - max(
            1, round(strength * request.num_steps)
        )
        point = generator.point(request, first_step)

        def noisy(first, count):
            noise = generator.noise(
                request.seed, images.shape[1:], first, count
            )
            clean = images[first : first + count]
            return point.alpha * clean + point.sigma * noise

        return generator.run(request, noisy, first_step, num_frames)

    def inpaint(self, images, mask, num_resamples=10, **options):
        """Makes a part of images anew, to fit the rest.

        Args:
            images: `(num_images, height, width, channels)`, pixels in [-1, 1].
            mask: 1 where pixels are kept, 0 where they are made anew; `(height,
                width)` or `(num_images, height, width)`.
            num_resamples: int >= 1. How often each step is taken; more let the
                new part fit better. Network calls grow by as much.
            **options: see `generate`.

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
                f"values from {mask.min()} to {mask.max()}."
            )
        if num_resamples < 1:
            raise ValueError(
                "Each step is taken at least once. Received: num_resamples="
                f"{num_resamples}. Pass a positive whole number."
            )
        mask = np.broadcast_to(mask, images.shape[:3])[..., None]
        num_frames = options.pop("num_frames", None)
        generator = self.generator
        request = generator.request(len(images), **options)
        request = dataclasses.replace(
            request,
            task=dataclasses.replace(
                request.task, num_resamples=int(num_resamples)
            ),
            arrays=request.arrays | {"images": images, "mask": mask},
        )

        def noise(first, count):
            return generator.initial(request, images.shape[1:], first, count)

        return generator.run(request, noise, num_frames=num_frames)

    def invert(
        self, images, labels=None, num_steps=50, sampler=None, **options
    ):
        """Finds the noise from which a deterministic sampler makes images.

        Args:
            images: `(num_images, height, width, channels)`, pixels in [-1, 1].
            labels: see `generate`.
            num_steps: int >= 1. More give a more exact inverse.
            sampler: `DDIM()`, `Euler()` or `Heun()`, None for the first.
            **options: see `generate`.

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
        request = generator.request(
            len(images),
            labels,
            num_steps,
            seed=0,
            sampler=_reversible(DDIM() if sampler is None else sampler),
            **options,
        )
        task = dataclasses.replace(request.task, inverts=True)
        end = generator.point(request, num_steps)
        begin = generator.point(request, 0)
        deviation = self.process.schedule.prior_deviation(begin)

        def slightly_noisy(first, count):
            return end.alpha * tf.constant(images[first : first + count])

        request = dataclasses.replace(request, task=task)
        return generator.run(request, slightly_noisy) / np.float32(deviation)

    def decode(self, noise, labels=None, num_steps=50, sampler=None, **options):
        """Makes images of given noise, such as `invert` finds.

        Args:
            noise: `(num_images, height, width, channels)`, standard normal.
            labels: see `generate`.
            num_steps: int >= 1.
            sampler: see `invert`.
            **options: see `generate`.

        Returns:
            See `generate`.

        Example:

        ```python
        images = model.decode(np.random.standard_normal((4, 32, 32, 3)))
        ```
        """
        noise = self._checked(noise)
        generator = self.generator
        request = generator.request(
            len(noise),
            labels,
            num_steps,
            seed=0,
            sampler=_reversible(DDIM() if sampler is None else sampler),
            **options,
        )
        begin = generator.point(request, 0)
        deviation = self.process.schedule.prior_deviation(begin)

        def noisy(first, count):
            return deviation * tf.constant(noise[first : first + count])

        return generator.run(request, noisy)

    def interpolate(self, first, second, num_images, **options):
        """Makes images between two images, or two noises, along an arc.

        Args:
            first: `(height, width, channels)`, pixels in [-1, 1].
            second: likewise.
            num_images: int >= 2, both ends included.
            **options: see `invert`.

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

    def _checked(self, images):
        images = np.asarray(images, LOOP_DTYPE)
        if images.ndim != 4 or not len(images):
            raise ValueError(
                "Images have the shape (num_images, height, width, channels). "
                f"Received: images of shape {images.shape}. For a single one "
                "pass image[None]."
            )
        shape = self.ema_network.input["noisy_images"].shape[1:]
        pairs = zip(shape, images.shape[1:], strict=True)
        if any(size not in (None, given) for size, given in pairs):
            raise ValueError(
                f"The network takes images of shape {tuple(shape)}. Received: "
                f"images of shape {images.shape[1:]}. Resize them."
            )
        return images


def _reversible(sampler):
    """The same sampler between two noisy points, unbounded."""
    if sampler.is_stochastic or sampler.init(tf.zeros((1, 1, 1, 1))):
        raise ValueError(
            "Only deterministic samplers of one step can be run backwards. "
            f"Received: sampler={sampler!r}. Pass DDIM(), Euler() or Heun()."
        )
    return dataclasses.replace(
        sampler, final_denoising=False, thresholding=None
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
