"""The numbers of DDIM's steps as tables: float32 needs no schedule then.

Exported files have no float64, and their runtimes not all functions of all
schedules. So what a step multiplies by is computed in float64 beforehand, and
rounded once.
"""

import functools

import numpy as np
from keras import ops

from keras_unet_diffusion.samplers import DDIM

# Most steps of files of a schedule in continuous time: each number of steps
# has points of its own, 231 kB together.
MOST_CONTINUOUS_STEPS = 128
# Twice the square of it still is an int32.
_MOST_TIMESTEPS = 32767
# What a row holds.
COLUMNS = (
    "alpha",
    "sigma",
    # What the network is told and how its images are scaled.
    "noise_level",
    "input_scale",
    # x_0 = x_share * x_t + prediction_share * prediction.
    "x_share",
    "prediction_share",
    # What the images given to a step are multiplied by: not 1 where standard
    # normal noise becomes that of the first point.
    "deviation",
)
# Row of the clean image, where the last step ends.
CLEAN_ROW = 0


def most_steps(schedule):
    """Most steps that the tables of a schedule have, int."""
    return schedule.num_timesteps or MOST_CONTINUOUS_STEPS


def step_rows(process):
    """What a step multiplies by at each point that DDIM may stop at.

    Args:
        process: a `DiffusionProcess`.

    Returns:
        float32 array `(num_rows, len(COLUMNS))`. Row 0 is the clean image;
        with a schedule of steps row `k` is step `k - 1`; in continuous time
        the points of one step come next, then those of two, and so on.

    Raises:
        ValueError: the network would say nothing where sampling begins, or
            the schedule has too many steps.
    """
    schedule = process.schedule
    steps = schedule.num_timesteps
    if steps is None:
        counts = np.arange(1, MOST_CONTINUOUS_STEPS + 1)
        number = np.concatenate([np.arange(n) for n in counts])
        count = np.repeat(counts, counts)
        is_first = number == 0
        point = DDIM().used_grid.point(
            ops.convert_to_tensor(number, "float64"),
            ops.convert_to_tensor(count, "float64"),
            schedule,
            DDIM(),
        )
    else:
        if steps > _MOST_TIMESTEPS:
            raise ValueError(
                "Files count steps by numbers of 32 bits. Received: "
                f"num_timesteps={steps}. Pass a schedule of at most "
                f"{_MOST_TIMESTEPS} steps."
            )
        times = np.arange(1, steps + 1, dtype="float64") / steps
        is_first = np.arange(1, steps + 1) == steps
        point = schedule.point(times)
    columns = _columns(process, point, is_first)
    if not all(np.isfinite(column).all() for column in columns):
        raise ValueError(
            "The network says nothing of the image where there is noise "
            f"alone, and sampling begins there. Received: {process!r}. Train "
            "with VelocityPrediction(), or sample in Keras on a KarrasGrid()."
        )
    clean = np.zeros((1, len(COLUMNS)))
    clean[0, COLUMNS.index("alpha")] = 1
    rows = np.concatenate([clean, np.stack(columns, axis=1)])
    return rows.astype("float32")


def _columns(process, point, is_first):
    """Each of `COLUMNS` at many points, float64 arrays."""
    one = ops.reshape(ops.ones_like(point.t), (-1, 1, 1, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        x_share, _ = process.estimate(one, ops.zeros_like(one), point)
        prediction_share, _ = process.estimate(ops.zeros_like(one), one, point)
    deviation = np.asarray(process.schedule.prior_deviation(point))
    columns = (
        point.alpha,
        point.sigma,
        process.noise_level_at(point),
        process.network_input(one, point),
        x_share,
        prediction_share,
        np.where(is_first, deviation, 1.0),
    )
    return [np.asarray(column).reshape(-1) for column in columns]


def row_of_step(number, num_steps, num_timesteps):
    """Row of a schedule of steps where step `number` begins, by integers.

    The nearest to `num_timesteps * (1 - number / num_steps)`; of two the
    greater one. Of numpy arrays and of int32 tensors.
    """
    doubled = 2 * num_timesteps * (num_steps - number) + num_steps
    return doubled // (2 * num_steps)


@functools.lru_cache(maxsize=8)
def rounded_down(num_timesteps):
    """Steps that begin a row below that of `row_of_step`.

    A point midway between two rows goes to the even one on DDIM's grid, and a
    few to the odd one by the rounding of float64: files must do as it does.

    Args:
        num_timesteps: int.

    Returns:
        int32 array of `num_steps * num_timesteps + number`, not to be written
        to; 620 for a thousand timesteps.
    """
    found = []
    for num_steps in range(1, num_timesteps + 1):
        number = np.arange(num_steps)
        stride = number.astype("float64") * (num_timesteps / num_steps)
        row = np.round(num_timesteps - stride)
        (down,) = np.nonzero(
            row < row_of_step(number, num_steps, num_timesteps)
        )
        found.extend(num_steps * num_timesteps + down)
    found = np.array(found, "int32")
    found.flags.writeable = False
    return found
