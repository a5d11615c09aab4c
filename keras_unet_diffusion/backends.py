"""Where TensorFlow and JAX differ: compiling, float64 and derivatives.

Everything else that samples is written in `keras.ops` and runs on both.
"""

import functools
import os

import keras
import tensorflow as tf


def is_jax():
    """Whether Keras runs on JAX, bool."""
    return keras.backend.backend() == "jax"


def leave_gpus_to_jax():
    """Keeps TensorFlow, which reads the images, from taking the memory of the
    GPUs that JAX computes on."""
    if not is_jax():
        return
    try:
        tf.config.set_visible_devices([], "GPU")
    except RuntimeError:
        # It was used before us, and has what it takes.
        pass


def compute_deterministically():
    """Takes only kernels that always compute the same from the same.

    To be called before anything is computed. On a CPU nothing changes.
    """
    if is_jax():
        # Read when JAX first looks for its devices.
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true"
    else:
        tf.config.experimental.enable_op_determinism()


def keep_compiled(folder):
    """Keeps what JAX compiles for GPUs in a folder, and takes it from there.

    Not what it compiles for a CPU, which takes less time and may not run on
    another one. TensorFlow cannot be told once it is imported.

    Args:
        folder: path; "~" is the home folder.

    Returns:
        The folder, or None if nothing is kept.
    """
    if not is_jax():
        return None
    import jax

    if jax.default_backend() == "cpu":
        return None
    folder = os.path.expanduser(folder)
    jax.config.update("jax_compilation_cache_dir", folder)
    return folder


def compiled(function, like, networks, jit_compile=False):
    """Compiles a function of tensors that calls networks.

    TensorFlow traces it at once, for any batch size. JAX compiles it when it
    is called, and again for each batch size: pad the last batch. What weights
    the networks have is read in each call.

    Args:
        function: function of one nested structure of tensors.
        like: such a structure: tensors of one rank, shape (but the batch) and
            dtype are to follow.
        networks: sequence of all `keras.Model`s that it calls.
        jit_compile: bool. Whether XLA compiles it on TensorFlow; JAX compiles
            everything by XLA.

    Returns:
        A function of the same structure.
    """
    if is_jax():
        return _jitted(function, networks)
    signature = keras.tree.map_structure(_any_batch, like)
    # Traced here, not when called: TensorFlow would warn that many samplers
    # are many traces.
    return tf.function(
        function, autograph=False, jit_compile=jit_compile
    ).get_concrete_function(signature)


def _any_batch(x):
    shape = [None, *x.shape[1:]] if len(x.shape) else []
    return tf.TensorSpec(shape, x.dtype)


def _jitted(function, networks):
    import jax

    # Weights are arguments: JAX would compile their values in.
    variables = [x for network in networks for x in network.variables]

    @jax.jit
    def stateless(values, inputs):
        mapping = zip(variables, values, strict=True)
        with keras.StatelessScope(state_mapping=mapping):
            return function(inputs)

    return lambda inputs: stateless([x.value for x in variables], inputs)


def in_float64(function):
    """Decorates a function that computes in float64 and int64.

    JAX knows no numbers of 64 bits unless told to; TensorFlow always does.
    Only there and then: training must not be slowed down by them.
    """

    @functools.wraps(function)
    def decorated(*args, **kwargs):
        if not is_jax():
            return function(*args, **kwargs)
        import jax

        with jax.enable_x64(True):
            return function(*args, **kwargs)

    return decorated


def with_pullback(function, x):
    """Calls a function and makes its derivative ready.

    Args:
        function: function of one tensor to another.
        x: the tensor.

    Returns:
        The value, and a function from a tensor of the value's shape, by which
        each of its elements counts, to the gradient of their sum, of the shape
        of x. It may be called more than once.
    """
    if is_jax():
        import jax

        value, pullback = jax.vjp(function, x)
        return value, lambda shares: pullback(shares)[0]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        value = function(x)
    return value, lambda shares: tape.gradient(value, x, shares)


def gradients(function, variables):
    """Differentiates a function of nothing with respect to variables.

    Args:
        function: function without arguments that returns a scalar tensor.
        variables: list of `keras.Variable`s, trainable or not, that it reads.

    Returns:
        List of tensors of the variables' shapes.
    """
    values = [x.value for x in variables]
    if is_jax():
        import jax

        def of_values(values):
            mapping = zip(variables, values, strict=True)
            with keras.StatelessScope(state_mapping=mapping):
                return function()

        return jax.grad(of_values)(values)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        value = function()
    return tape.gradient(value, values)
