"""Learning rates that change with the number of updates."""

import abc

import keras
from keras import ops


class _WarmedUp(keras.optimizers.schedules.LearningRateSchedule, abc.ABC):
    """A learning rate that rises linearly from 0 at first. Abstract.

    Args:
        learning_rate: float > 0. The rate after the warm-up.
        warmup_steps: int >= 0. Updates until then; 0 for no warm-up.
    """

    def __init__(self, learning_rate, warmup_steps=0):
        super().__init__()
        _check(learning_rate, warmup_steps)
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps

    @abc.abstractmethod
    def share(self, step):
        """Share of the learning rate apart from the warm-up.

        Args:
            step: updates before this one, float32 scalar.

        Returns:
            float32 scalar.
        """

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rate = self.learning_rate * self.share(step)
        if self.warmup_steps:
            rate = rate * ops.minimum(step / self.warmup_steps, 1.0)
        return rate

    def get_config(self):
        return {
            "learning_rate": self.learning_rate,
            "warmup_steps": self.warmup_steps,
        }


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class ConstantRate(_WarmedUp):
    """A constant learning rate after a linear warm-up.

    Use it when in doubt: with averaged weights there is no need for a decay,
    and training can go on for longer than was planned.

    Args:
        learning_rate: float > 0. The rate after the warm-up.
        warmup_steps: int >= 0. Updates until then; 0 for no warm-up. The
            first update of a warm-up has a rate of 0.

    Call arguments:
        step: updates before this one, an integer scalar.

    Returns:
        Learning rate, float32 scalar.

    Raises:
        ValueError: an argument is out of range.

    Example:

    ```python
    optimizer = keras.optimizers.Adam(ConstantRate(2e-4, warmup_steps=5000))
    ```

    Reference:
        Ho et al. 2020, the authors' program (5,000 steps for CIFAR-10);
        Karras et al. 2022, the authors' training loop, which counts images:
        10 million, 19,531 steps of 512. Differences: none.
    """

    def share(self, step):
        return ops.ones_like(step)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class InverseRootRate(_WarmedUp):
    """A learning rate that falls with the root of the steps.

    Use it with `MagnitudePreservingUNet`, whose weights keep their size, so
    that nothing but the learning rate makes updates smaller in the end.
    Training can go on for longer than was planned.

    Args:
        learning_rate: float > 0. The reference rate, alpha_ref.
        decay_steps: float > 0. Updates after which it begins to fall, t_ref.
        warmup_steps: int >= 0. Updates of the linear warm-up; 0 for none. The
            first update of a warm-up has a rate of 0.

    Call arguments:
        step: updates before this one, an integer scalar.

    Returns:
        Learning rate, float32 scalar.

    Raises:
        ValueError: an argument is out of range.

    Example:

    ```python
    rate = InverseRootRate(1e-2, decay_steps=70_000, warmup_steps=4883)
    optimizer = keras.optimizers.Adam(rate, beta_2=0.99)
    ```

    Reference:
        Karras et al. 2024, Eq. 67: alpha_ref / sqrt(max(t / t_ref, 1)); the
        warm-up, in images, from the authors' program: 10 million, 4,883 steps
        of 2,048. Differences: the warm-up is counted in steps.
    """

    def __init__(self, learning_rate, decay_steps, warmup_steps=0):
        super().__init__(learning_rate, warmup_steps)
        if not decay_steps > 0:
            raise ValueError(
                "The steps after which a learning rate falls must be "
                f"positive. Received: decay_steps={decay_steps}. The published "
                "values are 35000 and 70000 of batches of 2048."
            )
        self.decay_steps = decay_steps

    def share(self, step):
        return ops.rsqrt(ops.maximum(step / self.decay_steps, 1.0))

    def get_config(self):
        return super().get_config() | {"decay_steps": self.decay_steps}


def learning_rate_schedule(
    name, learning_rate, warmup_steps=0, total_steps=None, decay_steps=None
):
    """The learning-rate schedule of a name.

    All of them begin with a linear warm-up from 0, and all steps are counted
    in updates of the weights, so they do not depend on how an update is split
    (`DiffusionModel(accumulation_steps=...)`). Keras's own
    `gradient_accumulation_steps` makes schedules see micro-steps: with it,
    multiply all steps by that.

    Args:
        name: str, "constant", "cosine" or "inverse_root".
        learning_rate: float > 0. The largest rate.
        warmup_steps: int >= 0. Updates of the warm-up; 0 for none.
        total_steps: int, more than `warmup_steps`. Updates in all, after
            which the cosine, which begins after the warm-up, is at 0. Needed
            for "cosine" alone: training on from there changes nothing.
        decay_steps: float > 0. For "inverse_root" alone, which needs it: see
            `InverseRootRate`.

    Returns:
        A `keras.optimizers.schedules.LearningRateSchedule`: `ConstantRate`,
        Keras's `CosineDecay` or `InverseRootRate`.

    Raises:
        ValueError: there is no such schedule, or an argument is missing or
            out of range.

    Example:

    ```python
    schedule = learning_rate_schedule("cosine", 2e-4, 5000, 800_000)
    model.compile(keras.optimizers.Adam(schedule))
    ```
    """
    _check(learning_rate, warmup_steps)
    if name == "constant":
        return ConstantRate(learning_rate, warmup_steps)
    if name == "inverse_root":
        if decay_steps is None:
            raise ValueError(
                "The inverse root must know when to fall. Received: "
                "decay_steps=None. Pass the number of steps, such as a tenth "
                "of all."
            )
        return InverseRootRate(learning_rate, decay_steps, warmup_steps)
    if name != "cosine":
        raise ValueError(
            f"There is no such schedule of learning rates. Received: {name!r}. "
            'Choose "constant", "cosine" or "inverse_root".'
        )
    if total_steps is None or total_steps <= warmup_steps:
        raise ValueError(
            "The cosine falls between the end of the warm-up and that of "
            f"training. Received: total_steps={total_steps} and warmup_steps="
            f"{warmup_steps}. Pass more steps in all than of warm-up."
        )
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup_steps else learning_rate,
        decay_steps=total_steps - warmup_steps,
        warmup_target=learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )


def _check(learning_rate, warmup_steps):
    if not learning_rate > 0 or warmup_steps < 0:
        raise ValueError(
            "A learning rate must be positive and its warm-up not negative. "
            f"Received: learning_rate={learning_rate}, warmup_steps="
            f"{warmup_steps}. Adam's usual rates are 1e-4 to 2e-3."
        )
