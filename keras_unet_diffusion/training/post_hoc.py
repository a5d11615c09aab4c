"""Averages of any length, made after training from a few stored ones.

A profile says how much the weights of each update count in an average. That
of a power-function average after `n` updates is `(gamma + 1) * t**gamma /
n**(gamma + 1)` for t in (0, n], and the average is the integral of the weights
times that. A sum of stored averages whose profiles add up to another profile
is the average of that profile, whatever the weights were.
"""

import numpy as np
from absl import logging

from keras_unet_diffusion.training.averaging import power_function_exponent
from keras_unet_diffusion.training.snapshots import (
    list_snapshots,
    read_snapshot,
)

# Beyond that a part of the weights is from other times than was asked for.
_LARGE_ERROR = 0.1


def reconstruct(workdir, relative_deviation, step=None):
    """The average of any length, from what `StoreSnapshots` has stored.

    Use it after training, to look for the length that makes the best images.
    It reads each snapshot up to `step` once and needs 8 bytes of memory for
    each weight. A length that the snapshots cannot express (shorter than the
    time between two of them, say) is logged as a warning with its error.

    Args:
        workdir: folder whose `snapshots` folder holds them.
        relative_deviation: float in (0, 0.2886], sigma_rel of the average,
            see `PowerFunctionAverage`.
        step: int, updates after which the average is taken, one of the stored
            ones; None for the last.

    Returns:
        List of float32 arrays in the order of `network.weights`, for
        `network.set_weights`.

    Raises:
        ValueError: there are no snapshots, none of `step`, or they are
            damaged or of different networks.

    Example:

    ```python
    model.ema_network.set_weights(reconstruct("runs/cifar10", 0.15))
    images = model.generate(16, seed=0)
    ```

    Reference:
        Karras et al. 2024, section 3.2 and algorithm 3. Differences: see
        `reconstruction_coefficients`.
    """
    snapshots = list_snapshots(workdir)
    stored = sorted({snapshot.step for snapshot in snapshots})
    if step is None:
        step = stored[-1]
    if step not in stored:
        raise ValueError(
            "No average of that step was stored. Received: step="
            f"{step}; stored are {', '.join(map(str, stored))}. Choose one of "
            "them, or None for the last."
        )
    snapshots = [snapshot for snapshot in snapshots if snapshot.step <= step]
    coefficients, error = reconstruction_coefficients(
        [snapshot.step for snapshot in snapshots],
        [snapshot.relative_deviation for snapshot in snapshots],
        step,
        relative_deviation,
    )
    if error > _LARGE_ERROR:
        logging.warning(
            "The %d stored averages express an average of the relative "
            "deviation %g at step %d only to an error of %.0f%% of its "
            "profile. Store them more often.",
            len(snapshots),
            relative_deviation,
            step,
            100 * error,
        )
    return _weighted_sum(snapshots, coefficients)


def _weighted_sum(snapshots, coefficients):
    """The sum of snapshots times coefficients, float32 arrays.

    The last snapshot is the one that integers are taken from.
    """
    total = None
    for snapshot, coefficient in zip(snapshots, coefficients, strict=True):
        arrays = read_snapshot(snapshot)
        shapes = [array.shape for array in arrays]
        if total is None:
            total = [np.zeros(shape) for shape in shapes]
        if shapes != [array.shape for array in total]:
            raise ValueError(
                "The stored averages are of different networks. Received: "
                f"{snapshots[0].path} and {snapshot.path}. Keep those of one "
                "network in a folder."
            )
        for k, array in enumerate(arrays):
            if np.issubdtype(array.dtype, np.floating):
                total[k] += coefficient * array.astype("float64")
            else:
                total[k] = array
    return [array.astype("float32") for array in total]


def power_function_profile(relative_deviation, num_updates):
    """How much each update counts in a power-function average.

    Args:
        relative_deviation: float in (0, 0.2886], sigma_rel.
        num_updates: int >= 1. Updates in all.

    Returns:
        float64 array, `(num_updates,)`: shares of the weights after each
        update, of sum 1.

    Example:

    ```python
    shares = power_function_profile(0.1, 1000)
    ```

    Reference:
        Karras et al. 2024, Eq. 121. Differences: the share of an update is
        the integral of the profile over its unit of time, which is exactly
        what the recursion, Eq. 127, gives it.
    """
    power = power_function_exponent(relative_deviation) + 1
    return np.diff((np.arange(num_updates + 1) / num_updates) ** power)


def reconstruction_coefficients(
    steps, relative_deviations, step, relative_deviation
):
    """What to multiply stored averages by, so that the sum is another one.

    Their profiles are fitted to that of the other by least squares, and the
    coefficients are divided by their sum: a weight that never changed stays
    what it is.

    Args:
        steps: updates after which each average was stored, `(stored,)`.
        relative_deviations: sigma_rel of each, `(stored,)`, floats.
        step: updates after which the other average is wanted, a number.
        relative_deviation: its sigma_rel, float in (0, 0.2886].

    Returns:
        `(coefficients, error)`: float64 array `(stored,)`, and a float, the
        root of the squared difference of the profiles, integrated, as a share
        of that of the wanted profile. An error below 1e-7 is rounding.

    Raises:
        ValueError: two stored averages are the same.

    Example:

    ```python
    steps, deviations = [1000, 1000, 2000, 2000], [0.05, 0.1, 0.05, 0.1]
    coefficients, error = reconstruction_coefficients(
        steps, deviations, 2000, 0.08
    )
    ```

    Reference:
        Karras et al. 2024, section 3.2, Eq. 151 and algorithm 3. Differences:
        the system is scaled to profiles of norm 1, which rounds less; the
        division by the sum is that of the authors' program.
    """
    steps = np.asarray(steps, "float64")
    gammas = [power_function_exponent(x) for x in relative_deviations]
    gammas = np.asarray(gammas, "float64")
    if len(set(zip(steps, gammas, strict=True))) < len(steps):
        raise ValueError(
            "Two stored averages are of the same step and relative deviation. "
            f"Received: steps={steps.tolist()}, relative_deviations="
            f"{list(relative_deviations)}. Pass each once."
        )
    gamma = power_function_exponent(relative_deviation)
    products = _dot(steps[:, None], gammas[:, None], steps, gammas)
    wanted = _dot(steps, gammas, step, gamma)
    norms = np.sqrt(np.diag(products))
    scaled = products / norms / norms[:, None]
    coefficients = np.linalg.solve(scaled, wanted / norms) / norms
    coefficients /= coefficients.sum()
    own = _dot(step, gamma, step, gamma)
    square = coefficients @ products @ coefficients
    square += own - 2 * coefficients @ wanted
    return coefficients, float(np.sqrt(max(square, 0.0) / own))


def _dot(step, gamma, other_step, other_gamma):
    """The integral of the product of two profiles, Eq. 151."""
    earlier = np.minimum(step, other_step)
    later = np.maximum(step, other_step)
    # The later profile is cut off where the earlier one ends.
    gamma_of_later = np.where(step < other_step, other_gamma, gamma)
    shared = (gamma + 1) * (other_gamma + 1) / (gamma + other_gamma + 1)
    return shared * (earlier / later) ** gamma_of_later / later
