"""What a run ran on: processor, accelerators, memory, versions."""

import importlib.metadata
import os
import platform
import subprocess
from collections import Counter
from pathlib import Path

import keras

_PACKAGES = ("keras_unet_diffusion", "keras", "tensorflow", "jax", "numpy")


def describe_hardware():
    """Says what this process runs on.

    Returns:
        Dict of str by name: `processor`, with the cores that this process may
        use; `memory`; `accelerators`, with their number and memory, "none" if
        there are none.

    Example:

    ```python
    describe_hardware()["accelerators"]  # "1 x NVIDIA H200, 141 GB"
    ```
    """
    cores = len(os.sched_getaffinity(0))
    num_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": f"{_processor()}, {cores} cores",
        "memory": _gigabytes(num_bytes),
        "accelerators": _accelerators(),
    }


def describe_versions():
    """Says which versions this process runs.

    Returns:
        Dict of str by name: Python, the packages that matter, the backend of
        Keras, the operating system.
    """
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            # JAX is not required, nor is the library always installed.
            continue
    return versions | {
        "backend": keras.backend.backend(),
        "system": f"{platform.system()} {platform.release()}",
    }


def _processor():
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _accelerators():
    memory = _memory_of_gpus()
    if keras.backend.backend() == "jax":
        import jax

        devices = [d for d in jax.local_devices() if d.platform != "cpu"]
        names = [device.device_kind for device in devices]
    else:
        import tensorflow as tf

        names = [
            tf.config.experimental.get_device_details(device).get(
                "device_name", device.name
            )
            for device in tf.config.list_physical_devices("GPU")
        ]
    found = Counter(f"{name}{memory.get(name, '')}" for name in names)
    listed = [f"{count} x {name}" for name, count in found.items()]
    return "; ".join(listed) or "none"


def _memory_of_gpus():
    """Memory of NVIDIA's GPUs by their names, which no backend tells."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total"]
    command.append("--format=csv,noheader,nounits")
    try:
        output = subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    pairs = [line.rpartition(",") for line in output.splitlines()]
    # In MiB; "[N/A]" where the host hides it.
    return {
        name.strip(): f", {_gigabytes(int(mebibytes) * 2**20)}"
        for name, _, mebibytes in pairs
        if mebibytes.strip().isdecimal()
    }


def _gigabytes(num_bytes):
    return f"{num_bytes / 1e9:.0f} GB"
