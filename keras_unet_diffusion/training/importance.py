"""Times drawn where the loss is large, and the losses that tell where."""

import keras
from keras import ops

from keras_unet_diffusion.diffusion.times import (
    second_moment_probabilities,
    times_by_probability,
)

# Losses of each step that are remembered: Nichol and Dhariwal 2021,
# section 3.3.
_NUM_LOSSES = 10


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class LossHistory(keras.layers.Layer):
    """Remembers the last ten losses of every step, and draws steps by them.

    Use it where a loss differs much between steps, as the variational bound
    does; for the simple loss it gains nothing. It is a layer only for the
    sake of its weights, which are saved with the model and never trained.

    Args:
        num_timesteps: int >= 1. Steps of the schedule.
        **kwargs: of `keras.layers.Layer`.

    Example:

    ```python
    history = LossHistory(1000)
    t, weight = history.times(uniform)
    history.record(t, losses)
    loss = ops.mean(weight * losses)
    ```

    Reference:
        Nichol and Dhariwal 2021, section 3.3, Eq. 18. Differences: losses
        that are not finite are forgotten; of a step that a batch has more
        than ten times, the last ten count.
    """

    def __init__(self, num_timesteps, **kwargs):
        super().__init__(**kwargs | {"dtype": "float32"})
        self.num_timesteps = num_timesteps
        self.past_losses = self.add_weight(
            shape=(num_timesteps, _NUM_LOSSES),
            initializer="zeros",
            trainable=False,
            name="past_losses",
        )
        self.counts = self.add_weight(
            shape=(num_timesteps,),
            initializer="zeros",
            dtype="int32",
            trainable=False,
            name="counts",
        )
        self.built = True

    def probabilities(self):
        """Returns how likely each step is, `(num_timesteps,)`: all the same
        until each has ten losses."""
        even = ops.full((self.num_timesteps,), 1 / self.num_timesteps)
        squares = ops.square(self.past_losses)
        is_full = ops.all(self.counts >= _NUM_LOSSES)
        # Losses that all are zero tell nothing.
        is_known = is_full & (ops.sum(squares) > 0)
        squares = ops.where(is_known, squares, 1.0)
        by_loss = second_moment_probabilities(squares)
        return ops.where(is_known, by_loss, even)

    def times(self, uniform):
        """Turns uniform numbers into times to train at.

        Args:
            uniform: numbers in [0, 1), `(batch,)`, float32.

        Returns:
            `(t, weight)`, both `(batch,)`: times on the grid, and what to
            multiply their losses by, so that the mean stays what it is for
            even times.
        """
        probabilities = self.probabilities()
        t = times_by_probability(uniform, ops.cumsum(probabilities))
        drawn = ops.take(probabilities, self._steps(t))
        return t, 1 / (self.num_timesteps * drawn)

    def record(self, t, losses):
        """Remembers losses.

        Args:
            t: times on the grid, `(batch,)`.
            losses: one for each, `(batch,)`, not multiplied by the weights
                of `times`.
        """
        steps = self._steps(t)
        # Each loss gets a row of its own step, after those of the same step
        # that come before it in the batch.
        is_finite = ops.isfinite(losses)
        is_same = (steps[:, None] == steps[None, :]) & is_finite[None, :]
        is_same = ops.cast(is_same, "int32")
        num_before = ops.sum(_below_diagonal(is_same), axis=1)
        num_after = ops.sum(is_same, axis=1) - num_before
        # Itself is among those after it.
        is_kept = is_finite & (num_after <= _NUM_LOSSES)
        place = (ops.take(self.counts, steps) + num_before) % _NUM_LOSSES
        # What is not kept goes to a row that is cut off again.
        rows = ops.where(is_kept, steps, self.num_timesteps)
        padded = ops.pad(self.past_losses, [[0, 1], [0, 0]])
        padded = ops.scatter_update(
            padded, ops.stack([rows, place], axis=1), losses
        )
        self.past_losses.assign(padded[:-1])
        added = ops.segment_sum(
            ops.cast(is_finite, "int32"), steps, self.num_timesteps
        )
        # Only whether there were ten, and the place of the next, matter.
        counts = self.counts + added
        self.counts.assign(
            ops.where(
                counts < 2 * _NUM_LOSSES,
                counts,
                _NUM_LOSSES + counts % _NUM_LOSSES,
            )
        )

    def _steps(self, t):
        """Numbers of the steps that times are of, from 0."""
        return ops.cast(ops.round(t * self.num_timesteps), "int32") - 1

    def get_config(self):
        return super().get_config() | {"num_timesteps": self.num_timesteps}


def _below_diagonal(square):
    """Keeps what lies below the diagonal of a matrix."""
    row = ops.arange(ops.shape(square)[0])
    return ops.where(row[:, None] > row[None, :], square, 0)
