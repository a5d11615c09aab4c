"""Averages of the weights, from which diffusion models are sampled."""

import dataclasses

from keras import ops


@dataclasses.dataclass(frozen=True)
class ExponentialMovingAverage:
    """An exponential moving average with warm-up.

    Stepped once per update of the weights, not per batch. The warm-up keeps
    the first, random weights from lingering: after `n` updates the decay is
    at most `(1 + n) / (10 + n)`.

    Args:
        decay: float in [0, 1). Share of the old average that is kept; 0 makes
            the average a copy of the weights.

    Raises:
        ValueError: `decay` is outside [0, 1).

    Example:

    ```python
    average = ExponentialMovingAverage(0.9999)
    average.update(averages, weights, num_updates)
    ```

    Reference:
        Ho et al. 2020, appendix B (decay 0.9999); the warm-up is that of
        `tf.train.ExponentialMovingAverage(num_updates=...)`.
        Differences: none.
    """

    decay: float = 0.9999

    def __post_init__(self):
        if not 0 <= self.decay < 1:
            raise ValueError(
                "The decay of an average is the share of the old average "
                f"that is kept. Received: decay={self.decay}. Pass a number "
                "from 0 up to, not including, 1, such as 0.9999."
            )

    def rate(self, num_updates):
        """Share of the new weights in the average.

        Args:
            num_updates: updates of the weights before this one, an integer
                scalar.

        Returns:
            float32 scalar, `1 - min(decay, (1 + n) / (10 + n))`.
        """
        num_updates = ops.cast(num_updates, "float32")
        return ops.maximum(1 - self.decay, 9 / (10 + num_updates))

    def update(self, averages, weights, num_updates, is_due=True):
        """Moves each average towards its weight.

        Args:
            averages: list of `keras.Variable`, changed in place.
            weights: list of `keras.Variable` of the same shapes.
            num_updates: updates of the weights before this one, an integer
                scalar.
            is_due: bool scalar. False leaves the averages as they are.
        """
        rate = ops.where(is_due, self.rate(num_updates), 0.0)
        for average, weight in zip(averages, weights, strict=True):
            change = ops.cast(rate, average.dtype) * (weight - average)
            average.assign_add(change)
