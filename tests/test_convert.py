"""kud-convert: other projects' checkpoints to Keras and back."""

import json
import zipfile

import keras
import numpy as np
import pytest
from conftest import randomize
from weight_fixtures import checkpoint_of

from keras_unet_diffusion import (
    CosineSchedule,
    DiffusionModel,
    EDMPrediction,
    EDMSchedule,
    LinearSchedule,
    MagnitudePreservingUNet,
    NoisePrediction,
    ScorePrediction,
    UNet,
    VelocityPrediction,
    VESchedule,
    VPSchedule,
    weights,
)
from keras_unet_diffusion.cli.convert import main

# What both guided-diffusion and diffusers can express.
ARGUMENTS = {
    "image_size": 8,
    "base_channels": 32,
    "channel_multipliers": (1, 2),
    "num_residual_blocks": 1,
    "attention_resolutions": (4,),
    "num_head_channels": 32,
    "downsample_padding": (1, 1),
    "epsilon": 1e-5,
    "embedding_order": "cos_sin",
    "frequency_shift": 0,
}


@pytest.fixture(scope="module")
def network():
    """A network that no test changes."""
    return randomize(UNet(**ARGUMENTS))


@pytest.fixture(scope="module")
def openai_file(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("openai") / "openai.pt"
    weights.save_checkpoint(network, path, "guided_diffusion", "legacy")
    return path


def predictions(network):
    random = np.random.default_rng(0)
    return np.asarray(
        network(
            {
                "noisy_images": random.standard_normal((2, 8, 8, 3)),
                "noise_level": np.array([3.0, 700.0]),
            }
        )
    )


def process_of(path):
    """The process in a file of a model, without its networks."""
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))["config"]
    return keras.saving.deserialize_keras_object(config["process"])


def run(*flags):
    return main(["kud-convert", *(f"--{flag}" for flag in flags)])


def test_a_checkpoint_of_openai_becomes_a_model_that_generates(
    network, openai_file, tmp_path, capsys
):
    out = tmp_path / "model.keras"
    status = run(
        f"checkpoint={openai_file}",
        f"out={out}",
        "qkv_order=legacy",
        "num_head_channels=32",
        "image_size=8",
        "schedule=cosine",
        "prediction=noise",
    )
    assert status == 0
    assert "CosineSchedule" in capsys.readouterr().out
    model = keras.saving.load_model(out)
    assert isinstance(model, DiffusionModel)
    np.testing.assert_array_equal(
        predictions(model.ema_network), predictions(network)
    )
    assert model.generate(1, num_steps=1, seed=0).shape == (1, 8, 8, 3)


def test_openai_to_diffusers_keeps_every_number(network, openai_file, tmp_path):
    out = tmp_path / "for_diffusers"
    status = run(
        f"checkpoint={openai_file}",
        f"out={out}",
        "layout=diffusers",
        "qkv_order=legacy",
        "num_head_channels=32",
    )
    assert status == 0
    config = json.loads((out / "config.json").read_text())
    assert config["_class_name"] == "UNet2DModel"
    loaded = UNet.from_checkpoint(out)
    np.testing.assert_array_equal(predictions(loaded), predictions(network))


def test_a_trained_model_is_written_for_openai_with_its_arguments(
    network, tmp_path, capsys
):
    model = DiffusionModel(network)
    randomize(model.ema_network, seed=1)
    model.save(tmp_path / "model.keras")
    status = run(
        f"checkpoint={tmp_path / 'model.keras'}",
        f"out={tmp_path / 'openai.safetensors'}",
        "layout=guided_diffusion",
    )
    assert status == 0
    assert "use_new_attention_order=True" in capsys.readouterr().out
    loaded = UNet.from_checkpoint(
        tmp_path / "openai.safetensors", "new", num_head_channels=32
    )
    # The averaged weights are what a model is used by.
    np.testing.assert_array_equal(
        predictions(loaded), predictions(model.ema_network)
    )


def test_the_order_read_and_the_order_written_may_differ(
    network, openai_file, tmp_path
):
    out = tmp_path / "new.pt"
    status = run(
        f"checkpoint={openai_file}",
        f"out={out}",
        "layout=guided_diffusion",
        "qkv_order=legacy",
        "num_head_channels=32",
    )
    assert status == 0
    loaded = UNet.from_checkpoint(out, "new", num_head_channels=32)
    np.testing.assert_array_equal(predictions(loaded), predictions(network))


def test_a_scheduler_beside_the_weights_says_how_they_were_trained(
    network, tmp_path, capsys
):
    folder = tmp_path / "pipeline"
    weights.save_checkpoint(network, folder, "diffusers")
    flags = [f"checkpoint={folder}", f"out={tmp_path / 'model.keras'}"]
    assert run(*flags) == 1
    error = capsys.readouterr().err
    assert "without --schedule and --prediction" in error
    (folder / "scheduler_config.json").write_text(
        json.dumps(
            {
                "beta_schedule": "squaredcos_cap_v2",
                "prediction_type": "v_prediction",
            }
        )
    )
    assert run(*flags) == 0
    process = process_of(tmp_path / "model.keras")
    assert isinstance(process.schedule, CosineSchedule)
    assert isinstance(process.prediction, VelocityPrediction)


