"""The commands: what the flags of sampling and of the process do."""

import numpy as np
import pytest
from command_fixtures import SMALL, assert_one_line, files_under
from conftest import SMALL as TINY
from conftest import randomize
from PIL import Image

from keras_unet_diffusion import (
    Augmentation,
    ContinuousCosineSchedule,
    CosineSchedule,
    DiffusionModel,
    DiffusionProcess,
    EDMPrediction,
    EDMSchedule,
    EDMWeighting,
    FlowPrediction,
    FlowSchedule,
    LogitNormalTimes,
    LogNormalTimes,
    ShiftedSchedule,
    UNet,
    VelocityPrediction,
    ZeroTerminalSNRSchedule,
)
from keras_unet_diffusion.cli import sample, train
from keras_unet_diffusion.training import load_model, save_model


def _pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture).astype("int")


def test_sample_keeps_what_is_white_in_a_mask_and_makes_the_rest_anew(
    small_model, command, tmp_path
):
    checkpoint, photos = tmp_path / "random.keras", tmp_path / "photos"
    save_model(small_model, checkpoint)
    random, originals = np.random.default_rng(0), []
    photos.mkdir()
    for k in range(2):
        originals.append(random.integers(0, 256, (8, 8), "uint8"))
        Image.fromarray(originals[k]).save(photos / f"{k}.png")
    mask = np.zeros((8, 8), "uint8")
    mask[:, :4] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    shared = [f"--checkpoint={checkpoint}", "--num_steps=4", "--labels=1"]
    inpainted = tmp_path / "inpainted"
    result = command(
        sample,
        *shared,
        f"--out={inpainted}",
        f"--images={photos}",
        f"--mask={tmp_path / 'mask.png'}",
        "--num_resamples=1",
        "--num_images=3",
        "--num_frames=3",
    )
    assert result.status == 0, result.err
    for k in range(3):
        pixels = _pixels(inpainted / f"image_0000{k}.png")
        # Two images in turn; bytes are rounded on their way and back.
        original = originals[k % 2].astype("int")
        assert np.abs(pixels - original)[:, :4].max() <= 1
        assert np.abs(pixels - original)[:, 4:].max() > 10
    with Image.open(inpainted / "denoising.png") as picture:
        # Three images by three frames of 8 pixels, gaps of 2, 8x8 each.
        assert picture.size == (8 * (3 * 10 + 2), 8 * (3 * 10 + 2))

    distances = []
    for strength in (0.25, 1.0):
        out = tmp_path / f"varied_{strength}"
        result = command(
            sample,
            *shared,
            f"--out={out}",
            f"--images={photos / '0.png'}",
            f"--strength={strength}",
        )
        assert result.status == 0, result.err
        # As many as are given.
        assert set(files_under(out)) == {"grid.png", "image_00000.png"}
        pixels = _pixels(out / "image_00000.png")
        distances.append(np.abs(pixels - originals[0].astype("int")).mean())
    assert distances[0] < distances[1]


def test_sample_enlarges_images_with_an_upsampler(command, tmp_path):
    network = randomize(UNet(**TINY, super_resolution_factor=2))
    save_model(DiffusionModel(network), tmp_path / "upsampler.keras")
    Image.new("L", (4, 4), 200).save(tmp_path / "small.png")
    shared = [f"--checkpoint={tmp_path / 'upsampler.keras'}", "--num_steps=2"]
    arguments = [*shared, f"--out={tmp_path / 'out'}"]
    assert_one_line(command(sample, *arguments), "needs low-resolution images")
    arguments.append(f"--low_resolution_images={tmp_path / 'small.png'}")
    result = command(sample, *arguments, "--num_images=2")
    assert result.status == 0, result.err
    assert _pixels(tmp_path / "out" / "image_00001.png").shape == (8, 8)


@pytest.mark.parametrize(
    "flags, expected",
    [
        (
            ["--schedule=edm", "--prediction=edm", "--weighting=edm"]
            + ["--times=log_normal", "--sampler=heun"],
            DiffusionProcess(
                EDMSchedule(), EDMPrediction(), EDMWeighting(), LogNormalTimes()
            ),
        ),
        (
            ["--schedule=flow", "--prediction=flow", "--times=logit_normal"]
            + ["--schedule_base_size=4", "--sampler=flow_euler"],
            DiffusionProcess(
                FlowSchedule(shift=2.0),
                FlowPrediction(),
                times=LogitNormalTimes(),
            ),
        ),
        (
            ["--schedule=continuous_cosine", "--schedule_base_size=16"],
            DiffusionProcess(
                ShiftedSchedule(ContinuousCosineSchedule(), 8, 16),
                VelocityPrediction(),
            ),
        ),
        (
            ["--zero_terminal_snr", "--learned_variance", "--sampler=ddpm"]
            + ["--label_dropout=0.1", "--offset_noise=0.1"]
            + ["--self_conditioning", "--augment=0.5", "--time_resampling"]
            + ["--learned_uncertainty"],
            DiffusionProcess(
                ZeroTerminalSNRSchedule(CosineSchedule()),
                VelocityPrediction(),
                variance_weight=0.001,
            ),
        ),
    ],
    ids=["edm", "flow", "shifted", "options"],
)
def test_the_flags_of_a_process_train_and_sample_it(
    flags, expected, command, tmp_path
):
    workdir = tmp_path / "run"
    steps = ["--train_steps=1", "--sample_epochs=2"]
    result = command(train, f"--workdir={workdir}", *SMALL, *steps, *flags)
    assert result.status == 0, result.err
    model = load_model(workdir)
    assert model.process == expected
    has_options = "--self_conditioning" in flags
    assert ("previous_estimate" in model.network.input) == has_options
    assert model.network.output_shape[-1] == 1 + has_options
    assert model.label_dropout == model.offset_noise == 0.1 * has_options
    assert model.augmentation == (Augmentation(0.5) if has_options else None)
    assert model.time_resampling == model.uncertainty == has_options


def test_a_share_of_augmented_images_outside_0_to_1_is_refused(
    command, tmp_path
):
    arguments = [f"--workdir={tmp_path / 'run'}", *SMALL, "--augment=1.5"]
    assert_one_line(command(train, *arguments), "probability=1.5")
