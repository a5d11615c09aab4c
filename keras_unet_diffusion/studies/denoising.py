"""A sampler's way from noise to an image, with all that is seen on it."""

import dataclasses

import numpy as np
from keras import ops

from keras_unet_diffusion.backends import in_float64
from keras_unet_diffusion.diffusion.schedules import Point
from keras_unet_diffusion.generation import ImageGenerator
from keras_unet_diffusion.network_calls import NetworkCalls
from keras_unet_diffusion.samplers import DDIM, Estimate, Path
from keras_unet_diffusion.samplers.thresholding import thresholded


@dataclasses.dataclass(frozen=True)
class DenoisingStep:
    """What one step of a sampler begins with, and what the network says.

    Args:
        point: the `Point` where it begins, of floats.
        x_t: the noisy image, float32 `(height, width, channels)`.
        prediction: what the network predicts of it, likewise.
        x_0: the estimate of the clean image that follows, likewise; not
            bounded.
    """

    point: Point
    x_t: np.ndarray
    prediction: np.ndarray
    x_0: np.ndarray


@in_float64
def denoise_step_by_step(
    network,
    process,
    num_steps=12,
    seed=0,
    label=None,
    image_size=None,
    low_resolution_images=None,
):
    """Samples one image by `DDIM()` and keeps what happens on the way.

    Args:
        network: see `DiffusionModel`.
        process: the `DiffusionProcess` that it was trained with.
        num_steps: int >= 1.
        seed: int. The image is that which `generate` makes of it.
        label: int, for a network with labels.
        image_size: int, for a network of any size.
        low_resolution_images: one image, for a super-resolution network.

    Returns:
        `(steps, image)`: a list of `DenoisingStep`, and the finished image,
        float32 `(height, width, channels)`.

    Raises:
        ValueError: see `DiffusionModel.generate`.

    Example:

    ```python
    steps, image = denoise_step_by_step(network, process)
    ```
    """
    sampler = DDIM()
    generator = ImageGenerator(network, process)
    shape = generator.image_shape(image_size)
    request = generator.request(
        1,
        labels=label,
        num_steps=num_steps,
        seed=seed,
        sampler=sampler,
        low_resolution_images=low_resolution_images,
    )
    x_t = generator.initial(request, shape, 0, 1)
    path = Path(
        process.schedule, sampler, ops.cast(num_steps, "int32"), "float64"
    )
    others = dict(request.arrays)
    calls = NetworkCalls(
        network, process, labels=others.pop("labels", None), others=others
    )
    x_0 = ops.zeros_like(x_t)
    steps = []
    for i in range(num_steps):
        denoise = _Recorder(calls.after(x_0))
        bounded = thresholded(denoise, sampler.thresholding, False)
        following, _ = sampler.step(
            x_t, (), ops.cast(i, "int32"), path, bounded, None
        )
        point = generator.point(request, i)
        steps.append(_step(process, point, x_t, denoise.estimate))
        x_t, x_0 = following, denoise.estimate.x_0
    return steps, _array(x_t)


class _Recorder:
    """A `denoise` that remembers its last estimate."""

    def __init__(self, calls):
        self.calls = calls
        self.estimate = None

    def __call__(self, x_t, point):
        self.estimate = Estimate(*self.calls.conditional(x_t, point))
        return self.estimate


def _step(process, point, x_t, estimate):
    # The prediction is a x_0 + b noise, of the two that were solved for.
    a, b = process.prediction.coefficients(point.alpha, point.sigma)
    prediction = a * estimate.x_0 + b * estimate.noise
    arrays = map(_array, (x_t, prediction, estimate.x_0))
    return DenoisingStep(Point(*map(float, point)), *arrays)


def _array(images):
    return ops.convert_to_numpy(images)[0].astype("float32")
