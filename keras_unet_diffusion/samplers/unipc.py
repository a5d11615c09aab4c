"""UniPC: a predictor and a corrector that share their network call."""

import dataclasses

import keras
from keras import ops

from keras_unet_diffusion.samplers.dpm_solver import effective_order
from keras_unet_diffusion.samplers.loop import Sampler

VARIANTS = ("bh1", "bh2")


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class UniPC(Sampler):
    """Looks ahead like a multistep solver, then corrects where it came out.

    Use it for good images in 5 to 15 steps. One network call a step.

    Args:
        order: 1, 2 or 3, of the predictor; the corrector's is one higher.
        variant: "bh2", or "bh1" for fewer than ten steps without guidance.
        grid: and the others, see `Sampler`.

    Raises:
        ValueError: there is no such order or variant.

    Example:

    ```python
    sampler = UniPC(order=2)
    ```

    Reference:
        Zhao et al. 2023, "UniPC: A Unified Predictor-Corrector Framework for
        Fast Sampling of Diffusion Models", algorithms 5 to 8 (of estimates of
        the image). Differences: low orders first and last, as `DPMSolverPP`.
    """

    order: int = 2
    variant: str = "bh2"

    drops_last = True
    needs_image_share = True

    def __post_init__(self):
        super().__post_init__()
        if self.order not in (1, 2, 3) or self.variant not in VARIANTS:
            raise ValueError(
                "UniPC is of order 1, 2 or 3 and variant bh1 or bh2. "
                f"Received: order={self.order}, variant={self.variant!r}."
            )

    @property
    def is_stochastic(self):
        return False

    def init(self, x):
        """Images before the last prediction, three earlier estimates, and
        log(alpha / sigma) at the three points before this one's."""
        zero = ops.zeros((), x.dtype)
        return (*[ops.zeros_like(x)] * 4, *[zero] * 3)

    def step(self, x_t, state, i, path, denoise, draw_noise):
        x_before, *estimates = state[:4]
        lambdas = state[4:]
        now, after = path(i), path(i + 1)
        x_0 = denoise(x_t, now).x_0
        lambda_0 = now.half_log_snr
        # The corrector goes over the step before again, now that its end is
        # known; its order is that of the predictor there.
        order_before = self._order(i - 1, path)
        begin = path(ops.maximum(i - 1, 0))
        corrected = self._advance(
            x_before, begin, now, estimates, lambdas, order_before, x_0
        )
        x_t = ops.where(i > 0, corrected, x_t)
        estimates = [x_0, *estimates[:2]]
        lambdas = [lambda_0, *lambdas[:2]]
        x = self._advance(
            x_t, now, after, estimates, lambdas, self._order(i, path)
        )
        return x, (x_t, *estimates, *lambdas)

    def _order(self, i, path):
        is_clean = ops.equal(path(i + 1).sigma, 0)
        order = effective_order(self.order, i, path, is_clean)
        if self.compat == "diffusers":
            # diffusers ends with low orders whatever the number of steps.
            order = ops.minimum(order, path.num_steps - i)
        return ops.maximum(order, 1)

    def _advance(self, x, begin, end, estimates, lambdas, order, found=None):
        """From one point to another: predicts, or corrects if `found`, the
        estimate at the end, is known."""
        is_clean = ops.equal(end.sigma, 0)
        safe = end._replace(sigma=ops.where(is_clean, begin.sigma, end.sigma))
        h = safe.half_log_snr - begin.half_log_snr
        h = ops.where(is_clean | ops.equal(h, 0), 1.0, h)
        decay = end.sigma * begin.alpha / (begin.sigma * end.alpha) - 1
        x_0 = estimates[0]
        base = (end.sigma / begin.sigma) * x - end.alpha * decay * x_0
        results = []
        for p in range(1, self.order + 1):
            # r_k: where the earlier estimates are, in steps before `begin`.
            ratios = [
                ops.where(order > k, (lambdas[k] - lambdas[0]) / h, -1.0 * k)
                for k in range(1, p)
            ]
            differences = [
                (estimates[k] - x_0) / ratios[k - 1] for k in range(1, p)
            ]
            if found is not None:
                ratios.append(ops.ones_like(h))
                differences.append(found - x_0)
            weights = self._weights(ratios, h, found is not None)
            total = sum(
                w * d for w, d in zip(weights, differences, strict=True)
            )
            scale = self._scale(h)
            results.append(base - end.alpha * scale * total)
        result = results[0]
        for p in range(2, self.order + 1):
            result = ops.where(order >= p, results[p - 1], result)
        return ops.where(is_clean, end.alpha * x_0, result)

    def _scale(self, h):
        """B(h) of the variant: Eq. 10 and below, for -h."""
        return -h if self.variant == "bh1" else ops.expm1(-h)

    def _weights(self, ratios, h, corrects):
        """Solves R rho = b (Eq. 8) for the weights of the differences."""
        count = len(ratios)
        if not count:
            return []
        if count == 1:
            # Of one unknown: any B(h) gives 1/2 to leading order, and the
            # paper takes just that.
            return [ops.full_like(h, 0.5)]
        rows, right = [], []
        phi, factorial = ops.expm1(-h) / -h - 1, 1.0
        for power in range(count):
            rows.append(ops.stack([ratio**power for ratio in ratios]))
            right.append(phi * factorial / self._scale(h))
            factorial *= power + 2
            phi = phi / -h - 1 / factorial
        solved = ops.solve(
            ops.stack(rows), ops.reshape(ops.stack(right), (-1, 1))
        )
        return [solved[k, 0] for k in range(count)]
