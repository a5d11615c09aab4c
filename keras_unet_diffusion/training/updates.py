"""From the gradients of a step to an update of the weights, or to none."""

import keras
from keras import ops

from keras_unet_diffusion.replicas import (
    mean_over_replicas,
    num_replicas,
    run_if,
)

# Micikevicius et al. 2018, "Mixed Precision Training", section 3.2, as in
# Keras: the scale doubles after so many updates without overflow.
_FIRST_SCALE = 2.0**15
_GROWTH_UPDATES = 2000


class Updates(keras.layers.Layer):
    """Averages gradients, bounds them, and updates weights if all is finite.

    In this order: unscaling, the mean over replicas, the mean over steps of
    accumulation, the norm, clipping, the optimizer. So an update is the same
    however its images are split. One whose loss or gradients are not finite
    changes nothing and is counted. It is a layer for the sake of its
    variables, which are saved with the model.

    Args:
        clip_norm: float > 0 or None. Bound of the gradients' global norm.
        accumulation_steps: int >= 1. Steps whose gradients make one update.
        scales_loss: bool. Whether the loss is scaled, for float16.
        **kwargs: of `keras.layers.Layer`.

    Raises:
        ValueError: an argument is out of range.

    Reference:
        Pascanu et al. 2013, "On the difficulty of training recurrent neural
        networks", algorithm 1, for clipping; Micikevicius et al. 2018 for
        scaling. Differences: none.
    """

    def __init__(
        self, clip_norm=1.0, accumulation_steps=1, scales_loss=False, **kwargs
    ):
        super().__init__(**kwargs | {"dtype": "float32", "trainable": False})
        if clip_norm is not None and not clip_norm > 0:
            raise ValueError(
                "clip_norm bounds the norm of the gradients. Received: "
                f"clip_norm={clip_norm}. Pass a positive number, or None for "
                "no bound."
            )
        if accumulation_steps < 1:
            raise ValueError(
                "accumulation_steps is how many steps make an update. "
                f"Received: accumulation_steps={accumulation_steps}. Pass 1 "
                "for an update after each."
            )
        self.clip_norm = clip_norm
        self.accumulation_steps = accumulation_steps
        self.scales_loss = scales_loss
        self.steps_taken = self._counter("steps_taken")
        self.num_updates = self._counter("num_updates")
        self.skipped_steps = self._counter("skipped_steps")
        self.skipped_in_a_row = self._counter("skipped_in_a_row")
        self.first_skipped_step = self._counter("first_skipped_step")
        self.updates_since_overflow = self._counter("updates_since_overflow")
        self.loss_scale = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(
                _FIRST_SCALE if scales_loss else 1.0
            ),
            name="loss_scale",
        )
        self.sums = []

    def _counter(self, name):
        # "int": TensorFlow has int32 variables on no GPU.
        return self.add_weight(
            shape=(), dtype="int", initializer="zeros", name=name
        )

    def build(self, variables):
        """Makes room for the gradients of `variables` if they add up."""
        if self.accumulation_steps > 1:
            self.sums = [
                self.add_weight(
                    shape=variable.shape,
                    initializer="zeros",
                    name=f"gradient_sum_{k}",
                )
                for k, variable in enumerate(variables)
            ]

    @property
    def update(self):
        """Number of the update that this step is part of, from 0."""
        return ops.floor_divide(self.steps_taken, self.accumulation_steps)

    @property
    def part(self):
        """Number of this step among those of its update, from 0."""
        return ops.mod(self.steps_taken, self.accumulation_steps)

    def scaled(self, loss):
        """The loss to take gradients of."""
        return loss * self.loss_scale if self.scales_loss else loss

    def step(self, gradients, loss, optimizer, variables, after):
        """Takes the gradients of one step, and updates if it is time to.

        Args:
            gradients: list, of the scaled loss; None counts as zero.
            loss: float32 scalar, not scaled.
            optimizer: a built Keras optimizer.
            variables: list of `keras.Variable` that the gradients are of.
            after: pair of a function without arguments to be called after an
                update, and the list of the variables that it reads or changes.

        Returns:
            `(norm, is_finite)`, float32 and bool scalars: norm of the mean
            gradient before clipping, of the steps of this update so far.
        """
        gradients = [
            ops.zeros(variable.shape, "float32")
            if gradient is None
            else self._unscaled(gradient)
            for gradient, variable in zip(gradients, variables, strict=True)
        ]
        *gradients, loss = mean_over_replicas([*gradients, loss])
        is_due = ops.equal(self.part, self.accumulation_steps - 1)
        gradients = self._accumulated(gradients, is_due)
        norm = ops.sqrt(_sum_of_squares(gradients))
        is_finite = ops.logical_and(ops.isfinite(norm), ops.isfinite(loss))
        known = [*variables, *optimizer.variables, *after[1]]
        run_if(
            ops.logical_and(is_due, is_finite),
            lambda tensors: self._apply(tensors, optimizer, variables, after),
            [*gradients, norm],
            {id(x): x for x in known}.values(),
        )
        self._count(is_due, is_finite, ops.isfinite(loss))
        return norm, is_finite

    def _unscaled(self, gradient):
        gradient = ops.cast(gradient, "float32")
        return gradient / self.loss_scale if self.scales_loss else gradient

    def _accumulated(self, gradients, is_due):
        """Mean gradients of an update so far."""
        if self.accumulation_steps == 1:
            return gradients
        sums = [
            gradient + so_far
            for gradient, so_far in zip(gradients, self.sums, strict=True)
        ]
        for variable, value in zip(self.sums, sums, strict=True):
            variable.assign(ops.where(is_due, ops.zeros_like(value), value))
        return [value / self.accumulation_steps for value in sums]

    def _apply(self, tensors, optimizer, variables, after):
        *gradients, norm = tensors
        factor = 1.0
        if self.clip_norm is not None:
            factor = self.clip_norm / ops.maximum(norm, self.clip_norm)
        # Keras adds up what the replicas hand to an optimizer.
        factor = factor / num_replicas()
        optimizer.apply([x * factor for x in gradients], variables)
        after[0]()

    def _count(self, is_due, is_finite, is_loss_finite):
        is_skipped = ops.logical_and(is_due, ops.logical_not(is_finite))
        # Overflow of scaled gradients is how a scale is found.
        is_overflow = ops.logical_and(
            is_loss_finite, self.scales_loss and self.loss_scale > 1.0
        )
        is_bad = ops.logical_and(is_skipped, ops.logical_not(is_overflow))
        begins = ops.logical_and(is_bad, ops.equal(self.skipped_in_a_row, 0))
        is_good = ops.logical_and(is_due, is_finite)

        self.num_updates.assign_add(ops.cast(is_good, "int"))
        self.first_skipped_step.assign(
            ops.where(
                begins, self.steps_taken.value, self.first_skipped_step.value
            )
        )
        in_a_row = self.skipped_in_a_row + ops.cast(is_bad, "int")
        self.skipped_in_a_row.assign(ops.where(is_good, 0, in_a_row))
        self.skipped_steps.assign_add(ops.cast(is_skipped, "int"))
        self.steps_taken.assign_add(1)
        if self.scales_loss:
            self._rescale(is_good, is_skipped)

    def _rescale(self, is_good, is_skipped):
        count = self.updates_since_overflow + ops.cast(is_good, "int")
        grows = ops.greater_equal(count, _GROWTH_UPDATES)
        starts_again = ops.logical_or(grows, is_skipped)
        self.updates_since_overflow.assign(ops.where(starts_again, 0, count))
        factor = ops.where(grows, 2.0, ops.where(is_skipped, 0.5, 1.0))
        self.loss_scale.assign(ops.maximum(self.loss_scale * factor, 1.0))


def _sum_of_squares(gradients):
    """Of all their elements, float32 scalar."""
    large = [x for x in gradients if len(x.shape) > 1]
    # Hundreds of vectors: as one they take one sum.
    small = [ops.reshape(x, (-1,)) for x in gradients if len(x.shape) <= 1]
    together = [ops.concatenate(small)] if small else []
    return sum(ops.sum(ops.square(x)) for x in large + together)
