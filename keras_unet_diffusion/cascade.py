"""Cascades: a small image first, then networks that make it larger."""

import itertools

import numpy as np

from keras_unet_diffusion.model import DiffusionModel
from keras_unet_diffusion.network_calls import (
    network_image_shape,
    takes_labels,
)

LOW_RESOLUTION = "low_resolution_images"


class Cascade:
    """A model of small images, and super-resolution models after it.

    Args:
        models: sequence of `DiffusionModel`s; all but the first take
            low-resolution images, of the size that the one before makes.

    Raises:
        ValueError: a model does not fit the one before it.

    Example:

    ```python
    cascade = Cascade([small, upsampler])
    images = cascade.generate(8, seed=0, num_steps=(50, 20))
    ```

    Reference:
        Ho et al. 2022, "Cascaded Diffusion Models for High Fidelity Image
        Generation", section 3. Differences: none.
    """

    def __init__(self, models):
        self.models = tuple(models)
        for number, model in enumerate(self.models):
            if not isinstance(model, DiffusionModel):
                raise ValueError(
                    "A cascade is of DiffusionModels. Received: "
                    f"models[{number}]={model!r}."
                )
            takes = LOW_RESOLUTION in model.ema_network.input
            if takes != (number > 0):
                raise ValueError(
                    "The first model makes images from nothing, the others "
                    "from low-resolution images. Received: models"
                    f"[{number}], which takes {'' if takes else 'no '}"
                    "low-resolution images. Change the order, or build it "
                    "with super_resolution_factor."
                )
        if not self.models:
            raise ValueError(
                "A cascade needs models. Received: none. Pass at least one."
            )
        for small, large in itertools.pairwise(self.models):
            made = network_image_shape(small.ema_network)
            taken = large.ema_network.input[LOW_RESOLUTION].shape[1:]
            pairs = zip(made, taken, strict=True)
            if any(None not in pair and pair[0] != pair[1] for pair in pairs):
                raise ValueError(
                    "Each model takes the images of the one before. Received: "
                    f"images of shape {made} for a model that takes "
                    f"{tuple(taken)}. Change the size of one."
                )

    def generate(
        self,
        num_images,
        labels=None,
        num_steps=50,
        seed=None,
        sampler="ddim",
        guidance_scale=1.0,
        guidance=None,
        image_size=None,
        num_frames=None,
        **options,
    ):
        """Generates images, each model's from those of the one before.

        Args:
            num_images: int >= 1.
            labels: see `DiffusionModel.generate`; given to the models that
                take labels.
            num_steps: int, or one for each model.
            seed: see `DiffusionModel.generate`; each model's noise is its own.
            sampler: see `DiffusionModel.generate`, or one for each model.
            guidance_scale: likewise.
            guidance: likewise.
            image_size: int. Pixels of the first model's images, if it makes
                images of any size.
            num_frames: see `DiffusionModel.generate`; of the last model.
            **options: `batch_size` and `verbose` of
                `DiffusionModel.generate`, the same for all.

        Returns:
            The last model's images, see `DiffusionModel.generate`.

        Raises:
            ValueError: an argument is out of range.
        """
        of_each = {
            name: self._of_each(name, value)
            for name, value in (
                ("num_steps", num_steps),
                ("sampler", sampler),
                ("guidance_scale", guidance_scale),
                ("guidance", guidance),
            )
        }
        images = None
        for number, model in enumerate(self.models):
            is_last = number + 1 == len(self.models)
            if images is not None:
                image_size = _enlarged_size(model, images)
            images = model.generate(
                num_images,
                labels=labels if takes_labels(model.ema_network) else None,
                # The same numbers would else begin images of every size.
                seed=None if seed is None else (seed + number) % 2**63,
                low_resolution_images=images,
                image_size=image_size,
                num_frames=num_frames if is_last else None,
                **{name: values[number] for name, values in of_each.items()},
                **options,
            )
        return images

    def _of_each(self, name, value):
        """An option of each model, of one for all or a sequence."""
        if not isinstance(value, list | tuple | np.ndarray):
            return [value] * len(self.models)
        if len(value) != len(self.models):
            raise ValueError(
                f"A cascade of {len(self.models)} models takes one {name} for "
                f"all, or {len(self.models)}. Received: {name}={value}. Pass "
                "one for each model."
            )
        return list(value)


def _enlarged_size(model, images):
    """Pixels of what a model makes of images, None if it knows one size."""
    if network_image_shape(model.ema_network)[0] is not None:
        return None
    return images.shape[1] * model.ema_network.super_resolution_factor
