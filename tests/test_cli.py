"""The commands: one clear line for each error, and whole runs."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from PIL import Image
from tensorboard.backend.event_processing import event_accumulator

from keras_unet_diffusion.cli import export, sample, train, train_flags
from keras_unet_diffusion.model import DiffusionModel
from keras_unet_diffusion.training import load_model, save_model

ROOT = Path(__file__).parents[1]
COMMANDS = {"train": train, "sample": sample, "export": export}
# The cheapest network that the command can build.
SMALL = [
    "--image_size=8",
    "--attention_resolutions=4",
    "--base_channels=8",
    "--num_sampling_steps=2",
]
FOUR_STEPS = [
    *SMALL,
    "--train_steps=4",
    "--steps_per_epoch=2",
    "--checkpoint_epochs=1",
    "--sample_epochs=2",
    "--validation_split=test",
]
FEW_IMAGES = ["--num_images=3", "--num_steps=2"]


@pytest.fixture
def command(capsys):
    """Runs a command in this process; gives its status, out and err."""

    def run(module, *arguments):
        capsys.readouterr()
        status = module.main(["kud", *map(str, arguments)])
        out, err = capsys.readouterr()
        return SimpleNamespace(status=status, out=out, err=err)

    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The work directory of a short run; copy it before changing it."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    assert train.main(["kud", f"--workdir={workdir}", *FOUR_STEPS]) == 0
    return workdir


@pytest.fixture
def finished_copy(finished, tmp_path):
    """A copy of the work directory of the short run."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def files_under(folder):
    """Content of every file under a folder by its path."""
    paths = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def assert_one_line(result, *parts):
    """Asserts a user's error: status 1 and one line with the given parts."""
    assert result.status == 1
    (line,) = result.err.splitlines()
    assert line.startswith("Error: ")
    assert line.endswith(".")
    for part in parts:
        assert part in line


