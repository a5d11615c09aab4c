"""The table of all components of the theory, and what all of them keep."""

import inspect

import keras
import pytest

from keras_unet_diffusion import diffusion, samplers
from keras_unet_diffusion.diffusion import (
    ContinuousCosineSchedule,
    CosineSchedule,
    DiffusionProcess,
    EDMPrediction,
    EDMSchedule,
    EDMWeighting,
    FlowPrediction,
    FlowSchedule,
    ImagePrediction,
    LinearSchedule,
    LogitNormalTimes,
    LogNormalTimes,
    LogUniformTimes,
    MinSNRWeighting,
    NoisePrediction,
    P2Weighting,
    ScaledLinearSchedule,
    ScorePrediction,
    ShiftedSchedule,
    SigmoidBetaSchedule,
    SigmoidSchedule,
    SigmoidWeighting,
    SoftMinSNRWeighting,
    StratifiedTimes,
    UniformTimes,
    UniformWeighting,
    VelocityPrediction,
    VESchedule,
    VPSchedule,
    ZeroTerminalSNRSchedule,
)
from keras_unet_diffusion.diffusion.component import Component


def concrete_components(package):
    """The public components of a package that can be made, in order."""
    return [
        value
        for name in sorted(package.__all__)
        if inspect.isclass(value := getattr(package, name))
        and issubclass(value, Component)
        and not inspect.isabstract(value)
    ]


# Every public piece of the theory with its arguments, and every sampler.
COMPONENTS = [
    LinearSchedule(10, beta_start=1e-3, beta_end=0.02, scale_betas=False),
    ScaledLinearSchedule(10, beta_start=1e-3, beta_end=0.5),
    SigmoidBetaSchedule(10, beta_end=0.5, time_scale=100.0),
    CosineSchedule(num_timesteps=10, offset=0.01, max_beta=0.9),
    ZeroTerminalSNRSchedule(CosineSchedule(20, time_scale=1000.0)),
    VPSchedule(beta_min=0.2, beta_max=10.0),
    ContinuousCosineSchedule(10.0, -12.0, time_scale=1.0),
    SigmoidSchedule(0.0, 3.0, 0.7, min_alpha_squared=1e-6),
    ShiftedSchedule(VPSchedule(), image_size=128, base_size=32),
    EDMSchedule(sigma_min=0.01, sigma_max=50.0),
    VESchedule(sigma_min=0.01, sigma_max=50.0),
    FlowSchedule(shift=3.0, time_scale=1.0),
    NoisePrediction(),
    ImagePrediction(),
    VelocityPrediction(),
    FlowPrediction(),
    EDMPrediction(sigma_data=0.6),
    ScorePrediction(),
    UniformWeighting(),
    MinSNRWeighting(gamma=3.0),
    SoftMinSNRWeighting(gamma=3.0),
    P2Weighting(gamma=0.5, k=2.0),
    EDMWeighting(sigma_data=0.6),
    SigmoidWeighting(bias=-2.0),
    UniformTimes(),
    StratifiedTimes(LogNormalTimes(-0.4, 1.0)),
    LogNormalTimes(mean=-0.4, deviation=1.0),
    LogitNormalTimes(mean=0.5, deviation=0.8),
    LogUniformTimes(),
    DiffusionProcess(
        CosineSchedule(20),
        VelocityPrediction(),
        MinSNRWeighting(2.0),
        StratifiedTimes(),
        variance_weight=0.001,
    ),
    samplers.DDIM(eta=0.5),
    *(kind() for kind in concrete_components(samplers)),
]


def test_the_table_names_every_public_component():
    public = concrete_components(diffusion) + concrete_components(samplers)
    assert set(public) == {type(component) for component in COMPONENTS}


@pytest.mark.parametrize(
    "component", COMPONENTS, ids=lambda x: type(x).__name__
)
def test_components_round_trip_through_their_config(component):
    config = keras.saving.serialize_keras_object(component)
    again = keras.saving.deserialize_keras_object(config)
    assert again == component and hash(again) == hash(component)


@pytest.mark.parametrize(
    "component", COMPONENTS, ids=lambda x: type(x).__name__
)
def test_components_are_keys_and_cannot_be_changed(component):
    hash(component)
    with pytest.raises(AttributeError):
        component.num_timesteps = 7


# The papers' numbers; where a paper has several, one of them.
DEFAULTS = {
    # Ho et al. 2020; Nichol and Dhariwal 2021; Rombach et al. 2022.
    LinearSchedule: {
        "num_timesteps": 1000,
        "beta_start": 1e-4,
        "beta_end": 0.02,
    },
    CosineSchedule: {"num_timesteps": 1000, "offset": 0.008, "max_beta": 0.999},
    ScaledLinearSchedule: {"beta_start": 0.00085, "beta_end": 0.012},
    # Song et al. 2021; Jabri et al. 2022; Karras et al. 2022.
    VPSchedule: {"beta_min": 0.1, "beta_max": 20},
    SigmoidSchedule: {"start": -3, "end": 3, "temperature": 1},
    EDMSchedule: {"sigma_min": 0.002, "sigma_max": 80},
    VESchedule: {"sigma_min": 0.02, "sigma_max": 100},
    EDMPrediction: {"sigma_data": 0.5},
    UniformWeighting: {},
    MinSNRWeighting: {"gamma": 5},  # Hang et al. 2023
    SoftMinSNRWeighting: {"gamma": 4},  # Crowson et al. 2024: 1 / 0.5**2
    P2Weighting: {"gamma": 1, "k": 1},  # Choi et al. 2022
    EDMWeighting: {"sigma_data": 0.5},  # Karras et al. 2022, table 1
    SigmoidWeighting: {"bias": 0},  # sigmoid(-log_snr), no shift of it
    UniformTimes: {},
    StratifiedTimes: {"distribution": UniformTimes()},
    LogNormalTimes: {"mean": -1.2, "deviation": 1.2},  # Karras et al. 2022
    LogitNormalTimes: {"mean": 0, "deviation": 1},  # Esser et al. 2024
    LogUniformTimes: {},
}


