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
            num_frames: see `DiffusionModel.generate`; of the last model.
            **options: see `DiffusionModel.generate`, the same for all.

        Returns:
            The last model's images, see `DiffusionModel.generate`.

        Raises:
            ValueError: an argument is out of range.
        """
        if np.shape(num_steps) not in ((), (len(self.models),)):
            raise ValueError(
                f"A cascade of {len(self.models)} models takes one number of "
                f"steps, or {len(self.models)}. Received: num_steps="
                f"{num_steps}. Pass a number for each model."
            )
        all_steps = np.broadcast_to(num_steps, len(self.models))
        images = None
        for number, model in enumerate(self.models):
            is_last = number + 1 == len(self.models)
            images = model.generate(
                num_images,
                labels=labels if takes_labels(model.ema_network) else None,
                num_steps=int(all_steps[number]),
                # The same numbers would else begin images of every size.
                seed=None if seed is None else (seed + number) % 2**63,
                low_resolution_images=images,
                num_frames=num_frames if is_last else None,
                **options,
            )
        return images
