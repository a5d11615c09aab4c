"""Several devices: N of them on a batch are one of them on that batch."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from command_fixtures import SMALL

from keras_unet_diffusion.replicas import devices_scope

PROGRAM = Path(__file__).with_name("replica_cases.py")
# What is accumulated is clipped too. JAX has one program for all devices,
# whatever the optimizer.
QUICK = {"tensorflow": ("accumulated", "adamw"), "jax": ("accumulated",)}
ALL = ("plain", "clipped", "accumulated", "adamw")


@pytest.fixture(
    scope="module",
    params=[
        *QUICK.items(),
        *(
            pytest.param((backend, ALL), marks=pytest.mark.slow)
            for backend in QUICK
        ),
    ],
    ids=lambda param: f"{param[0]}-{len(param[1])}",
)
def trained(request, tmp_path_factory):
    """The cases of a backend, and the arrays that came out of them."""
    backend, cases = request.param
    pytest.importorskip(backend)
    out = tmp_path_factory.mktemp("replicas") / "found.npz"
    done = subprocess.run(
        [sys.executable, PROGRAM, out, *cases],
        env=os.environ | {"KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return cases, np.load(out)


@pytest.fixture
def found(trained):
    return trained[1]


def test_two_devices_train_like_one(trained):
    cases, found = trained
    for case in cases:
        one, several = (
            {
                key.rpartition("/")[2]: array
                for key, array in found.items()
                if key.startswith(f"{case}/{kind}/")
            }
            for kind in ("one", "several")
        )
        np.testing.assert_array_equal(several["steps"], one["steps"])
        for name in ("losses", "quartiles", "norms", "validated"):
            # Float32 sums in another order, through six steps.
            np.testing.assert_allclose(
                several[name], one[name], rtol=1e-4, err_msg=f"{case}/{name}"
            )
        for name in ("weights", "averages"):
            # Weights of size 1; Adam's epsilon of 1e-3 bounds what rounding
            # becomes where a gradient is nearly zero.
            np.testing.assert_allclose(
                several[name], one[name], atol=1e-4, err_msg=f"{case}/{name}"
            )


def test_the_cases_differ(trained):
    cases, found = trained
    if len(cases) == 1:
        pytest.skip("there is one case")
    weights = [found[f"{case}/one/weights"] for case in cases]
    for k, first in enumerate(weights):
        for second in weights[:k]:
            assert np.abs(first - second).max() > 1e-3


def test_a_checkpoint_of_two_devices_goes_on_on_one(found):
    # As above.
    np.testing.assert_allclose(
        found["moved/weights"], found["alone/weights"], atol=1e-4
    )
    before, after = found["moved/images"]
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_replicas_drop_other_features(found):
    if "dropped" not in found:
        pytest.skip("JAX has one program for all devices")
    first, second = found["dropped"]
    assert np.abs(first - second).max() > 0.1


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (1, "There is 1 device to train on. Received: num_devices=4. Pass 1."),
        (
            2,
            "There are 2 devices to train on. Received: num_devices=4. Pass a "
            "number from 1 to 2.",
        ),
    ],
)
def test_more_devices_than_there_are_is_an_error_that_counts_them(
    monkeypatch, count, message
):
    devices = [SimpleNamespace(name=f"CPU:{k}") for k in range(count)]
    monkeypatch.setattr(
        tf.config,
        "list_logical_devices",
        lambda kind: devices if kind == "CPU" else [],
    )
    with pytest.raises(ValueError) as caught:
        devices_scope(4)
    assert str(caught.value) == message


@pytest.mark.slow
def test_the_command_trains_on_two_devices_and_goes_on_on_one(tmp_path):
    workdir = tmp_path / "run"
    flags = [
        *SMALL,
        f"--workdir={workdir}",
        "--batch_size=8",
        "--steps_per_epoch=2",
        "--checkpoint_epochs=1",
        "--power_averages=0.1",
    ]
    two_devices = (
        "import sys, tensorflow as tf\n"
        "device = tf.config.LogicalDeviceConfiguration()\n"
        "cpu = tf.config.list_physical_devices('CPU')[0]\n"
        "tf.config.set_logical_device_configuration(cpu, [device] * 2)\n"
        "from keras_unet_diffusion.cli.train import main\n"
        "sys.exit(main())"
    )
    for steps, devices in ((4, 2), (6, 1)):
        counts = [f"--train_steps={steps}", f"--num_devices={devices}"]
        done = subprocess.run(
            [sys.executable, "-c", two_devices, *flags, *counts],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    assert "Going on after step 4." in done.stdout
    assert "| images seen | 48 |" in (workdir / "README.md").read_text()
