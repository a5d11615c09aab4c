"""Cascades: a small image first, then networks that make it larger."""

import numpy as np

from keras_unet_diffusion.model import DiffusionModel
from keras_unet_diffusion.network_calls import takes_labels


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
            takes = "low_resolution_images" in model.ema_network.input
            if takes != bool(number):
                raise ValueError(
                    "The first model makes images from nothing, the others "
                    "from low-resolution images. Received: models"
                    f"[{number}], which takes {'' if takes else 'no '}"
                    "low-resolution images. Change the order, or build it "
                    "with super_resolution_factor."
                )
        if not self.models:
            raise ValueError("A cascade needs models. Received: none.")

    def generate(self, num_images, labels=None, num_steps=50, **options):
        """Generates images, each model's from those of the one before.

        Args:
            num_images: int >= 1.
            labels: see `DiffusionModel.generate`; given to the models that
                take labels.
            num_steps: int, or one for each model.
            **options: see `DiffusionModel.generate`, the same for all.

        Returns:
            The last model's images, see `DiffusionModel.generate`.

        Raises:
            ValueError: an argument is out of range.
        """
        steps = np.broadcast_to(num_steps, len(self.models))
        images = None
        for model, count in zip(self.models, steps, strict=True):
            images = model.generate(
                num_images,
                labels=labels if takes_labels(model.ema_network) else None,
                num_steps=int(count),
                low_resolution_images=images,
                **options,
            )
        return images
