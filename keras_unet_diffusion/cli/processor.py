"""What to say about the precision that a processor is to train in."""

from pathlib import Path

import keras
import tensorflow as tf

# Linux's names of the instructions that multiply bfloat16 matrices.
_BFLOAT16_FEATURES = ("amx_bf16", "avx512_bf16")
_PROCESSOR_FILE = Path("/proc/cpuinfo")


def advise_on_dtype(dtype_policy, description=None):
    """Says whether another precision would be faster on this machine.

    Measured in TensorFlow's graphs on two cores with AMX, `ddpm_cifar10`:
    `mixed_bfloat16` trains 1.7 times as fast as `float32`, on JAX it gains
    nothing, and `mixed_float16` takes at least twice the time.

    Args:
        dtype_policy: str, "float32", "mixed_bfloat16" or "mixed_float16".
        description: str, the text of Linux's `/proc/cpuinfo`; None for this
            machine's, if it has one.

    Returns:
        One line for the user, or None if there is nothing to say, as where an
        accelerator computes.

    Example:

    ```python
    advise_on_dtype("mixed_float16")  # "mixed_float16 is much slower ..."
    ```
    """
    if _has_accelerator():
        return None
    features = bfloat16_features(_read(description))
    if dtype_policy == "mixed_float16":
        instead = "mixed_bfloat16" if features else "float32"
        return (
            "mixed_float16 is much slower than float32 on a CPU: pass "
            f"--dtype_policy={instead}."
        )
    on_tensorflow = keras.backend.backend() == "tensorflow"
    if dtype_policy == "float32" and features and on_tensorflow:
        return (
            f"This processor has {' and '.join(features)}: "
            "--dtype_policy=mixed_bfloat16 is faster here than float32."
        )
    return None


def bfloat16_features(description):
    """Finds the instructions by which a processor multiplies bfloat16.

    Args:
        description: str, the text of Linux's `/proc/cpuinfo`.

    Returns:
        Tuple of their names there, empty if there are none.
    """
    for line in description.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            flags = value.split()
            return tuple(x for x in _BFLOAT16_FEATURES if x in flags)
    return ()


def _read(description):
    if description is not None:
        return description
    return _PROCESSOR_FILE.read_text() if _PROCESSOR_FILE.exists() else ""


def _has_accelerator():
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() != "cpu"
    return bool(tf.config.list_physical_devices("GPU"))
