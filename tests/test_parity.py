"""The gate that every exported file passes."""

import numpy as np
import pytest
from conftest import SMALL, randomize

from keras_unet_diffusion import DiffusionProcess, UNet
from keras_unet_diffusion.export.network import rebuild_in_float32
from keras_unet_diffusion.export.parity import (
    compare,
    denoise_cases,
    float32_rounding,
)


def compare_off_by(off, tmp_path, rounding):
    """Compares an output that is off by a share of the spread of 1."""
    artifact = tmp_path / "made_up.tflite"
    artifact.write_bytes(b"0" * 100)
    expected = np.array([-1.0, 1.0])
    result = {"output": expected + [0, off], "milliseconds": 1.0}
    return compare(
        artifact.name, artifact, "denoise", result, expected, 1e-5, rounding
    )


def no_rounding():
    pytest.fail("the network in float64 is only built where it is needed")


def test_an_artifact_within_the_tolerance_needs_no_float64(tmp_path):
    row = compare_off_by(0.9e-5, tmp_path, no_rounding)
    assert row["tolerance_of_spread"] == 1e-5


def test_an_artifact_may_be_off_as_much_as_keras_itself_rounds(tmp_path):
    row = compare_off_by(1.5e-5, tmp_path, lambda: 1e-5)
    assert row["keras_rounding_of_spread"] == 1e-5
    assert row["tolerance_of_spread"] == 2e-5


@pytest.mark.parametrize("off, rounding", [(2.5e-5, 1e-5), (1.1e-5, 1e-7)])
def test_an_artifact_further_off_fails_the_export(off, rounding, tmp_path):
    with pytest.raises(ValueError, match="Nothing was exported"):
        compare_off_by(off, tmp_path, lambda: rounding)


def test_numbers_that_are_none_fail_whatever_the_rounding(tmp_path):
    with pytest.raises(ValueError, match="off by nan"):
        compare_off_by(np.nan, tmp_path, lambda: 1.0)


def test_rounding_of_a_small_network_is_that_of_float32():
    network = rebuild_in_float32(randomize(UNet(**SMALL)))
    cases = denoise_cases(network, DiffusionProcess(), (8, 8, 1))
    expected = np.asarray(network(cases, training=False))
    rounding = float32_rounding(network, cases, expected)
    # A few dozen operations, each of relative error 2**-24 = 6e-8.
    assert 1e-8 < rounding < 1e-5
