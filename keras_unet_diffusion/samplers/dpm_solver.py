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
            SDE").
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
        Order 3, which the paper leaves to its code, has the whole second
        derivative; see the two lines below for compat="diffusers".
    """

    order: int = 2
    stochastic: bool = False

    drops_last = True
    needs_image_share = True

    def __post_init__(self):
        super().__post_init__()
        if self.order not in (1, 2, 3):
            raise ValueError(
                "There is no DPM-Solver++ of that order. Received: order="
                f"{self.order}. Pass 1, 2 or 3."
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
        order = effective_order(self.order, i, path, is_clean)
        h_1 = ops.where(order > 1, lambda_0 - lambda_1, 1.0)
        h_2 = ops.where(order > 2, lambda_1 - lambda_2, 1.0)
        # Divided differences over earlier estimates, scaled by h.
        first = (x_0 - before) * (h / h_1)
        second = (before - before_that) * (h / h_2)
        # e**-h, from the shares themselves: exact at no noise.
        decay = after.sigma * now.alpha / (now.sigma * after.alpha)
        rate = 2 if self.stochastic else 1
        gain = 1 - decay**rate
        change = ops.where(order > 1, gain * first / 2, 0.0)  # alg. 2, line 7
        if self.order == 3:
            third = self._third_order(first, second, (h, h_1, h_2), gain, rate)
            change = ops.where(order > 2, third, change)
        kept = after.sigma / now.sigma * decay ** (rate - 1)
        x = kept * x_t + after.alpha * (gain * x_0 + change)
        if self.stochastic:
            x = x + after.sigma * ops.sqrt(gain) * draw_noise()
        return x, (x_0, before, lambda_0, lambda_1)

    def _third_order(self, first, second, lengths, gain, rate):
        """What the slope and the curvature of the estimate add to it.

        With u since the step's begin, u**k / k! weighs
        I_k = h**k / k! - I_(k-1) / rate (by parts), where I_0 is `gain`.
        """
        h, h_1, h_2 = lengths
        difference = (first - second) / (h_1 + h_2)
        slope = first + h_1 * difference
        curvature = 2 * h * difference
        of_slope = 1 - gain / (rate * h)
        of_curvature = 0.5 - of_slope / (rate * h)
        if self.compat == "diffusers":
            # diffusers and the authors' code take half of the second
            # derivative: of second order only.
            curvature = curvature / 2
            if self.stochastic:
                # diffusers has the sign of I_2's first term wrong.
                of_curvature = of_curvature - 1
        return of_slope * slope + of_curvature * curvature


def effective_order(order, i, path, is_clean):
    """The order of a step: low in the first steps and in the last.

    Args:
        order: int, of the solver.
        i: number of the step, int32 scalar.
        path: the `Path`.
        is_clean: bool scalar. Whether the step ends at no noise.

    Returns:
        int32 scalar from 1 to `order`.
    """
    is_short = path.total_steps < FEW_STEPS
    left = ops.where(is_short, path.num_steps - i, order)
    effective = ops.minimum(ops.minimum(i + 1, order), left)
    return ops.where(is_clean, 1, effective)
