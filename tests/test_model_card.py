"""The model card, against what is known of the run from elsewhere."""

import json
import re
import statistics

import keras
import numpy as np
import pytest
from conftest import one_block_network
from PIL import Image

from keras_unet_diffusion import DiffusionModel, UNet
from keras_unet_diffusion.data import open_source, save_grid
from keras_unet_diffusion.training import load_model, save_model
from keras_unet_diffusion.training.callbacks import ImagesPerSecond
from keras_unet_diffusion.training.model_card import (
    WriteModelCard,
    describe_data,
    write_model_card,
)
from keras_unet_diffusion.training.run_record import RunRecord

BATCH_SIZE = 4
FLAGS = {"learning_rate": 0.001, "attention_resolutions": ["16", "8"]}


@pytest.fixture(scope="module")
def data():
    source = open_source("digits")
    return describe_data(source, "digits", "train", 8, 1)


def train(workdir, data, model, epochs, done=0):
    """Epochs of three steps; returns the record and the history."""
    images = np.linspace(-1, 1, 12 * 64).reshape(12, 8, 8, 1)
    record = RunRecord(workdir, steps_done=3 * done)
    facts = {"data": data, "batch_size": BATCH_SIZE, "flags": FLAGS}
    card = WriteModelCard(workdir, record, every_epochs=2, **facts)
    with record:
        history = model.fit(
            images.astype("float32"),
            batch_size=BATCH_SIZE,
            epochs=epochs,
            initial_epoch=done,
            validation_data=(images[:4].astype("float32"),),
            callbacks=[
                ImagesPerSecond(BATCH_SIZE),
                record,
                *record.timed("model card", card),
            ],
            verbose=0,
        ).history
    return record, history


@pytest.fixture(scope="module")
def run(tmp_path_factory, data):
    """A run that was stopped after two epochs and went on for two."""
    workdir = tmp_path_factory.mktemp("cards") / "digits"
    model = DiffusionModel(one_block_network(), seed=0)
    model.compile(keras.optimizers.Adam(1e-3))
    first, before = train(workdir, data, model, 2)
    first = first.seconds()
    record, after = train(workdir, data, model, 4, done=2)
    history = {name: before[name] + after[name] for name in before}
    return workdir, model, (first, record), history


@pytest.fixture(scope="module")
def card(run):
    return (run[0] / "README.md").read_text()


def row(card, name):
    """A value of the card's tables."""
    (value,) = re.findall(rf"^\| {re.escape(name)} \| (.*) \|$", card, re.M)
    return value


def test_the_data_is_that_of_the_source(card):
    # scikit-learn has 1,797 digits, of which the last 297 are for testing.
    assert row(card, "images") == "1,500"
    assert row(card, "source") == "digits"
    assert row(card, "split") == "train"
    assert row(card, "size") == "8 x 8 pixels, grey"
    assert row(card, "classes") == "10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"


def test_the_parameters_are_the_numbers_in_the_weights(run, card):
    count = sum(np.size(w) for w in run[1].network.get_weights())
    assert row(card, "parameters") == f"{count:,}"


def test_images_seen_are_those_of_both_processes(card):
    # 4 epochs of 3 steps of 4 images.
    assert row(card, "images seen") == "48"
    assert row(card, "steps") == "12 of 4 images"


def test_losses_are_those_of_the_history_of_both_processes(run, card):
    for title, name in (("loss", "loss"), ("validation loss", "val_loss")):
        values = run[3][name]
        assert len(values) == 4
        last = f"{values[-1]:.4g} at step 12"
        best = f"{min(values):.4g} at step {3 * (1 + np.argmin(values))}"
        assert row(card, f"{title}, last") == last
        assert row(card, f"{title}, best") == best
    quarters = [run[3][f"loss_quartile_{k}"][-1] for k in (1, 2, 3, 4)]
    found = row(card, "loss by quarter of t, from little noise to much")
    assert found == ", ".join(f"{value:.4g}" for value in quarters)


