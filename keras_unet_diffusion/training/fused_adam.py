"""Adam with one operation for each weight on TensorFlow."""

import keras
import tensorflow as tf
from keras import ops


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class FusedAdam(keras.optimizers.Adam):
    """Adam whose update of a weight is one pass over its memory.

    Use it in place of `keras.optimizers.Adam` on the TensorFlow backend: Keras
    writes an update as some forty operations for each weight, a dozen of which
    read or write all of it, and all of which are traced. The numbers agree to
    rounding and the variables are the same, so that either can go on from the
    other's checkpoint. With `weight_decay=0.004` it is `AdamW`.

    On other backends, with `amsgrad=True`, and for weights that are not
    float32 it is `keras.optimizers.Adam`.

    Args:
        **kwargs: of `keras.optimizers.Adam`, all of them.

    Example:

    ```python
    model.compile(FusedAdam(2e-4))
    ```

    Reference:
        Kingma and Ba 2015, "Adam: A Method for Stochastic Optimization",
        algorithm 1, in the order of the end of section 2. Differences: in that
        order epsilon is added before the bias of the root is corrected, as in
        `keras.optimizers.Adam`. Unlike there, rows of an embedding that occur
        more than once in a batch are summed before they are squared.
    """

    # What is the same for all weights in an update; only while it is made.
    _shared = None

    def apply(self, grads, trainable_variables=None):
        if keras.backend.backend() == "tensorflow" and not self.amsgrad:
            self._shared = self._shared_arguments()
        try:
            super().apply(grads, trainable_variables)
        finally:
            self._shared = None

    def update_step(self, gradient, variable, learning_rate):
        dtype = keras.backend.standardize_dtype(variable.dtype)
        if self._shared is None or dtype != "float32":
            super().update_step(gradient, variable, learning_rate)
            return
        k = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(self._momentums[k]),
            v=_handle(self._velocities[k]),
            lr=tf.cast(learning_rate, dtype),
            # Sparse gradients become dense here.
            grad=tf.cast(tf.convert_to_tensor(gradient), dtype),
            **self._shared,
        )

    def _shared_arguments(self):
        beta_1, beta_2, epsilon = (
            tf.constant(x, "float32")
            for x in (self.beta_1, self.beta_2, self.epsilon)
        )
        step = ops.cast(self.iterations + 1, "float32")
        return {
            "beta1": beta_1,
            "beta2": beta_2,
            "beta1_power": tf.pow(beta_1, step),
            "beta2_power": tf.pow(beta_2, step),
            "epsilon": epsilon,
        }


def _handle(variable):
    """The resource of a variable; on a replica, of that replica's copy."""
    if isinstance(variable, keras.Variable):
        variable = variable.value
    return variable.handle
