"""Images that are given to a model: what it checks before it samples."""

import numpy as np

from keras_unet_diffusion.network_calls import takes_labels
from keras_unet_diffusion.sampling_loop import LOOP_DTYPE


class GivenImages:
    """What the methods that are given images share. Abstract.

    Whoever inherits has `ema_network` and a `generator`.
    """

    def request_for(self, images, labels=None, **options):
        """A `Request` for as many images; see `make_request`."""
        if labels is None and takes_labels(self.ema_network):
            raise ValueError(
                "The network must be told what given images show. Received: "
                "labels=None. Pass a label for all of them, or one for each."
            )
        return self.generator.request(len(images), labels=labels, **options)

    def checked_images(self, images):
        """Images as the loops take them, if the network can take them.

        Args:
            images: `(num_images, height, width, channels)`.

        Returns:
            float64 array of that shape.

        Raises:
            ValueError: they have another shape.
        """
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
