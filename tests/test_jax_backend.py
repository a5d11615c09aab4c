"""The JAX backend of Keras against TensorFlow's, in a process of its own."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import backend_cases
import keras
import numpy as np
import pytest

HERE = Path(__file__).parent
# Every case is a program to compile, of some seconds.
QUICK = ("trained",)
# Convolutions of float32 sum in another order: images of the size of 10 came
# out at most 2e-6 apart.
ROUNDING = 5e-6
# Where the noise is predicted, the first estimate of the image is divided by
# alpha = 0.006, and guidance doubles what comes of that: 1e-5 was found.
ROUNDING_OF_NOISE = 5e-5

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="needs JAX"
)


def run_on_jax(*arguments):
    """Runs Python on the JAX backend; returns the finished process."""
    environment = os.environ | {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment,
        cwd=HERE.parent,
        capture_output=True,
        text=True,
    )


def on_both(folder, *names):
    """Networks, and arrays of JAX and of TensorFlow by the same networks."""
    networks = backend_cases.make_networks()
    for name, network in networks.items():
        network.save(folder / f"{name}.keras")
    run = run_on_jax(HERE / "backend_cases.py", folder, *names)
    assert run.returncode == 0, run.stderr[-3000:]
    with np.load(folder / "arrays.npz") as file:
        arrays = dict(file)
    return networks, arrays, backend_cases.arrays(networks, names)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quick")
    return folder, *on_both(folder, *QUICK)


@pytest.mark.parametrize("name", QUICK)
def test_the_same_seed_trains_and_makes_the_same_on_jax(quick, name):
    _, _, found, expected = quick
    np.testing.assert_allclose(
        found[name], expected[name], rtol=0, atol=ROUNDING
    )
    assert expected[name].std() > 0.1


@pytest.mark.parametrize("name", backend_cases.NETWORKS)
def test_a_network_is_the_same_after_being_saved_by_either_backend(quick, name):
    folder, networks, *_ = quick
    again = keras.saving.load_model(
        folder / f"{name}_again.keras", compile=False
    )
    weights = zip(
        again.get_weights(), networks[name].get_weights(), strict=True
    )
    for found, expected in weights:
        np.testing.assert_array_equal(found, expected)


def test_networks_stay_in_float32_where_the_loops_compute_in_float64(quick):
    _, _, found, _ = quick
    assert found["wide_operations"] == 0


@pytest.mark.slow
def test_everything_that_samples_makes_the_same_on_jax(tmp_path):
    _, found, expected = on_both(tmp_path)
    assert set(expected) > set(QUICK)
    for name, array in expected.items():
        tolerance = ROUNDING_OF_NOISE if name == "unet" else ROUNDING
        np.testing.assert_allclose(
            found[name], array, rtol=0, atol=tolerance, err_msg=name
        )


def test_export_on_jax_is_refused(quick):
    folder, _, found, _ = quick
    assert "KERAS_BACKEND=tensorflow" in str(found["export_error"])
    assert not (folder / "exported").exists()
