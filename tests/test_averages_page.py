"""The code and the figures of docs/averages.md."""

import re
from pathlib import Path

import numpy as np
import pytest

from keras_unet_diffusion.training.averaging import power_function_exponent
from keras_unet_diffusion.training.post_hoc import (
    power_function_profile,
    reconstruction_coefficients,
)

PAGE = (Path(__file__).parents[1] / "docs" / "averages.md").read_text()


def table(header):
    """Rows of the table whose header begins so, lists of the cells."""
    lines = PAGE[PAGE.index(f"\n| {header} |") + 1 :].split("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in lines.splitlines()]
    return [rows[0], *rows[2:]]


def number(cell):
    return float(cell.replace(",", "").rstrip("%"))


def unit_of(cell):
    """A unit of the last digit that a cell shows."""
    return 10.0 ** -len(cell.rstrip("%").partition(".")[2])


def assert_shown(cell, value):
    """Whether a cell is the value, rounded."""
    assert abs(number(cell) - value) <= 0.5001 * unit_of(cell), (cell, value)


@pytest.mark.slow
def test_the_pages_code_runs_in_its_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "\n".join(re.findall(r"```python\n(.+?)```", PAGE, flags=re.S))
    # Two times of storing, and few steps between: what it does, not how well.
    assert "epochs=64" in code
    names = {}
    exec(code.replace("epochs=64", "epochs=2, steps_per_epoch=2"), names)
    assert names["images"].shape == (16, 16, 16, 1)
    assert np.isfinite(names["images"]).all()
    assert len(list(Path("runs/digits/snapshots").iterdir())) == 4
    assert names["shares"].sum() == pytest.approx(1)


def test_the_table_of_decays_is_what_its_formulas_give():
    for decay, updates, images, deviation in table("decay")[1:]:
        half_life = np.log(0.5) / np.log(float(decay))
        assert_shown(updates, half_life)
        assert_shown(images, 128 * half_life)
        # Of a long exponential average, by summing it up.
        ages = np.arange(10_000_000 // 10)
        shares = float(decay) ** ages * (1 - float(decay))
        scatter = np.sqrt(shares @ ages**2 - (shares @ ages) ** 2)
        assert_shown(deviation, scatter / 100_000)


def test_the_table_of_deviations_is_what_the_profiles_give():
    num_updates = 100_000
    for deviation, gamma, share in table("sigma_rel | gamma")[1:]:
        assert_shown(gamma, power_function_exponent(float(deviation)))
        shares = power_function_profile(float(deviation), num_updates)
        recent = np.searchsorted(np.cumsum(shares[::-1]), 0.5)
        assert_shown(share, 100 * recent / num_updates)


def test_the_table_of_errors_is_what_the_coefficients_give():
    header, *rows = table("sigma_rel | 0.02")
    for name, *cells in rows:
        if not name.startswith("profile"):
            continue
        num_times = int(name.split()[1])
        steps = np.repeat(np.arange(1, num_times + 1) * 50, 2)
        for deviation, cell in zip(header[1:], cells, strict=True):
            _, error = reconstruction_coefficients(
                steps,
                [0.05, 0.1] * num_times,
                num_times * 50,
                float(deviation),
            )
            assert_shown(cell, error)
