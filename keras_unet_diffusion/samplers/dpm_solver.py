"""DPM-Solver++: exponential integrators of estimates of the image."""

import dataclasses

import keras
from keras import ops

from keras_unet_diffusion.samplers.loop import Sampler

# Fewer steps than these end with steps of lower order.
FEW_STEPS = 15


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class DPMSolverPP(Sampler):
    """Uses the estimates of earlier steps to look ahead: DPM-Solver++ (2M).

    Use it for good images in 10 to 25 steps. One network call a step.

    Args:
        order: 1, 2 or 3. 1 is `DDIM`; 2 ("2M") is usual; 3 ("3M") is for
            networks without guidance.
        stochastic: bool. Whether the equation with noise is solved ("2M
            SDE"), for orders 1 and 2.
        grid: and the others, see `Sampler`.

    Raises:
        ValueError: there is no solver of that order.

    Example:

    ```python
    sampler = DPMSolverPP(order=2, grid=KarrasGrid())
    ```

    Reference:
        Lu et al. 2022, "DPM-Solver++: Fast Solver for Guided Sampling of
        Diffusion Probabilistic Models", algorithm 2 and appendix B.
        Differences: with fewer than 15 steps the last are of lower order, and
        the step to no noise always is of the first, as in the authors' code.
    """

    order: int = 2
    stochastic: bool = False

    drops_last = True
    needs_image_share = True

    def __post_init__(self):
        super().__post_init__()
        orders = (1, 2) if self.stochastic else (1, 2, 3)
        if self.order not in orders:
            raise ValueError(
                "There is no DPM-Solver++ of that order. Received: order="
                f"{self.order}, stochastic={self.stochastic}. Pass one of "
                f"{', '.join(map(str, orders))}."
            )

    @property
    def is_stochastic(self):
        return self.stochastic

    def init(self, x):
        """Two earlier estimates, and log(alpha / sigma) at both."""
        zero = ops.zeros((), x.dtype)
        return ops.zeros_like(x), ops.zeros_like(x), zero, zero

    def step(self, x_t, state, i, path, denoise, draw_noise):
        now, after = path(i), path(i + 1)
        before, before_that, lambda_1, lambda_2 = state
        x_0 = denoise(x_t, now).x_0
        lambda_0 = now.half_log_snr
        is_clean = ops.equal(after.sigma, 0)
        # At no noise the step is infinitely long; it is of first order, where
        # only its exponential counts.
        safe = after._replace(sigma=ops.where(is_clean, now.sigma, after.sigma))
        h = ops.where(is_clean, 1.0, safe.half_log_snr - lambda_0)
        order = effective_order(self.order, i, path.num_steps, is_clean)
        h_1 = ops.where(order > 1, lambda_0 - lambda_1, 1.0)
        h_2 = ops.where(order > 2, lambda_1 - lambda_2, 1.0)
        # Divided differences over earlier estimates, scaled by h.
        first = (x_0 - before) * (h / h_1)
        second = (before - before_that) * (h / h_2)
        if self.stochastic:
            x = self._stochastic_step(
                x_t, x_0, first, order, h, now, after, is_clean, draw_noise
            )
        else:
            x = self._step(
                x_t, x_0, first, second, order, (h, h_1, h_2), now, after
            )
        return x, (x_0, before, lambda_0, lambda_1)

    def _step(self, x_t, x_0, first, second, order, lengths, now, after):
        h, h_1, h_2 = lengths
        # e**-h - 1, from the shares themselves: exact at no noise.
        decay = after.sigma * now.alpha / (now.sigma * after.alpha) - 1
        x = (after.sigma / now.sigma) * x_t - after.alpha * decay * x_0
        x_2 = x - after.alpha * decay * first / 2  # algorithm 2, line 7
        curvature = (first - second) / (h_1 + h_2)
        slope = first + h_1 * curvature
        x_3 = (  # appendix B, third order
            x
            + after.alpha * (decay / h + 1) * slope
            - after.alpha * ((decay + h) / h**2 - 0.5) * (h * curvature)
        )
        x = ops.where(order > 1, x_2, x)
        return ops.where(order > 2, x_3, x)

    def _stochastic_step(
        self, x_t, x_0, first, order, h, now, after, is_clean, draw_noise
    ):
        kept = ops.where(is_clean, 0.0, ops.exp(-h))
        gain = 1 - ops.square(kept)  # 1 - e**-2h
        estimate = x_0 + ops.where(order > 1, first / 2, 0.0)
        return (  # appendix, SDE-DPM-Solver++ (2M)
            (after.sigma / now.sigma) * kept * x_t
            + after.alpha * gain * estimate
            + after.sigma * ops.sqrt(gain) * draw_noise()
        )


def effective_order(order, i, num_steps, is_clean):
    """The order of a step: low in the first steps and in the last.

    Args:
        order: int, of the solver.
        i: number of the step, int32 scalar.
        num_steps: int32 scalar.
        is_clean: bool scalar. Whether the step ends at no noise.

    Returns:
        int32 scalar from 1 to `order`.
    """
    left = ops.where(num_steps < FEW_STEPS, num_steps - i, order)
    effective = ops.minimum(ops.minimum(i + 1, order), left)
    return ops.where(is_clean, 1, effective)
