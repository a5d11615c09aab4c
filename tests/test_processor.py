"""What the command that trains says about precision, by processor."""

import keras
import pytest
import tensorflow as tf

from keras_unet_diffusion.cli import processor
from keras_unet_diffusion.cli.processor import (
    advise_on_dtype,
    bfloat16_features,
)

# As Linux writes them, most flags left out. Two cores, one flag line each.
SAPPHIRE_RAPIDS = """\
processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
bugs\t\t: spectre_v1 spectre_v2
flags\t\t: fpu avx2 avx512f avx512_bf16 avx512_fp16 amx_bf16 amx_tile amx_int8

processor\t: 1
flags\t\t: fpu avx2 avx512f avx512_bf16 avx512_fp16 amx_bf16 amx_tile amx_int8
"""
ZEN_4 = """\
processor\t: 0
model name\t: AMD EPYC 9B14
flags\t\t: fpu avx2 avx512f avx512vl avx512_bf16
"""
ZEN_3 = """\
processor\t: 0
model name\t: AMD EPYC 7B13 (not amx_bf16, not avx512_bf16)
flags\t\t: fpu sse4_2 avx avx2 fma f16c
vmx flags\t: amx_bf16
"""


@pytest.fixture(autouse=True)
def _no_accelerator(monkeypatch):
    monkeypatch.setattr(processor, "_has_accelerator", lambda: False)


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        (SAPPHIRE_RAPIDS, ("amx_bf16", "avx512_bf16")),
        (ZEN_4, ("avx512_bf16",)),
        (ZEN_3, ()),
        ("", ()),
        ("flags\t: avx512_bf16_of_another_kind\n", ()),
    ],
    ids=["amx", "avx512", "neither", "unknown", "longer_name"],
)
def test_instructions_are_found_among_the_flags_alone(description, expected):
    assert bfloat16_features(description) == expected


@pytest.mark.parametrize("description", [SAPPHIRE_RAPIDS, ZEN_4])
def test_float32_on_a_processor_that_gains_from_bfloat16_gets_one_line(
    description,
):
    line = advise_on_dtype("float32", description)
    assert "--dtype_policy=mixed_bfloat16 is faster" in line
    assert "avx512_bf16" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("dtype_policy", "description"),
    [
        ("float32", ZEN_3),
        ("float32", ""),
        ("mixed_bfloat16", SAPPHIRE_RAPIDS),
        ("mixed_bfloat16", ZEN_3),
    ],
)
def test_nothing_is_said_where_nothing_is_gained(dtype_policy, description):
    assert advise_on_dtype(dtype_policy, description) is None


@pytest.mark.parametrize(
    ("description", "instead"),
    [(ZEN_3, "float32"), (ZEN_4, "mixed_bfloat16")],
)
def test_float16_on_a_processor_is_warned_about(description, instead):
    line = advise_on_dtype("mixed_float16", description)
    assert line.startswith("mixed_float16 is much slower than float32")
    assert f"--dtype_policy={instead}" in line


def test_jax_gains_nothing_from_bfloat16_on_a_processor(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert advise_on_dtype("float32", SAPPHIRE_RAPIDS) is None
    assert advise_on_dtype("mixed_float16", SAPPHIRE_RAPIDS) is not None


@pytest.mark.parametrize("dtype_policy", ["float32", "mixed_float16"])
def test_nothing_is_said_where_a_gpu_computes(monkeypatch, dtype_policy):
    monkeypatch.undo()  # The real look at the devices, of a made-up machine.
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    assert advise_on_dtype(dtype_policy, SAPPHIRE_RAPIDS) is None


def test_this_machine_is_looked_at_when_nothing_is_passed(
    monkeypatch, tmp_path
):
    (tmp_path / "cpuinfo").write_text(ZEN_4)
    monkeypatch.setattr(processor, "_PROCESSOR_FILE", tmp_path / "cpuinfo")
    assert "avx512_bf16" in advise_on_dtype("float32")
    # As on macOS, which has no such file.
    monkeypatch.setattr(processor, "_PROCESSOR_FILE", tmp_path / "missing")
    assert advise_on_dtype("float32") is None