def test_the_rate_is_the_median_of_all_epochs(run, card):
    rates = run[3]["images_per_second"]
    assert len(rates) == 4
    found = row(card, "training images per second, median of the epochs")
    assert found == f"{statistics.median(rates):,.0f}"


def test_no_step_was_skipped(card):
    assert row(card, "steps skipped, not finite") == "0 of 12"


def test_the_time_is_that_of_both_processes(run, card):
    first, record = run[2]
    assert "2 processes worked on the run" in card
    total = sum(record.seconds().values())
    shown = float(row(card, "all").split()[0])
    # The card itself was written before the end of the second; it is rounded
    # to tenths.
    assert sum(first.values()) < shown <= total + 0.05
    for part in ("first step", "training", "validation"):
        assert record.seconds()[part] > first[part] > 0


def test_flags_are_those_of_the_command(card):
    (flags,) = re.findall(r"```text\n(.*?)\n```", card, re.S)
    assert flags.splitlines() == [
        "--attention_resolutions=16,8",
        "--learning_rate=0.001",
    ]


def test_arguments_are_json_that_builds_the_same_network(data, tmp_path):
    network = UNet(
        image_size=8,
        image_channels=1,
        base_channels=8,
        channel_multipliers=(1, 2),
        num_groups=4,
        attention_resolutions=(4,),
        num_heads=2,
        num_classes=3,
        dropout=0.25,
    )
    model = DiffusionModel(network)
    model.compile("adam")
    record = RunRecord(tmp_path)
    path = write_model_card(
        tmp_path, model, record, data, BATCH_SIZE, preset="tiny"
    )
    card = path.read_text()
    assert row(card, "preset") == "tiny"
    arguments, _ = re.findall(r"```json\n(.*?)\n```", card, re.S)
    again = UNet(**json.loads(arguments))
    assert again.get_config() | {"name": ""} == network.get_config() | {
        "name": ""
    }


def test_pictures_are_files_beside_the_card(run, card):
    workdir = run[0]
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", card)
    assert pictures == ["loss.png"]
    with Image.open(workdir / "loss.png") as picture:
        assert picture.size == (640, 400)


def test_the_newest_samples_are_shown(run, data):
    workdir, model, (_, record), _ = run
    images = np.zeros((1, 4, 4, 1))
    for name in ("samples.png", "samples/step_00000012.png"):
        save_grid(workdir / name, images)
        write_model_card(workdir, model, record, data, BATCH_SIZE)
        card = (workdir / "README.md").read_text()
        assert re.findall(r"!\[Samples.*?\]\((.*?)\)", card) == [name]


def test_the_code_of_the_card_runs(run, card, monkeypatch, tmp_path):
    save_model(run[1], tmp_path / "model.keras")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)\n```", card, re.S)
    exec(compile(code, "README.md", "exec"), {})
    with Image.open("more.png") as picture:
        # Four by four images of 8 pixels with gaps of 2, times 4.
        assert picture.size == (168, 168)
    assert load_model(".").updates.steps_taken == 12


def test_hardware_is_that_of_the_record(run, card):
    (session, _) = run[2][1].sessions
    for name, value in (session["hardware"] | session["versions"]).items():
        assert row(card, name) == value


def test_nothing_of_a_card_is_left_when_it_cannot_be_written(
    run, data, monkeypatch
):
    workdir, model, (_, record), _ = run
    before = (workdir / "README.md").read_bytes()

    def fail(*arguments, **options):
        raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.write_text", fail)
        with pytest.raises(OSError, match="No space"):
            write_model_card(workdir, model, record, data, BATCH_SIZE)
    assert (workdir / "README.md").read_bytes() == before


def test_a_source_of_unknown_licence_is_said_to_be_so():
    source = open_source("digits")
    facts = describe_data(source, "folder:photos", "train", 8, 3)
    assert facts["licence"].startswith("that of the source")
    assert facts["size"] == "8 x 8 pixels, RGB"
