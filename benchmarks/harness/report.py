"""What a benchmark leaves behind: a table, and JSON with all that it saw."""

import importlib.metadata
import json
import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

PACKAGES = (
    "keras",
    "tensorflow",
    "jax",
    "torch",
    "diffusers",
    "numpy",
)


def context():
    """How and where a benchmark ran, for its JSON: a dict.

    `command`, `versions` of the packages (None for those that are not
    installed), `python`, `hardware`, and the `revision` of the source.
    """
    return {
        "command": shlex.join(["python", *sys.argv]),
        "versions": {package: _version(package) for package in PACKAGES},
        "python": platform.python_version(),
        "revision": _revision(),
        "hardware": _hardware(),
    }


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _output_of(*command):
    try:
        answer = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


def _revision():
    return _output_of("git", "rev-parse", "--short", "HEAD")


def _hardware():
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as lines:
            models = [x for x in lines if x.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    query = "--query-gpu=name,memory.total,driver_version"
    cards = _output_of("nvidia-smi", query, "--format=csv,noheader")
    return {
        "cpu": name,
        "cores": os.cpu_count(),
        "gpus": cards.splitlines() if cards else [],
    }


def spread(values):
    """Median, least and greatest of numbers, a dict."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
    }


def print_table(columns, rows):
    """Prints a Markdown table.

    Args:
        columns: tuple of str.
        rows: sequence of sequences; None is shown as a dash.
    """
    print(f"| {' | '.join(columns)} |")
    print(f"|{len(columns) * '---|'}")
    for row in rows:
        cells = ("–" if x is None else str(x) for x in row)
        print(f"| {' | '.join(cells)} |")
    sys.stdout.flush()


def save(results, path):
    """Writes results as JSON, if there is a path."""
    if path:
        text = json.dumps(_strict(results), indent=2, allow_nan=False)
        Path(path).write_text(text + "\n")


def _strict(value):
    """The same without numbers that JSON does not have: "nan" is text."""
    if isinstance(value, dict):
        return {key: _strict(x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(x) for x in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def shown(value, pattern):
    """A number as a cell by a pattern of `format`; None for None."""
    return None if value is None else format(value, pattern)


def median_of(values, pattern):
    """The median of a `spread` as a cell; None for None."""
    return None if values is None else format(values["median"], pattern)


def least_and_most(values, pattern):
    """The ends of a `spread` as one cell; None for None."""
    if values is None:
        return None
    return f"{format(values['min'], pattern)}, {format(values['max'], pattern)}"


def peak_gibibytes(answer):
    """The most memory that an answer tells of as a cell, in GiB.

    That of the device; of the process where the device counts none.
    """
    peak = answer.get("peak_device_bytes") or answer.get("peak_process_bytes")
    return None if peak is None else f"{peak / 2**30:.2f}"
