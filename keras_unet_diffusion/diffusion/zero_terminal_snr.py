"""Schedules of steps whose last is noise alone."""

import dataclasses
import functools

import keras
import numpy as np

from keras_unet_diffusion.diffusion.discrete_schedules import (
    DiscreteSchedule,
    LinearSchedule,
)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
@dataclasses.dataclass(frozen=True)
class ZeroTerminalSNRSchedule(DiscreteSchedule):
    """Another schedule, rescaled so that its last step is noise alone.

    Use it with velocity or image prediction: then training covers what
    sampling starts from, and very dark and very bright images can be made.
    Noise prediction says nothing of the image at the last step.

    Args:
        schedule: a `DiscreteSchedule`, whose steps and scale of time are kept.

    Raises:
        ValueError: the schedule is of another kind.

    Example:

    ```python
    ZeroTerminalSNRSchedule(LinearSchedule()).alphas[-1]  # 0
    ```

    Reference:
        Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps
        are Flawed", algorithm 1. Differences: none.
    """

    num_timesteps: int = dataclasses.field(init=False)
    time_scale: float | None = dataclasses.field(init=False)
    schedule: DiscreteSchedule = LinearSchedule()

    def __post_init__(self):
        if not isinstance(self.schedule, DiscreteSchedule):
            raise ValueError(
                "Only a schedule of steps has a last one to rescale. Received: "
                f"schedule={self.schedule!r}. Pass one with num_timesteps, "
                "such as LinearSchedule()."
            )
        for name in ("num_timesteps", "time_scale"):
            object.__setattr__(self, name, getattr(self.schedule, name))

    @functools.cached_property
    def _log_alpha_squared(self):
        alphas = self.schedule.alphas[1:]
        first, last = alphas[0], alphas[-1]
        # Algorithm 1: shift so that the last is 0, scale so that the first
        # stays.
        rescaled = (alphas - last) * first / (first - last)
        with np.errstate(divide="ignore"):
            return np.concatenate([[0.0], 2 * np.log(rescaled)])

    def betas(self):
        return -np.expm1(np.diff(self._log_alpha_squared))

    def get_config(self):
        return {"schedule": self.schedule}
