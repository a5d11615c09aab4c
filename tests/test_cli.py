"""The commands: one clear line for each error, and help."""

import os
import re
import runpy
import sys

import pytest
from absl import flags
from command_fixtures import (
    COMMANDS,
    FEW_IMAGES,
    ROOT,
    SMALL,
    assert_one_line,
    files_under,
)
from PIL import Image

from keras_unet_diffusion.cli import convert, sample, train
from keras_unet_diffusion.training import load_model


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_every_flag_and_its_default(name, command):
    result = command(COMMANDS[name], "--help")
    assert (result.status, result.err) == (0, "")
    values = flags.FlagValues()
    COMMANDS[name].define_flags(values)
    shown = dict(re.findall(r"^  --(\w+)(?: \[(.+)\])?$", result.out, re.M))
    ours = {name for name in values if name not in ("flagfile", "undefok")}
    assert set(shown) == ours | {"help", "flagfile"}
    for name in ours:
        default = values[name].default
        assert shown[name] == ("" if default is None else str(default))


@pytest.mark.parametrize("name", ["train", "export"])
def test_python_m_shows_the_same_help_as_the_command(
    name, command, monkeypatch, capsys
):
    expected = command(COMMANDS[name], "--help").out
    # As `python -m` does, with the current folder first.
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    assert end.value.code == 0
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize("module", [*COMMANDS.values(), convert])
def test_the_module_of_a_command_run_by_itself_is_the_command(
    module, command, monkeypatch, capsys
):
    expected = command(module, "--help").out
    monkeypatch.setattr(sys, "argv", ["kud", "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(module.__file__, run_name="__main__")
    assert end.value.code == 0
    assert capsys.readouterr().out == expected


# Flags after the short ones, and what the one line must hold.
TRAIN_ERRORS = {
    "unknown flag": ("--train_step=4", "'train_step'", "--help"),
    "no flag": ("train", "Received: train"),
    "value missing": ("--train_steps", "--train_steps"),
    "not a number": ("--train_steps=many", "--train_steps=many"),
    "not a choice": ("--image_channels=2", "--image_channels=2", "<1|3>"),
    "missing flagfile": ("--flagfile={missing}", "{missing}"),
    "unknown preset": ("--preset=huge", "--preset=huge", "tiny"),
    "unknown source": ("--source=dogs", "'dogs'", "folder:PATH"),
    "missing folder": ("--source=folder:{missing}", "folder:{missing}"),
    "missing npz": ("--source=npz:{missing}", "npz:{missing}"),
    "not a tfds": ("--source=tfds:no_such_set", "tfds:no_such_set"),
    "not on disk": (
        "--source=tfds:mnist --data_dir={missing}",
        "{missing}",
        "--data_dir",
        "tfds.load(",
    ),
    "unknown split": ("--split=dev", "'dev'", "train, test"),
    "unknown validation split": ("--validation_split=dev", "'dev'"),
    "workdir is a file": ("--workdir={file}", "{file}", "file"),
    "workdir below a file": ("--workdir={file}/run", "{file} is a file"),
    "workdir of another": ("--workdir={full}", "--workdir={full}", "not empty"),
    "not a multiple": (
        "--train_steps=150 --steps_per_epoch=100",
        "--train_steps=150",
        "--steps_per_epoch=100",
    ),
    "not a multiple at once": (
        "--steps_per_epoch=100 --steps_per_execution=30",
        "--steps_per_epoch=100",
        "--steps_per_execution=30",
    ),
    "no steps": ("--train_steps=0", "--train_steps=0"),
    "no batch": ("--batch_size=0", "--batch_size=0"),
    "too few classes": ("--num_classes=3", "--num_classes=3", "10 classes"),
    "negative classes": ("--num_classes=-1", "--num_classes=-1"),
    "image size": ("--image_size=9", "image_size=9", "8 or 12"),
    "attention": ("--attention_resolutions=5", "(5,)", "[8, 4, 2]"),
    "attention in words": ("--attention_resolutions=a", "resolutions=a"),
    "groups": ("--base_channels=12", "12", "8"),
    "dropout": ("--dropout=1.5", "1.5"),
    "average": ("--ema_decay=1", "decay=1"),
    "clip": ("--clip_norm=-1", "clip_norm=-1"),
    "seed": ("--seed=-1", "--seed=-1"),
    "rate": ("--learning_rate=-1", "--learning_rate=-1"),
    "rate is no number": ("--learning_rate=nan", "--learning_rate=nan"),
    "no sampling steps": ("--num_sampling_steps=0", "steps=0", "1 to 1000"),
    "sampling steps": ("--num_sampling_steps=1001", "steps=1001", "1 to 1000"),
    "no sampling steps of any": (
        "--schedule=flow --num_sampling_steps=0",
        "any number of steps",
        "from 1 on",
    ),
    "noise of noise": (
        "--schedule=flow --prediction=noise",
        "--prediction=noise",
        "--schedule=flow",
    ),
    "noise at the end": (
        "--zero_terminal_snr --prediction=noise",
        "--zero_terminal_snr=True",
    ),
    "flow sampler": ("--sampler=flow_euler", "--schedule=cosine"),
    "shift of steps": ("--schedule_base_size=64", "--schedule=cosine"),
    "shift of edm": (
        "--schedule=edm --prediction=edm --schedule_base_size=64",
        "ContinuousCosineSchedule()",
    ),
    "last step of no steps": (
        "--schedule=vp --zero_terminal_snr",
        "with num_timesteps",
    ),
    "variance of no steps": (
        "--schedule=vp --learned_variance",
        "with num_timesteps",
    ),
    "dropped labels": ("--num_classes=0 --label_dropout=0.1", "dropout=0.1"),
    "too many dropped": ("--label_dropout=1.5", "label_dropout=1.5"),
}


@pytest.mark.parametrize("case", TRAIN_ERRORS)
def test_train_says_in_one_line_what_is_wrong(
    case, command, broken_places, tmp_path
):
    before = files_under(tmp_path)
    arguments, *parts = (
        part.format(**vars(broken_places)) for part in TRAIN_ERRORS[case]
    )
    workdir = tmp_path / "run"
    result = command(train, f"--workdir={workdir}", *SMALL, *arguments.split())
    assert_one_line(result, *parts)
    # So the corrected command finds the work directory free.
    assert files_under(tmp_path) == before
    assert not workdir.exists()


def test_train_reports_every_bad_image_and_writes_nothing(
    command, broken_places, tmp_path
):
    workdir = tmp_path / "run"
    result = command(
        train, f"--workdir={workdir}", *SMALL, f"--source=folder:{tmp_path}/bad"
    )
    assert result.status == 1
    assert result.err.startswith("Error: 3 of 3 images")
    assert "Traceback" not in result.err
    for k in range(3):
        assert result.err.count(f"bad_{k}.png") == 1
    assert not workdir.exists()


# The folder for results must not exist afterwards, but where it did before.
OUT_ERRORS = {
    "nothing given": ("", "--checkpoint", "--out"),
    "no out": ("--checkpoint={run}", "no --out"),
    "unknown flag": ("--checkpoints={run}", "'checkpoints'", "--help"),
    "missing checkpoint": (
        "--checkpoint={missing} --out={out}",
        "checkpoint={missing}",
    ),
    "folder without a model": (
        "--checkpoint={full} --out={out}",
        "checkpoint={full}",
        "model.keras",
    ),
    "no model file": ("--checkpoint={file} --out={out}", "{file}"),
    "cut file": ("--checkpoint={cut} --out={out}", "{cut}", "damaged"),
    "changed file": ("--checkpoint={changed} --out={out}", "{changed}"),
    "another zip": ("--checkpoint={other_zip} --out={out}", "{other_zip}"),
    "another model": (
        "--checkpoint={other_model} --out={out}",
        "{other_model}",
        "Sequential",
    ),
    "full folder": ("--checkpoint={run} --out={full}", "not empty", "{full}"),
    "out is a file": ("--checkpoint={run} --out={file}", "{file}"),
    "out below a file": ("--checkpoint={run} --out={file}/o", "{file} is a"),
    "sampler": ("--checkpoint={run} --out={out} --sampler=best", "<ddpm|"),
}
SAMPLE_ERRORS = {
    "labels in words": ("--labels=cat", "--labels=cat"),
    "label too large": ("--labels=10", "0 to 9", "10"),
    "negative label": ("--labels=-1", "0 to 9", "-1"),
    "too few labels": ("--labels=1,2", "(2,)"),
    "no labels": ("--labels=", "(0,)"),
    "no images": ("--num_images=0", "--num_images=0"),
    "no images of some": (
        "--labels=1 --images={image} --num_images=-2",
        "--num_images=-2",
    ),
    "no steps": ("--num_steps=0", "num_steps=0"),
    "too many steps": ("--num_steps=1001", "num_steps=1001", "1000"),
    "no batch": ("--batch_size=0", "batch_size=0"),
    "negative seed": ("--seed=-1", "seed=-1"),
    "eta": ("--eta=2", "eta=2"),
    "guidance": ("--guidance_scale=2", "null label", "guidance_scale=2"),
    "interval": (
        "--guidance_scale=2 --guidance_interval=low,5",
        "--guidance_interval=low,5",
    ),
    "interval without scale": (
        "--guidance_interval=0.2,5",
        "--guidance_interval=0.2,5",
        "--guidance_scale=2",
    ),
    "rescale without scale": (
        "--guidance_scale=1 --guidance_rescale=0.7",
        "--guidance_rescale=0.7",
        "--guidance_scale=2",
    ),
    "frames": ("--num_frames=1", "num_frames=1"),
    "guide without scale": ("--guide=run", "--guide=run", "guidance_scale=2"),
    "strength alone": ("--strength=0.5", "--strength=0.5", "--images"),
    "noise level alone": ("--noise_level=1", "--noise_level=1", "--images"),
    "mask alone": ("--mask=a.png", "--mask=a.png", "--images"),
    "resamples alone": ("--num_resamples=2", "--num_resamples=2", "--mask"),
    "missing images": ("--labels=1 --images=/none.png", "directory: /none.png"),
    "enlarges nothing": (
        "--low_resolution_images={image}",
        "takes no low-resolution images",
    ),
    "no labels of images": (
        "--images={image}",
        "--images={image} without --labels",
        "--labels=3",
    ),
    "strength": ("--labels=1 --images={image} --strength=2", "strength=2"),
    "strength and mask": (
        "--labels=1 --images={image} --mask={image} --strength=1",
        "--strength=1",
    ),
    "noise level and mask": (
        "--labels=1 --images={image} --mask={image} --noise_level=1",
        "--noise_level=1",
        "--mask={image}",
    ),
    "noise level and strength": (
        "--labels=1 --images={image} --noise_level=1 --strength=0",
        "--noise_level=1",
        "--strength=0",
    ),
    "noise level": (
        "--labels=1 --images={image} --noise_level=-1",
        "noise_level=-1",
    ),
    "resamples": (
        "--labels=1 --images={image} --mask={image} --num_resamples=0",
        "num_resamples=0",
    ),
    "another size": ("--image_size=16", "image_size=16", "8 pixels"),
}


@pytest.mark.parametrize("case", OUT_ERRORS)
@pytest.mark.parametrize("name", ["sample", "export"])
def test_sample_and_export_say_in_one_line_what_is_wrong(
    name, case, command, broken_places, tmp_path
):
    broken_places.out = tmp_path / "out"
    before = files_under(tmp_path)
    arguments, *parts = (
        part.format(**vars(broken_places)) for part in OUT_ERRORS[case]
    )
    assert_one_line(command(COMMANDS[name], *arguments.split()), *parts)
    assert files_under(tmp_path) == before
    assert not broken_places.out.exists()


@pytest.fixture(scope="module")
def loaded(finished):
    """The model of the short run."""
    return load_model(finished)


@pytest.mark.parametrize("case", SAMPLE_ERRORS)
def test_sample_says_in_one_line_which_number_is_wrong(
    case, command, loaded, monkeypatch, tmp_path
):
    # Loading takes a second and is not what is tested here.
    monkeypatch.setattr(sample, "load_diffusion_model", lambda path: loaded)
    image, out = tmp_path / "image.png", tmp_path / "out"
    Image.new("L", (8, 8)).save(image)
    flags, *parts = (x.format(image=image) for x in SAMPLE_ERRORS[case])
    arguments = ["--checkpoint=run", f"--out={out}", *FEW_IMAGES]
    arguments += flags.split()
    assert_one_line(command(sample, *arguments), *parts)
    assert os.listdir(tmp_path) == ["image.png"]


@pytest.mark.parametrize("images", ["bad", "bad/bad_0.png"])
def test_sample_offers_for_a_damaged_image_no_flag_that_it_lacks(
    images, command, loaded, broken_places, monkeypatch, tmp_path
):
    monkeypatch.setattr(sample, "load_diffusion_model", lambda path: loaded)
    arguments = ["--checkpoint=run", f"--out={tmp_path / 'out'}", "--labels=1"]
    result = command(sample, *arguments, f"--images={tmp_path / images}")
    assert_one_line(result, "bad_0.png", "Repair or remove it.")
    assert "on_bad_image" not in result.err
