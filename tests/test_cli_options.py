"""The commands: what the flags of sampling and of the process do."""

import numpy as np
import pytest
from command_fixtures import (
    CHEAP,
    CHEAP_PRESET,
    assert_one_line,
    files_under,
)
from conftest import one_block_network, randomize
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
    MinSNRWeighting,
    NoisePrediction,
    ShiftedSchedule,
    UNet,
    VelocityPrediction,
    ZeroTerminalSNRSchedule,
)
from keras_unet_diffusion.cli import sample, train
from keras_unet_diffusion.training import load_model, save_model

pytestmark = pytest.mark.usefixtures("cheap_runs")


def _pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture).astype("int")


def test_sample_keeps_what_is_white_in_a_mask_and_makes_the_rest_anew(
    cheap_model, command, loaded_once, untraced_loops, tmp_path
):
    checkpoint, photos = tmp_path / "random.keras", tmp_path / "photos"
    save_model(cheap_model, checkpoint)
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


def test_sample_takes_back_the_images_that_it_wrote_in_their_order(
    cheap_model, command, monkeypatch, untraced_loops, tmp_path
):
    monkeypatch.setattr(
        sample, "load_diffusion_model", lambda path: cheap_model
    )
    Image.new("L", (8, 8), 255).save(tmp_path / "keep_all.png")
    shared = ["--checkpoint=run", "--num_steps=2", "--labels=1"]
    written, again = tmp_path / "written", tmp_path / "again"
    arguments = ["--num_images=4", "--num_frames=2", f"--out={written}"]
    assert command(sample, *shared, *arguments).status == 0
    arguments = [f"--images={written}", f"--mask={tmp_path / 'keep_all.png'}"]
    arguments += ["--num_resamples=1", f"--out={again}"]
    result = command(sample, *shared, *arguments)
    assert result.status == 0, result.err
    names = {f"image_0000{k}.png" for k in range(4)}
    assert set(files_under(again)) == {"grid.png", *names}
    assert set(files_under(written)) == {"grid.png", "denoising.png", *names}
    for name in names:
        # Behind a white mask nothing is made anew; bytes are rounded on
        # their way and back.
        difference = _pixels(again / name) - _pixels(written / name)
        assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(
    "names, expected",
    [
        (["image_99999.png", "image_100000.png", "grid.png"], [0, 1]),
        (["image_00000.png", "image_00001.png", "denoising.png"], [0, 1]),
        (["cat.png", "dog.png", "grid.png"], [0, 1, 2]),
        (["image_00000.png", "photo.png"], [0, 1]),
    ],
)
def test_pictures_of_all_are_left_out_only_beside_the_images_themselves(
    names, expected, tmp_path
):
    for name in names:
        Image.new("L", (8, 8)).save(tmp_path / name)
    paths = sample._image_paths(tmp_path)
    assert [path.name for path in paths] == [names[k] for k in expected]


def test_a_noise_level_begins_at_the_step_with_no_more_noise(
    cheap_model, command, monkeypatch, tmp_path
):
    monkeypatch.setattr(
        sample, "load_diffusion_model", lambda path: cheap_model
    )
    Image.effect_noise((8, 8), 50).save(tmp_path / "noise.png")
    shared = ["--checkpoint=run", "--num_steps=4", "--labels=1"]
    shared.append(f"--images={tmp_path / 'noise.png'}")
    # Four steps of DDIM begin at t = 1, 0.75, 0.5 and 0.25; the last two of
    # them are half of all.
    schedule = cheap_model.process.schedule
    level = float(schedule.sigma(0.5) / schedule.alpha(0.5))
    outs = []
    for flag in ("--strength=0.5", f"--noise_level={1.01 * level}"):
        outs.append(tmp_path / flag.partition("=")[0][2:])
        result = command(sample, *shared, flag, f"--out={outs[-1]}")
        assert result.status == 0, result.err
    assert files_under(outs[0]) == files_under(outs[1])


GUIDED = DiffusionProcess(CosineSchedule(), VelocityPrediction())


@pytest.mark.parametrize(
    "process, parts",
    [
        (
            DiffusionProcess(CosineSchedule(), NoisePrediction()),
            ["prediction", "NoisePrediction()", "VelocityPrediction()"],
        ),
        (
            DiffusionProcess(CosineSchedule(offset=0.1), VelocityPrediction()),
            ["schedule", "offset=0.1", "offset=0.008"],
        ),
        (
            DiffusionProcess(
                CosineSchedule(), VelocityPrediction(), MinSNRWeighting()
            ),
            None,
        ),
    ],
    ids=["prediction", "schedule", "weighting"],
)
def test_a_guide_must_have_the_schedule_and_prediction_of_the_model(
    process, parts, command, monkeypatch, tmp_path
):
    network = one_block_network()
    models = {
        "run": DiffusionModel(network, GUIDED),
        "worse": DiffusionModel(network, process),
    }
    monkeypatch.setattr(sample, "load_diffusion_model", models.get)
    arguments = ["--checkpoint=run", "--guide=worse", "--guidance_scale=2"]
    arguments += [f"--out={tmp_path / 'out'}", "--num_images=1"]
    result = command(sample, *arguments, "--num_steps=1")
    if parts is None:
        assert result.status == 0, result.err
    else:
        assert_one_line(result, "--guide=worse", "--checkpoint=run", *parts)
        assert not (tmp_path / "out").exists()


def test_sample_enlarges_images_with_an_upsampler(
    command, untraced_loops, tmp_path
):
    network = randomize(UNet(**CHEAP_PRESET, super_resolution_factor=2))
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
        pytest.param(
            ["--schedule=edm", "--prediction=edm", "--weighting=edm"]
            + ["--times=log_normal", "--sampler=heun"],
            DiffusionProcess(
                EDMSchedule(), EDMPrediction(), EDMWeighting(), LogNormalTimes()
            ),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["--schedule=flow", "--prediction=flow", "--times=logit_normal"]
            + ["--schedule_base_size=4", "--sampler=flow_euler"],
            DiffusionProcess(
                FlowSchedule(shift=2.0),
                FlowPrediction(),
                times=LogitNormalTimes(),
            ),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["--schedule=continuous_cosine", "--schedule_base_size=16"],
            DiffusionProcess(
                ShiftedSchedule(ContinuousCosineSchedule(), 8, 16),
                VelocityPrediction(),
            ),
            marks=pytest.mark.slow,
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
    result = command(train, f"--workdir={workdir}", *CHEAP, *steps, *flags)
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
    arguments = [f"--workdir={tmp_path / 'run'}", *CHEAP, "--augment=1.5"]
    assert_one_line(command(train, *arguments), "probability=1.5")