@pytest.fixture
def broken_places(tmp_path, finished):
    """Paths that the tables of errors name as {file}, {cut} and so on."""
    places = SimpleNamespace(
        run=finished,
        missing=tmp_path / "missing",
        file=tmp_path / "file",
        full=tmp_path / "full",
        bad=tmp_path / "bad",
        cut=tmp_path / "cut.keras",
        changed=tmp_path / "changed.keras",
        other_zip=tmp_path / "other.keras",
        other_model=tmp_path / "sequential.keras",
    )
    places.file.write_text("not a folder")
    places.full.mkdir()
    (places.full / "notes.txt").write_text("not a run")
    places.bad.mkdir()
    for k in range(3):
        (places.bad / f"bad_{k}.png").write_bytes(b"no image")
    content = bytearray((finished / "model.keras").read_bytes())
    places.cut.write_bytes(content[: len(content) // 2])
    content[len(content) // 2] ^= 255
    places.changed.write_bytes(content)
    with zipfile.ZipFile(places.other_zip, "w") as archive:
        archive.writestr("readme.txt", "not a model")
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(
        places.other_model
    )
    return places


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
def test_python_m_shows_the_same_help_as_the_command(name, command):
    done = subprocess.run(
        [sys.executable, "-m", name, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert done.stdout == command(COMMANDS[name], "--help").out
    assert "Traceback" not in done.stderr


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
    "clip": ("--clip_norm=0", "clip_norm=0"),
    "seed": ("--seed=-1", "--seed=-1"),
    "rate": ("--learning_rate=-1", "--learning_rate=-1"),
    "rate is no number": ("--learning_rate=nan", "--learning_rate=nan"),
    "no sampling steps": ("--num_sampling_steps=0", "steps=0", "1 to 1000"),
    "sampling steps": ("--num_sampling_steps=1001", "steps=1001", "1 to 1000"),
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
    "eta": ("--checkpoint={run} --out={out} --eta=2", "eta=2"),
    "sampler": (
        "--checkpoint={run} --out={out} --sampler=euler",
        "<ddim|ddpm>",
    ),
}
SAMPLE_ERRORS = {
    "labels in words": ("--labels=cat", "--labels=cat"),
    "label too large": ("--labels=10", "0 to 9", "10"),
    "negative label": ("--labels=-1", "0 to 9", "-1"),
    "too few labels": ("--labels=1,2", "(2,)"),
    "no labels": ("--labels=", "(0,)"),
    "no images": ("--num_images=0", "num_images=0"),
    "no steps": ("--num_steps=0", "num_steps=0"),
    "too many steps": ("--num_steps=1001", "num_steps=1001", "1000"),
    "no batch": ("--batch_size=0", "batch_size=0"),
    "negative seed": ("--seed=-1", "seed=-1"),
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
    flag, *parts = SAMPLE_ERRORS[case]
    out = tmp_path / "out"
    arguments = ["--checkpoint=run", f"--out={out}", *FEW_IMAGES, flag]
    assert_one_line(command(sample, *arguments), *parts)
    assert os.listdir(tmp_path) == []


def _scalars(workdir, run, tag):
    folder = str(workdir / "logs" / run)
    events = event_accumulator.EventAccumulator(folder).Reload()
    # TensorFlow 2 writes scalars as tensors.
    return [float(tf.make_ndarray(e.tensor_proto)) for e in events.Tensors(tag)]


def test_train_writes_flags_logs_checkpoints_samples_and_a_model(finished):
    names = {name for name in files_under(finished) if "tfevents" not in name}
    assert names == {
        "train.flags",
        "model.keras",
        "samples.png",
        "samples/step_00000004.png",
        "checkpoints/step_00000002.keras",
        "checkpoints/step_00000004.keras",
    }
    with Image.open(finished / "samples.png") as picture:
        # Ten classes by eight rows of 8 pixels, gaps of 2, each pixel 8x8.
        assert picture.size == (8 * (10 * 10 + 2), 8 * (8 * 10 + 2))
    assert load_model(finished).optimizer.iterations == 4


def test_train_logs_the_loss_of_training_and_validation(finished):
    for run in ("train", "validation"):
        losses = _scalars(finished, run, "epoch_loss")
        assert len(losses) == 2
        # The network starts at zero, and a target of variance near 1.
        assert all(0.3 < loss < 2 for loss in losses)


def test_the_flag_file_replays_the_run_bit_for_bit(finished, command, tmp_path):
    again = tmp_path / "again"
    flag_file = finished / train_flags.FLAG_FILE
    result = command(train, f"--flagfile={flag_file}", f"--workdir={again}")
    assert result.status == 0
    weights, expected = (
        load_model(folder).get_weights() for folder in (again, finished)
    )
    for array, other in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(array, other)
    samples = [folder / "samples.png" for folder in (again, finished)]
    assert samples[0].read_bytes() == samples[1].read_bytes()


def test_the_same_command_again_has_nothing_left_to_do(finished, command):
    before = files_under(finished)
    result = command(train, f"--workdir={finished}", *FOUR_STEPS)
    assert (result.status, result.err) == (0, "")
    assert "already holds 4 steps; nothing is left to do" in result.out
    assert files_under(finished) == before


@pytest.mark.parametrize(
    ("flag", "difference"),
    [
        ("--learning_rate=1e-3", "--learning_rate 0.002 -> 0.001"),
        ("--preset=ddpm_256", "--preset tiny -> ddpm_256"),
        ("--flip", "--flip False -> True"),
    ],
)
def test_another_flag_is_refused_and_the_difference_named(
    finished, command, flag, difference
):
    before = files_under(finished)
    result = command(train, f"--workdir={finished}", *FOUR_STEPS, flag)
    assert_one_line(result, difference, f"--flagfile={finished}/train.flags")
    assert result.err.count("->") == 1
    assert files_under(finished) == before


def test_more_steps_go_on_from_the_checkpoint(finished_copy, command):
    # Without --steps_per_epoch it stays what it was.
    some = [flag for flag in FOUR_STEPS if "steps_per_epoch" not in flag]
    result = command(
        train, f"--workdir={finished_copy}", *some, "--train_steps=8"
    )
    assert result.status == 0, result.err
    assert "Going on after step 4." in result.out
    assert "Epoch 3/4" in result.out and "Epoch 2/4" not in result.out
    names = sorted(os.listdir(finished_copy / "checkpoints"))
    assert names == ["step_00000006.keras", "step_00000008.keras"]
    assert load_model(finished_copy).optimizer.iterations == 8


def test_more_steps_that_make_no_whole_epochs_are_refused(
    finished_copy, command
):
    before = files_under(finished_copy)
    arguments = [f"--workdir={finished_copy}", *FOUR_STEPS, "--train_steps=7"]
    assert_one_line(command(train, *arguments), "--train_steps=7")
    assert files_under(finished_copy) == before


def test_a_damaged_checkpoint_is_named_and_nothing_changed(
    finished_copy, command
):
    newest = finished_copy / "checkpoints" / "step_00000004.keras"
    newest.write_bytes(newest.read_bytes()[:1000])
    before = files_under(finished_copy)
    arguments = [f"--workdir={finished_copy}", *FOUR_STEPS, "--train_steps=8"]
    assert_one_line(command(train, *arguments), str(newest), "damaged")
    assert files_under(finished_copy) == before


def test_a_model_without_checkpoints_is_never_trained_over(
    finished_copy, command
):
    shutil.rmtree(finished_copy / "checkpoints")
    before = files_under(finished_copy)
    result = command(train, f"--workdir={finished_copy}", *FOUR_STEPS)
    assert_one_line(result, f"--workdir={finished_copy}", "no checkpoint")
    assert files_under(finished_copy) == before


def test_flags_of_a_run_that_cannot_be_read_are_named(finished_copy, command):
    flag_file = finished_copy / train_flags.FLAG_FILE
    flag_file.write_text("--flag_of_another_version=1\n")
    result = command(train, f"--workdir={finished_copy}", *FOUR_STEPS)
    assert_one_line(result, str(flag_file), "flag_of_another_version")


def test_a_start_that_failed_may_be_corrected(command, monkeypatch, tmp_path):
    def fit(model, *args, **kwargs):
        raise tf.errors.ResourceExhaustedError(
            None, None, "{{node unet/conv}} Out of memory.\nMore\nlines"
        )

    monkeypatch.setattr(DiffusionModel, "fit", fit)
    arguments = [f"--workdir={tmp_path / 'run'}", *SMALL, "--train_steps=2"]
    result = command(train, *arguments, "--batch_size=500")
    assert_one_line(result, "Error: Out of memory. ")
    assert os.listdir(tmp_path / "run") == ["train.flags"]

    monkeypatch.setattr(DiffusionModel, "fit", lambda model, *a, **k: None)
    result = command(train, *arguments, "--batch_size=5")
    assert (result.status, result.err) == (0, "")
    # Though by default --checkpoint_epochs is more than this run has.
    result = command(train, *arguments, "--batch_size=5")
    assert "already holds 2 steps; nothing is left to do" in result.out


def test_skipped_images_are_named_and_counted(
    command, broken_places, monkeypatch, tmp_path, caplog
):
    Image.new("RGB", (8, 8)).save(tmp_path / "bad" / "good.png")
    monkeypatch.setattr(DiffusionModel, "fit", lambda model, *a, **k: None)
    result = command(
        train,
        f"--workdir={tmp_path / 'run'}",
        *SMALL,
        f"--source=folder:{tmp_path / 'bad'}",
        "--on_bad_image=skip",
    )
    assert result.status == 0
    warning = caplog.messages[0]
    assert warning.startswith("3 of 4 images are left out:")
    for k in range(3):
        assert warning.count(f"bad_{k}.png") == 1


def test_the_seed_and_the_labels_decide_what_sample_writes(
    small_model, command, tmp_path
):
    # A few steps of training would leave labels next to no effect.
    checkpoint = tmp_path / "random.keras"
    save_model(small_model, checkpoint)
    outs = {
        "default": [],
        # Image k by default has class k, whatever the batch.
        "same": ["--seed=0", "--labels=0,1,2", "--batch_size=2"],
        "other_seed": ["--seed=1"],
        "one_label": ["--labels=2"],
    }
    for out, arguments in outs.items():
        out = tmp_path / out
        result = command(
            sample,
            f"--checkpoint={checkpoint}",
            f"--out={out}",
            *FEW_IMAGES,
            *arguments,
        )
        assert result.status == 0
        assert f"3 images and grid.png are in {out}" in result.out
    default, same, other_seed, one_label = (
        files_under(tmp_path / out) for out in outs
    )
    names = {"grid.png", *(f"image_0000{k}.png" for k in range(3))}
    assert set(default) == names
    assert default == same
    assert all(default[name] != other_seed[name] for name in names)
    assert default["image_00002.png"] == one_label["image_00002.png"]
    assert default["image_00000.png"] != one_label["image_00000.png"]
    with Image.open(tmp_path / "default" / "image_00000.png") as picture:
        assert (picture.size, picture.mode) == ((8, 8), "L")


def _run_on_a_small_disk(folder, size, arguments):
    """Runs `python -m train` where `folder` is a disk of `size`.

    The disk is gone when the command ends, so its files are listed before.
    """
    script = (
        f'mount -t tmpfs -o size={size} none "$0" || exit 99; "$@"; status=$?;'
        ' cd "$0" && find . -type f; exit $status'
    )
    command = [sys.executable, "-m", "train", *arguments]
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, folder, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )


@pytest.fixture
def may_mount(tmp_path):
    """Skips where a user may not mount a disk in a name space of its own."""
    try:
        done = subprocess.run(
            ["unshare", "-rm", "mount", "-t", "tmpfs", "none", tmp_path]
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if done.returncode:
        pytest.skip("mounting is not permitted")


def test_a_full_disk_ends_training_with_one_line_and_no_half_files(
    finished, may_mount, tmp_path
):
    # Room for one checkpoint, not for two.
    size = int(1.5 * (finished / "model.keras").stat().st_size)
    arguments = [f"--workdir={tmp_path / 'run'}", *SMALL, "--train_steps=2"]
    arguments += ["--steps_per_epoch=1", "--checkpoint_epochs=1"]
    done = _run_on_a_small_disk(tmp_path, size, arguments)
    assert done.returncode == 1, done.stderr
    errors = [x for x in done.stderr.splitlines() if x.startswith("Error")]
    assert errors == [
        "Error: No space left on device. Mend that, then run the command again."
    ]
    assert "Traceback" not in done.stderr
    assert done.stderr.endswith(errors[0] + "\n")
    names = [line for line in done.stdout.splitlines() if line[:2] == "./"]
    models = [name for name in names if name.endswith(".keras")]
    assert models == ["./run/checkpoints/step_00000001.keras"]
    assert not [name for name in names if ".writing-" in name]
