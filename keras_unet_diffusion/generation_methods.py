"""What a `DiffusionModel` can do with its averaged network: make images."""

from keras_unet_diffusion.editing import EditingMethods
from keras_unet_diffusion.generation import ImageGenerator
from keras_unet_diffusion.inversion import InversionMethods
from keras_unet_diffusion.likelihood import bits_per_dimension


class GenerationMethods(EditingMethods, InversionMethods):
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
            about in [-1, 1]: only a sampler with `thresholding`, as `DDIM` and
            `DDPM` have by default, bounds them.
            `keras_unet_diffusion.data.to_uint8` clips and makes bytes. With
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

    def bits_per_dimension(self, images, labels=None, **options):
        """How many bits the model needs for each colour value of images.

        Lower is better. An upper bound, or an estimate by the probability
        flow, of the averaged weights.

        Args:
            images: `(num_images, height, width, channels)`, 8-bit pixels
                scaled to [-1, 1].
            labels: int32 `(num_images,)`, for a network with labels.
            **options: see `likelihood.bits_per_dimension`: `method`
                ("variational" or "flow"), `num_steps`, `variance`,
                `num_probes`, `seed`, `batch_size`.

        Returns:
            float64 array `(num_images,)`.

        Raises:
            ValueError: an argument is out of range.

        Example:

        ```python
        model.bits_per_dimension(images, num_steps=100).mean()
        ```
        """
        return bits_per_dimension(
            self.ema_network, self.process, images, labels, **options
        )
