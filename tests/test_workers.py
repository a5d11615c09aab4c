"""Several processes that train together on loopback are one process."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow
PROGRAM = Path(__file__).with_name("worker_case.py")
# One device a process, not the two that the program's cases else have.
ONE_DEVICE = {"NUM_REPLICA_DEVICES": "1"}


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(x.getsockname()[1]) for x in sockets]
    for x in sockets:
        x.close()
    return ports


def start(backend, out, number, ports=()):
    return subprocess.Popen(
        [sys.executable, PROGRAM, out, str(number), *ports],
        env=os.environ | ONE_DEVICE | {"KERAS_BACKEND": backend},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_processes_train_like_one(backend, tmp_path):
    pytest.importorskip(backend)
    names = ("first", "second", "alone")
    outs = [tmp_path / f"{name}.npz" for name in names]
    ports = free_ports(2)
    workers = [start(backend, outs[k], k, ports) for k in range(2)]
    for worker in workers:
        _, err = worker.communicate(timeout=600)
        assert worker.returncode == 0, err[-3000:]
    alone = start(backend, outs[2], 0)
    _, err = alone.communicate(timeout=600)
    assert alone.returncode == 0, err[-3000:]
    first, second, expected = (np.load(out) for out in outs)
    np.testing.assert_array_equal(first["weights"], second["weights"])
    # Each process reads its half of every batch, so each image is seen once.
    # Float32 sums in another order.
    np.testing.assert_allclose(first["weights"], expected["weights"], atol=1e-5)
    np.testing.assert_allclose(first["loss"], expected["loss"], rtol=1e-5)
