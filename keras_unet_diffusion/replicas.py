"""Copies of a model that train together, each on its part of a batch.

On TensorFlow these are the replicas of `tf.distribute`. On JAX there is one
program for all devices, so one replica, whose batch is the whole.
"""

import contextlib

import keras
import tensorflow as tf
from keras import ops

from keras_unet_diffusion.backends import is_jax


def devices_scope(num_devices):
    """Context to make, load and train a model in, on some devices of the host.

    Args:
        num_devices: int >= 1. GPUs that share each batch; CPU devices where
            there is no GPU.

    Returns:
        A context manager: the scope of a `tf.distribute.MirroredStrategy`, or
        of a `keras.distribution.DataParallel` on JAX.

    Raises:
        ValueError: there are fewer devices.

    Example:

    ```python
    with devices_scope(2):
        model = DiffusionModel(UNet.from_preset("ddpm_cifar10"))
        model.compile("adam", jit_compile=True)
        model.fit(dataset)
    ```
    """
    if num_devices == 1:
        return contextlib.nullcontext()
    if is_jax():
        devices = keras.distribution.list_devices()
    else:
        kinds = map(tf.config.list_logical_devices, ("GPU", "CPU"))
        devices = [device.name for device in next(filter(None, kinds))]
    if not 1 <= num_devices <= len(devices):
        count = len(devices)
        found, allowed = f"are {count} devices", f"a number from 1 to {count}"
        if count == 1:
            found, allowed = "is 1 device", "1"
        raise ValueError(
            f"There {found} to train on. Received: num_devices={num_devices}. "
            f"Pass {allowed}."
        )
    devices = devices[:num_devices]
    if is_jax():
        return keras.distribution.DataParallel(devices=devices).scope()
    return tf.distribute.MirroredStrategy(devices).scope()


def num_replicas():
    """How many replicas train together, int."""
    if is_jax():
        return 1
    return tf.distribute.get_strategy().num_replicas_in_sync


def spans_processes():
    """Whether the replicas are in several processes of TensorFlow, bool."""
    if is_jax():
        return False
    return isinstance(
        tf.distribute.get_strategy(),
        tf.distribute.MultiWorkerMirroredStrategy,
    )


def replica_number():
    """Number of this replica from 0, int32 scalar."""
    context = None
    if num_replicas() > 1:
        context = tf.distribute.get_replica_context()
    number = 0 if context is None else context.replica_id_in_sync_group
    return ops.cast(number, "int32")


def mean_over_replicas(tensors):
    """Averages a list of tensors over the replicas."""
    if num_replicas() == 1:
        return tensors
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, tensors)


def run_if(condition, function, tensors, variables):
    """Changes variables by tensors, or leaves them exactly as they are.

    Args:
        condition: bool scalar, the same on all replicas.
        function: function of the list of tensors, without a result.
        tensors: list of tensors, the same on all replicas.
        variables: each `keras.Variable` that it reads or changes, once.
    """
    if is_jax():
        _select(condition, function, tensors, variables)
    elif tf.__internal__.distribute.strategy_supports_no_merge_call():
        tf.cond(condition, lambda: _done(function(tensors)), lambda: False)
    else:
        # An optimizer calls merge_call, which is not allowed in a branch; so
        # the branch is taken where that call leads.
        tf.distribute.get_replica_context().merge_call(
            _run_if_across, (condition, function, tensors)
        )


def _run_if_across(strategy, condition, function, tensors):
    condition = strategy.experimental_local_results(condition)[0]

    def run():
        # Each replica brought a function of its own.
        strategy.extended.call_for_each_replica(
            lambda function, tensors: function(tensors), (function, tensors)
        )
        return True

    tf.cond(condition, run, lambda: False)


def _done(result):
    """What a branch must return: something."""
    return True


def _select(condition, function, tensors, variables):
    """Runs it in any case and keeps what is wanted, as is usual in JAX."""
    before = [(variable, variable.value) for variable in variables]
    with keras.StatelessScope(state_mapping=before) as scope:
        function(tensors)
        after = [scope.get_current_value(variable) for variable in variables]
    for (variable, old), new in zip(before, after, strict=True):
        variable.assign(ops.where(condition, new, old))
