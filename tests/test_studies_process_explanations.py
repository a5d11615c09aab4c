"""Formulas of what networks predict and are told, worked out."""

import math
import re

import numpy as np
import pytest

from keras_unet_diffusion.diffusion import (
    ContinuousCosineSchedule,
    CosineSchedule,
    DiffusionProcess,
    EDMPrediction,
    EDMSchedule,
    FlowPrediction,
    FlowSchedule,
    ImagePrediction,
    NoisePrediction,
    ScorePrediction,
    ShiftedSchedule,
    SigmoidSchedule,
    VelocityPrediction,
    VESchedule,
    VPSchedule,
)
from keras_unet_diffusion.studies.process_explanations import (
    explain_prediction,
    explain_told,
)

# In symbols of Python; a space between two factors is a product.
SYMBOLS = {
    "x₀": "x_0",
    "α": "alpha",
    "σ": "sigma",
    "ε": "noise",
    "²": "**2",
    "−": "-",
    "√": "math.sqrt",
    "ln": "math.log",
}


def value_of(formula, **symbols):
    for symbol, name in SYMBOLS.items():
        formula = formula.replace(symbol, name)
    formula = re.sub(r"(?<=[\w.]) (?=\w)", " * ", formula)
    return eval(formula, {"math": math}, symbols)


@pytest.mark.parametrize(
    "prediction",
    [
        NoisePrediction(),
        ImagePrediction(),
        VelocityPrediction(),
        FlowPrediction(),
        ScorePrediction(),
        EDMPrediction(0.7),
    ],
)
def test_the_formula_of_a_prediction_is_what_the_network_learns(prediction):
    process = DiffusionProcess(FlowSchedule(), prediction)
    x_0, noise = np.full((1, 1, 1, 1), 0.3), np.full((1, 1, 1, 1), -1.2)
    formula = explain_prediction(prediction).formula
    expected = process.target(x_0, noise, np.array([0.25]))
    # The flow's shares at t = 0.25 are 0.75 and 0.25.
    value = value_of(formula, x_0=0.3, noise=-1.2, alpha=0.75, sigma=0.25)
    # float32.
    np.testing.assert_allclose(value, np.ravel(expected)[0], rtol=1e-6)


@pytest.mark.parametrize(
    "process",
    [
        DiffusionProcess(EDMSchedule(), EDMPrediction()),
        DiffusionProcess(VESchedule(), ScorePrediction()),
        DiffusionProcess(EDMSchedule()),
        DiffusionProcess(VESchedule()),
        DiffusionProcess(VPSchedule()),
        DiffusionProcess(FlowSchedule(shift=3.0)),
        DiffusionProcess(SigmoidSchedule(time_scale=7.0)),
        DiffusionProcess(
            ShiftedSchedule(ContinuousCosineSchedule(), image_size=128)
        ),
    ],
)
def test_the_formula_of_what_a_network_is_told_gives_that_number(process):
    point = process.schedule.point(np.array(0.25))
    t, alpha, sigma = map(float, point)
    value = value_of(explain_told(process), t=t, alpha=alpha, sigma=sigma)
    # float32, and logarithms near 0.
    np.testing.assert_allclose(
        value, float(process.noise_level_at(point)), rtol=1e-5, atol=1e-6
    )


def test_networks_of_steps_are_told_steps():
    assert explain_told(DiffusionProcess()) == "time step, 0 to 999"
    few = CosineSchedule(num_timesteps=10, time_scale=1000)
    assert explain_told(DiffusionProcess(few)) == "time step, 0 to 9, times 100"
    # The last of them.
    assert float(DiffusionProcess(few).noise_level(np.array(1.0))) == 9 * 100
