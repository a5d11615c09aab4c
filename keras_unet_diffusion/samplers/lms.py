"""Linear multistep: Adams-Bashforth on the probability flow."""

import dataclasses
import math

import keras
from keras import ops

from keras_unet_diffusion.samplers.euler import initial_by_ratio
from keras_unet_diffusion.samplers.loop import Sampler

# Gauss-Legendre with two nodes: exact for polynomials of degree 3.
_NODES = (0.5 - 0.5 / math.sqrt(3), 0.5 + 0.5 / math.sqrt(3))


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class LMS(Sampler):
    """Extrapolates the slopes of the last steps by a polynomial.

    One network call a step. At few steps `DPMSolverPP` is better.

    Args:
        order: int from 1, which is `Euler`, to 4.
        grid: and the others, see `Sampler`.

    Raises:
        ValueError: `order` is out of range.

    Example:

    ```python
    sampler = LMS(order=4, grid=KarrasGrid())
    ```

    Reference:
        k-diffusion's sample_lms, by Katherine Crowson; Hairer et al. 1993,
        "Solving Ordinary Differential Equations I", section III.5 (variable
        steps). Differences: none; the integrals are exact.
    """

    order: int = 4

    interpolates_ratio = True
    needs_image_share = True

    def __post_init__(self):
        super().__post_init__()
        if self.order not in (1, 2, 3, 4):
            raise ValueError(
                "A linear multistep method is of order 1 to 4. Received: "
                f"order={self.order}."
            )

    @property
    def is_stochastic(self):
        return False

    def initial(self, noise, path):
        return initial_by_ratio(self, super().initial(noise, path), path)

    def init(self, x):
        """The slopes of earlier steps, the last first, and the noise per
        image that they belong to."""
        zero = ops.zeros((), x.dtype)
        count = self.order - 1
        return (*[ops.zeros_like(x)] * count, *[zero] * count)

    def step(self, x_t, state, i, path, denoise, draw_noise):
        now, after = path(i), path(i + 1)
        count = self.order - 1
        slopes = [denoise(x_t, now).noise, *state[:count]]
        ratios = [now.noise_ratio, *state[count:]]
        scaled = x_t / now.alpha
        for j, slope in enumerate(slopes):
            weight = self._weight(j, ratios, after.noise_ratio, i)
            scaled = scaled + weight * slope
        kept = (*slopes[:count], *ratios[:count])
        return after.alpha * scaled, kept

    def _weight(self, j, ratios, end, i):
        """Integral of the j-th Lagrange polynomial over the step."""
        length = end - ratios[0]
        total = 0.0
        for node in _NODES:
            at = ratios[0] + node * length
            value = length / 2
            for k, ratio in enumerate(ratios):
                if k == j:
                    continue
                # Slopes from before the first step do not count.
                gap = ops.where(i >= max(j, k), ratios[j] - ratio, 1.0)
                factor = ops.where(i >= k, (at - ratio) / gap, 1.0)
                value = value * factor
            total = total + value
        return ops.where(i >= j, total, 0.0)
