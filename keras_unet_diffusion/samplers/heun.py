"""Heun's method on the probability flow, with EDM's stochastic churn."""

import dataclasses
import math

import keras
from keras import ops

from keras_unet_diffusion.diffusion.schedules import Point
from keras_unet_diffusion.samplers.euler import initial_by_ratio
from keras_unet_diffusion.samplers.grids import KarrasGrid
from keras_unet_diffusion.samplers.loop import Sampler


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class Heun(Sampler):
    """Averages the slopes at both ends of a step: second order.

    Use it for the best images at 18 to 40 steps. Two network calls a step,
    one in the last.

    Args:
        churn: float >= 0. Noise added before each step and removed by it,
            spread over all steps; 0 is deterministic. ImageNet at 64x64: 40.
        churn_min: float >= 0. Least noise per image with churn.
        churn_max: float > `churn_min`. Most noise per image with churn.
        noise_scale: float > 0. Multiplies the added noise, against a network
            that removes too much; 1.003 is usual with churn.
        grid: and the others, see `Sampler`; `KarrasGrid()` by default.

    Raises:
        ValueError: an argument is out of range.

    Example:

    ```python
    sampler = Heun(churn=40, churn_min=0.05, churn_max=50, noise_scale=1.003)
    ```

    Reference:
        Karras et al. 2022, algorithms 1 and 2. Differences: on schedules whose
        alpha is not 1, images are divided by it (Eq. 4), and no noise is
        added beyond the last step of a schedule of steps.
    """

    churn: float = 0.0
    churn_min: float = 0.0
    churn_max: float = math.inf
    noise_scale: float = 1.0

    usual_grid = KarrasGrid()
    interpolates_ratio = True
    needs_image_share = True

    def __post_init__(self):
        super().__post_init__()
        is_range = 0 <= self.churn_min < self.churn_max
        if self.churn < 0 or self.noise_scale <= 0 or not is_range:
            raise ValueError(
                "churn is not negative, noise_scale positive, and churn_min "
                f"below churn_max. Received: churn={self.churn}, churn_min="
                f"{self.churn_min}, churn_max={self.churn_max}, noise_scale="
                f"{self.noise_scale}. Leave them out for no churn."
            )

    @property
    def is_stochastic(self):
        return self.churn > 0

    def initial(self, noise, path):
        return initial_by_ratio(self, super().initial(noise, path), path)

    def step(self, x_t, state, i, path, denoise, draw_noise):
        now, after = path(i), path(i + 1)
        x = x_t / now.alpha
        if self.is_stochastic:
            now, x = self._churned(x, now, path, draw_noise)
        length = after.noise_ratio - now.noise_ratio
        slope = denoise(now.alpha * x, now).noise
        end = x + length * slope

        def corrected():
            end_slope = denoise(after.alpha * end, after).noise
            return x + length * (slope + end_slope) / 2

        # Algorithm 1, line 6: not where the step ends at no noise.
        end = ops.cond(after.sigma > 0, corrected, lambda: end)
        return after.alpha * end, ()

    def _churned(self, x, point, path, draw_noise):
        """A noisier point and images there: algorithm 2, lines 4 to 6."""
        ratio = point.noise_ratio
        num_steps = ops.cast(path.total_steps, ratio.dtype)
        gamma = ops.minimum(self.churn / num_steps, math.sqrt(2) - 1)
        is_churned = (self.churn_min <= ratio) & (ratio <= self.churn_max)
        noisier = Point(
            *(
                ops.where(is_churned, churned, value)
                for churned, value in zip(
                    path.at_ratio(ratio * (1 + gamma)), point, strict=True
                )
            )
        )
        # What the point has more, not gamma: a schedule may end before it.
        more = ops.square(noisier.noise_ratio) - ops.square(ratio)
        added = ops.sqrt(ops.maximum(more, 0))
        return noisier, x + added * self.noise_scale * draw_noise()
