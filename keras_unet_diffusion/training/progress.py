"""What training tells of itself: losses by noise level, gradient norms."""

import keras
from keras import ops

from keras_unet_diffusion.replicas import mean_over_replicas

_NUM_QUARTILES = 4


class TrainingProgress:
    """The metrics of a `DiffusionModel`.

    `loss` is the mean over images, `loss_quartile_1` to `4` are those of the
    images with the least noise (t below 1/4) to the most, `gradient_norm` the
    mean norm of gradients before clipping. Steps that were skipped because
    something was not finite do not count.
    """

    def __init__(self):
        self.loss = keras.metrics.Mean(name="loss")
        self.quartiles = [
            keras.metrics.Mean(name=f"loss_quartile_{k + 1}")
            for k in range(_NUM_QUARTILES)
        ]
        self.gradient_norm = keras.metrics.Mean(name="gradient_norm")

    @property
    def metrics(self):
        """All metrics, a list."""
        return [self.loss, *self.quartiles, self.gradient_norm]

    def record(self, losses, t, gradient_norm=None, is_finite=True):
        """Takes in one step.

        Args:
            losses: float32 `(batch,)`.
            t: float32 `(batch,)`, their times.
            gradient_norm: float32 scalar; None in evaluation.
            is_finite: bool scalar. Whether the step counts.

        Returns:
            Dict of the means so far, by name.
        """
        # Not a weight of zero alone: 0 * nan is nan.
        losses = ops.where(is_finite, losses, 0.0)
        ones = ops.ones_like(losses) * ops.cast(is_finite, "float32")
        quartile = ops.clip(ops.floor(t * _NUM_QUARTILES), 0, 3)
        shares = [ones] + [
            ones * ops.cast(ops.equal(quartile, k), "float32")
            for k in range(_NUM_QUARTILES)
        ]
        metrics = [self.loss, *self.quartiles]
        # Keras would show the mean of what the replicas found.
        counts, sums = mean_over_replicas(
            [
                ops.stack([ops.sum(share) for share in shares]),
                ops.stack([ops.sum(share * losses) for share in shares]),
            ]
        )
        means = ops.divide_no_nan(sums, counts)
        for k, metric in enumerate(metrics):
            metric.update_state(means[k], counts[k])
        if gradient_norm is not None:
            norm = ops.where(is_finite, gradient_norm, 0.0)
            self.gradient_norm.update_state(
                norm, ops.cast(is_finite, "float32")
            )
            metrics.append(self.gradient_norm)
        return {metric.name: metric.result() for metric in metrics}
