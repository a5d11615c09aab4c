"""Ways down and up: aliasing, checkerboard, cost."""

import numpy as np

from keras_unet_diffusion.studies.budget import BASELINE, variant
from keras_unet_diffusion.studies.comparison import compare, draw_comparison
from keras_unet_diffusion.studies.frequency import checkerboard


def variants(budget):
    """The networks that are compared, a list of `Variant`."""
    return [
        variant("strided, nearest + conv", BASELINE.make),
        variant("strided, transposed", upsampling="transposed_conv"),
        variant(
            "average, nearest",
            downsampling="average_pool",
            upsampling="nearest",
        ),
        variant(
            "average, bilinear",
            downsampling="average_pool",
            upsampling="bilinear",
        ),
        variant(
            "in blocks (ADM)",
            downsampling="residual_block",
            upsampling="residual_block",
        ),
    ]


def run(laboratory):
    """Measures loss, aliasing and checkerboard of five ways.

    Args:
        laboratory: a `Laboratory`.

    Returns:
        A `Result`.
    """
    validation = laboratory.validation

    def of_each_seed(trained, measure):
        return [measure(trained.predict) for _ in trained.of_each_seed()]

    def mean_aliasing(predict):
        found = [
            aliasing(predict, validation.noisy(t)) for t in validation.times
        ]
        return float(np.mean(found))

    def checkerboard_of_errors(predict):
        # The less noisy half of the times, where detail is made.
        errors = validation.errors(predict)
        return checkerboard(errors[: len(errors) // 2])

    return compare(
        "resampling",
        laboratory,
        variants(laboratory.budget),
        aliasing=lambda trained: of_each_seed(trained, mean_aliasing),
        checkerboard=lambda trained: of_each_seed(
            trained, checkerboard_of_errors
        ),
    )


def aliasing(predict, inputs, margin=1):
    """How much a prediction changes when the image is shifted by one pixel.

    Beyond being shifted too: a network of convolutions at one resolution has
    0 away from the borders, one that samples every other pixel has not.

    Args:
        predict: function of the dict of a network's inputs.
        inputs: that dict, of arrays.
        margin: int >= 1, pixels at the borders that are left out.

    Returns:
        float: mean square of the change, over that of the prediction.

    Reference:
        Zhang 2019, "Making Convolutional Networks Shift-Invariant Again".
        Differences: shifts are circular, and of one pixel.
    """
    before = np.asarray(predict(inputs))
    images = np.roll(inputs["noisy_images"], 1, axis=2)
    after = np.asarray(predict(inputs | {"noisy_images": images}))
    change = np.roll(after, -1, axis=2) - before
    inner = slice(margin, -margin)
    change, before = change[:, inner, inner], before[:, inner, inner]
    return float(np.mean(change**2) / np.mean(before**2))


draw = draw_comparison
