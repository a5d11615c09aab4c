"""The commands: whole runs, gone on with, sampled from, on a full disk."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from command_fixtures import (
    CHEAP,
    FEW_IMAGES,
    FOUR_STEPS,
    ROOT,
    assert_one_line,
    files_under,
)
from PIL import Image
from scalar_events import scalars_in

from keras_unet_diffusion.cli import sample, train, train_flag_file
from keras_unet_diffusion.model import DiffusionModel
from keras_unet_diffusion.training import load_model, save_model

# A whole run as TensorFlow compiles it is in test_cli_options.py.
pytestmark = pytest.mark.usefixtures("cheap_runs", "untraced")


def test_train_writes_flags_logs_checkpoints_samples_and_a_model(finished):
    names = {name for name in files_under(finished) if "tfevents" not in name}
    assert names == {
        "train.flags",
        "README.md",
        "run.json",
        "loss.png",
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
        found = scalars_in(finished / "logs" / run, "fit/loss")
        steps, losses = zip(*found, strict=True)
        assert steps == (2, 4)
        # The network starts at zero, and a target of variance near 1.
        assert all(0.3 < loss < 2 for loss in losses)


def test_the_flag_file_replays_the_run_bit_for_bit(finished, command, tmp_path):
    again = tmp_path / "again"
    flag_file = finished / train_flag_file.FLAG_FILE
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
        ("--preset=ddpm_256", "--preset cheap -> ddpm_256"),
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
        train, f"--workdir={finished_copy}", *some, "--train_steps=6"
    )
    assert result.status == 0, result.err
    assert "Going on after step 4." in result.out
    assert "Epoch 3/3" in result.out and "Epoch 2/3" not in result.out
    names = sorted(os.listdir(finished_copy / "checkpoints"))
    assert names == ["step_00000004.keras", "step_00000006.keras"]
    assert load_model(finished_copy).optimizer.iterations == 6


def test_more_steps_that_make_no_whole_epochs_are_refused(
    finished_copy, command
):
    before = files_under(finished_copy)
    arguments = [f"--workdir={finished_copy}", *FOUR_STEPS, "--train_steps=7"]
    assert_one_line(command(train, *arguments), "--train_steps=7")
    assert files_under(finished_copy) == before


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    finished_copy, command, caplog
):
    newest = finished_copy / "checkpoints" / "step_00000004.keras"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    # Stopped before its end; the last two of its four steps again.
    (finished_copy / "model.keras").unlink()
    result = command(train, f"--workdir={finished_copy}", *FOUR_STEPS)
    assert (result.status, result.err) == (0, "")
    assert "Going on after step 2." in result.out
    (warning,) = caplog.messages
    assert "damaged" in warning and str(newest) in warning
    assert "Going on from the one before it, step_00000002.keras" in warning
    assert load_model(newest).optimizer.iterations == 4


def test_checkpoints_that_are_all_damaged_are_named_and_nothing_changed(
    finished_copy, command
):
    paths = sorted((finished_copy / "checkpoints").iterdir())
    for path in paths:
        path.write_bytes(path.read_bytes()[:1000])
    before = files_under(finished_copy)
    arguments = [f"--workdir={finished_copy}", *FOUR_STEPS, "--train_steps=8"]
    result = command(train, *arguments)
    assert_one_line(result, *map(str, paths), "All checkpoints")
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
    flag_file = finished_copy / train_flag_file.FLAG_FILE
    flag_file.write_text("--flag_of_another_version=1\n")
    result = command(train, f"--workdir={finished_copy}", *FOUR_STEPS)
    assert_one_line(result, str(flag_file), "flag_of_another_version")


def test_a_start_that_failed_may_be_corrected(command, monkeypatch, tmp_path):
    def fit(model, *args, **kwargs):
        raise tf.errors.ResourceExhaustedError(
            None, None, "{{node unet/conv}} Out of memory.\nMore\nlines"
        )

    monkeypatch.setattr(DiffusionModel, "fit", fit)
    arguments = [f"--workdir={tmp_path / 'run'}", *CHEAP, "--train_steps=2"]
    result = command(train, *arguments, "--batch_size=500")
    assert_one_line(result, "Error: Out of memory. ")
    assert sorted(os.listdir(tmp_path / "run")) == ["run.json", "train.flags"]

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
        *CHEAP,
        f"--source=folder:{tmp_path / 'bad'}",
        "--on_bad_image=skip",
    )
    assert result.status == 0
    warning = caplog.messages[0]
    assert warning.startswith("3 of 4 images are left out:")
    for k in range(3):
        assert warning.count(f"bad_{k}.png") == 1


def test_the_seed_and_the_labels_decide_what_sample_writes(
    cheap_model, command, loaded_once, tmp_path
):
    # A few steps of training would leave labels next to no effect.
    checkpoint = tmp_path / "random.keras"
    save_model(cheap_model, checkpoint)
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
    """Runs the command, untraced, where `folder` is a disk of `size`.

    The disk is gone when the command ends, so its files are listed before.
    """
    script = (
        f'mount -t tmpfs -o size={size} none "$0" || exit 99; "$@"; status=$?;'
        ' cd "$0" && find . -type f; exit $status'
    )
    output = folder.with_name("output.txt")
    call = (
        f"import forked_train as x; x.run({arguments}, {str(output)!r}, True)"
    )
    command = [sys.executable, "-c", call]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, folder, *command],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "tests")},
    )
    names = [line for line in done.stdout.splitlines() if line[:2] == "./"]
    return done.returncode, output.read_text(), names


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
    # Room for one checkpoint and what else a run writes, not for two.
    model = (finished / "model.keras").stat().st_size
    disk = tmp_path / "disk"
    disk.mkdir()
    arguments = [f"--workdir={disk / 'run'}", "--num_sampling_steps=2"]
    arguments += ["--train_steps=2", "--steps_per_epoch=1"]
    status, text, names = _run_on_a_small_disk(
        disk, int(1.8 * model), [*arguments, "--checkpoint_epochs=1"]
    )
    assert status == 1, text
    errors = [x for x in text.splitlines() if x.startswith("Error")]
    assert errors == [
        "Error: No space left on device. Mend that, then run the command again."
    ]
    assert "Traceback" not in text
    assert text.endswith(errors[0] + "\n")
    models = [name for name in names if name.endswith(".keras")]
    assert models == ["./run/checkpoints/step_00000001.keras"]
    assert not [name for name in names if ".writing-" in name]


def test_splits_with_other_classes_are_refused(command, tmp_path):
    for name in ("train/ant", "train/bee", "test/bee"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / name / "1.png")
    result = command(
        train,
        *CHEAP,
        f"--workdir={tmp_path / 'run'}",
        f"--source=folder:{tmp_path / 'photos'}",
        "--validation_split=test",
    )
    assert_one_line(result, "test with bee; train has ant, bee")


def test_a_preset_of_any_size_asks_for_one(command, tmp_path):
    result = command(
        train, f"--workdir={tmp_path / 'run'}", "--preset=diffusers_unet2d"
    )
    assert_one_line(result, "--preset=diffusers_unet2d", "--image_size")