def test_defaults_are_the_papers_numbers():
    for kind, expected in DEFAULTS.items():
        config = kind().get_config()
        assert {name: config[name] for name in expected} == expected, kind


def test_every_weighting_and_distribution_of_times_has_its_defaults_listed():
    chosen = (diffusion.Weighting, diffusion.TrainingTimes)
    for kind in concrete_components(diffusion):
        if issubclass(kind, chosen):
            assert set(DEFAULTS[kind]) == set(kind().get_config())


NAN = float("nan")


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: LinearSchedule(1), "num_timesteps=1"),
        (lambda: LinearSchedule(1000.0), "num_timesteps=1000.0"),
        (lambda: LinearSchedule(beta_start=0.03), "beta_start=0.03"),
        (lambda: ScaledLinearSchedule(beta_end=1e-4), "beta_end=0.0001"),
        (lambda: SigmoidBetaSchedule(beta_start=NAN), "beta_start=nan"),
        (lambda: CosineSchedule(offset=NAN), "offset=nan"),
        (lambda: CosineSchedule(time_scale=NAN), "time_scale=nan"),
        (lambda: ContinuousCosineSchedule(time_scale=0), "time_scale=0"),
        (lambda: SigmoidSchedule(time_scale=-1), "time_scale=-1"),
        (lambda: SigmoidSchedule(temperature=NAN), "temperature=nan"),
        (lambda: FlowSchedule(time_scale=0), "time_scale=0"),
        (lambda: FlowSchedule(shift=NAN), "shift=nan"),
        (lambda: ShiftedSchedule(base_size=NAN), "base_size=nan"),
        (lambda: EDMPrediction(NAN), "sigma_data=nan"),
        (lambda: MinSNRWeighting(NAN), "gamma=nan.* 5 of min-SNR and 4 of"),
        (lambda: SoftMinSNRWeighting(NAN), "gamma=nan"),
        (lambda: P2Weighting(NAN), "gamma=nan"),
        (lambda: P2Weighting(k=NAN), "k=nan"),
        (lambda: EDMWeighting(NAN), "sigma_data=nan"),
        (lambda: LogNormalTimes(deviation=NAN), "deviation=nan"),
        (lambda: LogitNormalTimes(deviation=NAN), "deviation=nan"),
        (lambda: DiffusionProcess(variance_weight=NAN), "variance_weight=nan"),
        (lambda: LinearSchedule(beta_end=1.0), "beta_end=1.0"),
        (lambda: LinearSchedule(10, scale_betas=True), "beta_end=2.0"),
        (lambda: LinearSchedule(time_scale=0), "time_scale=0"),
        (lambda: ScaledLinearSchedule(beta_start=0), "beta_start=0"),
        (lambda: SigmoidBetaSchedule(beta_end=2), "beta_end=2"),
        (lambda: CosineSchedule(offset=0), "offset=0"),
        (lambda: ZeroTerminalSNRSchedule(VPSchedule()), "VPSchedule"),
        (lambda: VPSchedule(beta_min=30.0), "beta_min=30.0"),
        (lambda: ContinuousCosineSchedule(-20.0), "max_log_snr=-20.0"),
        (lambda: SigmoidSchedule(temperature=0), "temperature=0"),
        (lambda: SigmoidSchedule(min_alpha_squared=0), "squared=0"),
        (lambda: ShiftedSchedule(FlowSchedule()), "FlowSchedule"),
        (lambda: ShiftedSchedule(image_size=0), "image_size=0"),
        (lambda: EDMSchedule(sigma_min=0), "sigma_min=0"),
        (lambda: VESchedule(sigma_max=0.001), "sigma_max=0.001"),
        (lambda: FlowSchedule(shift=0), "shift=0"),
        (lambda: EDMPrediction(0), "sigma_data=0"),
        (lambda: MinSNRWeighting(0), "gamma=0"),
        (lambda: SoftMinSNRWeighting(0), "gamma=0"),
        (lambda: P2Weighting(k=0), "k=0"),
        (lambda: EDMWeighting(-1), "sigma_data=-1"),
        (lambda: LogNormalTimes(deviation=0), "deviation=0"),
        (lambda: LogitNormalTimes(deviation=0), "deviation=0"),
        (lambda: StratifiedTimes(2), "distribution=2"),
        (lambda: DiffusionProcess("linear"), "schedule='linear'"),
        (lambda: DiffusionProcess(prediction="v"), "prediction='v'"),
        (lambda: DiffusionProcess(times="uniform"), "times='uniform'"),
        (lambda: DiffusionProcess(variance_weight=0), "variance_weight=0"),
        (
            lambda: DiffusionProcess(FlowSchedule(), variance_weight=0.001),
            "num_timesteps",
        ),
        (lambda: samplers.DDIM(eta=2), "eta=2"),
    ],
)
def test_arguments_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
