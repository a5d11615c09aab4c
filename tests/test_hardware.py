"""What is said of the machine, against what the machine says of itself."""

import importlib
import os
import re
import subprocess

import keras
import pytest

from keras_unet_diffusion.training.hardware import (
    describe_hardware,
    describe_versions,
)


def output_of(*command):
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"LC_ALL": "C"},
    ).stdout


def test_the_processor_is_that_of_lscpu_with_the_cores_of_nproc():
    described = describe_hardware()["processor"]
    name = re.search(r"Model name:\s*(.+)", output_of("lscpu"))
    if name is None:
        pytest.skip("lscpu does not name this processor.")
    # nproc heeds OMP_NUM_THREADS, which is not about the machine.
    cores = output_of("env", "-u", "OMP_NUM_THREADS", "nproc").strip()
    assert described == f"{name[1].strip()}, {cores} cores"


def test_the_memory_is_that_of_the_kernel():
    kibibytes = re.search(
        r"MemTotal:\s*(\d+)", output_of("cat", "/proc/meminfo")
    )
    described = describe_hardware()["memory"]
    # Rounded to whole gigabytes.
    expected = int(kibibytes[1]) * 1024 / 1e9
    assert float(described.removesuffix(" GB")) == pytest.approx(
        expected, abs=0.51
    )


def test_versions_are_those_of_the_modules():
    versions = describe_versions()
    for name in ("keras", "tensorflow", "numpy"):
        assert versions[name] == importlib.import_module(name).__version__
    assert versions["backend"] == keras.backend.backend()
    assert (
        f"Python {versions['python']}"
        == output_of(
            importlib.import_module("sys").executable, "--version"
        ).strip()
    )


class Device:
    def __init__(self, name):
        self.name = name


@pytest.fixture
def two_gpus(monkeypatch, tmp_path):
    """TensorFlow and nvidia-smi speak of two GPUs."""
    import tensorflow as tf

    monkeypatch.setattr(
        tf.config, "list_physical_devices", lambda kind: [Device(kind)] * 2
    )
    monkeypatch.setattr(
        tf.config.experimental,
        "get_device_details",
        lambda device: {"device_name": "NVIDIA H200"},
    )
    program = tmp_path / "nvidia-smi"
    # What it prints on two H200s: 143,771 MiB are 150.75 GB.
    line = "NVIDIA H200, 143771"
    program.write_text(f"#!/bin/sh\necho '{line}'\necho '{line}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return program


tensorflow_only = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="It asks TensorFlow."
)


@tensorflow_only
def test_gpus_are_counted_and_their_memory_is_told(two_gpus):
    described = describe_hardware()["accelerators"]
    assert described == "2 x NVIDIA H200, 151 GB"


@tensorflow_only
@pytest.mark.parametrize("script", ["exit 9", "echo 'NVIDIA H200, [N/A]'"])
def test_memory_that_nobody_tells_is_left_out(two_gpus, script):
    two_gpus.write_text(f"#!/bin/sh\n{script}\n")
    assert describe_hardware()["accelerators"] == "2 x NVIDIA H200"
