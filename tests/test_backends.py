"""What differs between backends, on TensorFlow; test_jax_backend.py has JAX."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_unet_diffusion import backends
from keras_unet_diffusion.backends import compiled, in_float64, with_pullback


def dense(size=3):
    inputs = keras.Input((size,))
    return keras.Model(inputs, keras.layers.Dense(2)(inputs))


def test_a_pullback_is_the_transposed_jacobian():
    matrix = np.random.default_rng(0).standard_normal((4, 3))
    x = tf.constant([[0.5], [-1.0], [2.0]], tf.float64)
    value, pullback = with_pullback(lambda x: tf.sin(matrix @ x), x)
    expected = np.sin(matrix @ x.numpy())
    np.testing.assert_allclose(value, expected, rtol=1e-12)  # float64
    jacobian = np.cos(matrix @ x.numpy()) * matrix
    for shares in np.random.default_rng(1).standard_normal((2, 4, 1)):
        np.testing.assert_allclose(
            pullback(tf.constant(shares)), jacobian.T @ shares, rtol=1e-12
        )


def test_a_compiled_function_is_traced_once_for_all_batches():
    network, traces = dense(), []

    def function(inputs):
        traces.append(1)
        return inputs["scale"] * network(inputs["x"])

    def inputs(count):
        x = np.ones((count, 3), "float32")
        return {"x": tf.constant(x), "scale": tf.constant(2.0)}

    call = compiled(function, inputs(1), [network])
    for count in (1, 2, 5):
        expected = 2 * inputs(count)["x"].numpy() @ network.get_weights()[0]
        # Sums of three products in float32.
        np.testing.assert_allclose(call(inputs(count)), expected, rtol=1e-6)
    assert len(traces) == 1


def test_a_compiled_function_reads_the_weights_in_each_call():
    network = dense()
    x = tf.ones((1, 3))
    call = compiled(network, x, [network])
    before = call(x).numpy()
    network.set_weights([2 * w for w in network.get_weights()])
    # Doubling is exact.
    np.testing.assert_array_equal(call(x), 2 * before)


def test_a_decorated_function_keeps_its_arguments_and_its_name():
    @in_float64
    def sine(x, scale=1.0):
        return scale * np.sin(x)

    assert sine.__name__ == "sine"
    assert sine(0.5, scale=2.0) == 2 * np.sin(0.5)


def test_tensorflow_is_told_to_compute_deterministically(monkeypatch):
    told = []
    monkeypatch.setattr(
        tf.config.experimental, "enable_op_determinism", lambda: told.append(1)
    )
    backends.compute_deterministically()
    assert told == [1]


def test_jax_is_told_so_beside_what_it_was_told_before(monkeypatch):
    monkeypatch.setattr(backends, "is_jax", lambda: True)
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    backends.compute_deterministically()
    assert os.environ["XLA_FLAGS"].split() == [
        "--xla_force_host_platform_device_count=2",
        "--xla_gpu_deterministic_ops=true",
    ]


@pytest.mark.parametrize("device", ["gpu", "cpu"])
def test_jax_keeps_what_it_compiles_for_a_gpu_alone(
    device, monkeypatch, tmp_path
):
    jax = pytest.importorskip("jax")
    monkeypatch.setattr(backends, "is_jax", lambda: True)
    monkeypatch.setattr(jax, "default_backend", lambda: device)
    monkeypatch.setenv("HOME", str(tmp_path))
    told = {}
    monkeypatch.setattr(jax.config, "update", told.__setitem__)
    kept = backends.keep_compiled("~/compiled")
    folder = str(tmp_path / "compiled")
    assert kept == (folder if device == "gpu" else None)
    assert told == (
        {"jax_compilation_cache_dir": folder} if device == "gpu" else {}
    )


def test_tensorflow_keeps_nothing_that_it_compiles(tmp_path):
    assert backends.keep_compiled(tmp_path) is None