@pytest.mark.parametrize(
    "kind, arguments, layout, given",
    [
        (
            UNet,
            {"super_resolution_factor": 2, "channel_multipliers": (1,)}
            | {"attention_resolutions": ()},
            "guided_diffusion",
            ["qkv_order=new", "num_head_channels=32", "image_size=8"]
            + ["super_resolution_factor=2", "schedule=linear"]
            + ["prediction=noise"],
        ),
        (MagnitudePreservingUNet, {"num_head_channels": 64}, "edm2", []),
    ],
)
def test_upsamplers_and_networks_told_sigma_become_models(
    kind, arguments, layout, given, tmp_path
):
    if kind is UNet:
        arguments = ARGUMENTS | arguments
    else:
        arguments |= {"image_size": 8, "base_channels": 64}
        arguments |= {"channel_multipliers": (1, 2), "num_residual_blocks": 1}
        arguments |= {"attention_resolutions": (4,)}
    network = randomize(kind(**arguments))
    source, out = tmp_path / "source.npz", tmp_path / "network.keras"
    weights.save_checkpoint(network, source, layout)
    assert run(f"checkpoint={source}", f"out={out}", *given) == 0
    model = keras.saving.load_model(out)
    schedule = EDMSchedule if layout == "edm2" else LinearSchedule
    assert isinstance(model.process.schedule, schedule)
    loaded = model.ema_network
    for ours, theirs in zip(
        loaded.get_weights(), network.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    # And such a file is written back.
    again = tmp_path / "again.npz"
    assert run(f"checkpoint={out}", f"out={again}", f"layout={layout}") == 0
    with np.load(source) as first, np.load(again) as second:
        assert set(first) == set(second)
        assert all((first[x] == second[x]).all() for x in first)


def test_steps_of_improved_diffusion_are_told_as_if_they_were_a_thousand(
    network, openai_file, tmp_path
):
    out = tmp_path / "model.keras"
    flags = [f"checkpoint={openai_file}", f"out={out}", "qkv_order=legacy"]
    flags += ["num_head_channels=32", "prediction=noise", "num_timesteps=4000"]
    assert run(*flags, "schedule=cosine") == 0
    process = process_of(out)
    assert process.schedule.num_timesteps == 4000
    # OpenAI's rescale_timesteps: step k of 4000 is told as k / 4.
    t = np.array([1, 2, 4000]) / 4000
    np.testing.assert_allclose(process.noise_level(t), [0, 0.25, 999.75])
    assert run(*flags, "schedule=linear") == 0
    schedule = process_of(out).schedule
    # Its linear variances shrink as steps grow in number.
    np.testing.assert_allclose(schedule.betas()[[0, -1]], [2.5e-5, 5e-3])
    assert run(*flags, "schedule=edm") == 1


@pytest.mark.parametrize(
    "flags, schedule, prediction",
    [
        # Without flags a network of EDM2 is told apart above.
        pytest.param([], EDMSchedule, EDMPrediction, marks=pytest.mark.slow),
        pytest.param(
            ["schedule=vp"],
            VPSchedule,
            NoisePrediction,
            marks=pytest.mark.slow,
        ),
        (["schedule=ve"], VESchedule, ScorePrediction),
        (["schedule=linear"], None, None),
        (["num_timesteps=4000"], None, None),
    ],
)
def test_networks_told_sigma_are_of_edm_unless_flags_say_vp_or_ve(
    flags, schedule, prediction, tmp_path
):
    source, out = tmp_path / "edm.npz", tmp_path / "model.keras"
    np.savez(source, **checkpoint_of("edm_ddpmpp_narrow").tensors)
    status = run(f"checkpoint={source}", f"out={out}", *flags)
    if schedule is None:
        assert status == 1 and not out.exists()
        return
    assert status == 0
    process = process_of(out)
    assert isinstance(process.schedule, schedule)
    assert isinstance(process.prediction, prediction)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["out=model.keras"], "no --checkpoint"),
        (
            [
                "checkpoint={file}",
                "out={folder}/model.keras",
                "schedule=linear",
                "prediction=noise",
            ],
            "num_heads or num_head_channels; qkv_order",
        ),
        (
            ["checkpoint={file}", "out={folder}/x.pt"],
            "no --layout",
        ),
        (
            [
                "checkpoint={file}",
                "out={folder}/x.keras",
                "layout=diffusers",
            ],
            "Leave --layout out",
        ),
        (
            ["checkpoint={folder}/none.pt", "out={folder}/x.keras"],
            "none.pt",
        ),
        (
            [
                "checkpoint={file}",
                "out={folder}/x.keras",
                "preset=ddpm_cifar10",
            ],
            "ddpm|guided_diffusion layout cannot express",
        ),
        (
            [
                "checkpoint={file}",
                "out={folder}/x.bin",
                "layout=guided_diffusion",
                "qkv_order=legacy",
                "num_heads=1",
            ],
            "Name it .safetensors",
        ),
    ],
)
def test_what_cannot_be_converted_is_refused_and_nothing_is_written(
    flags, message, openai_file, tmp_path, capsys
):
    before = sorted(tmp_path.iterdir())
    flags = [x.format(file=openai_file, folder=tmp_path) for x in flags]
    assert run(*flags) == 1
    error = capsys.readouterr().err
    assert any(part in error for part in message.split("|"))
    assert "Traceback" not in error
    assert sorted(tmp_path.iterdir()) == before
