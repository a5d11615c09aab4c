"""What is written while a model trains."""

import re
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_unet_diffusion.data import to_uint8
from keras_unet_diffusion.training.callbacks import ImagesPerSecond, SampleGrid
from keras_unet_diffusion.training.checkpoints import (
    checkpoint_path,
    list_checkpoints,
    load_model,
)
from keras_unet_diffusion.training.save_checkpoints import SaveCheckpoints

STEPS_PER_EPOCH = 3


@keras.saving.register_keras_serializable(package="test_callbacks")
class PaintingModel(keras.Sequential):
    """Trains at once, and "generates" the images that it is given."""

    painted = np.linspace(-1, 1, 5 * 4 * 4).reshape(5, 4, 4, 1)
    asked = ()

    def generate(self, num_images, **options):
        self.asked = (*self.asked, (num_images, options))
        return self.painted[:num_images]


@pytest.fixture
def model():
    model = PaintingModel([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


def fit(model, callback, epochs, dataset=None, **options):
    if dataset is None:
        numbers = np.ones((4 * STEPS_PER_EPOCH, 2), "float32")
        dataset = tf.data.Dataset.from_tensor_slices(
            (numbers, numbers[:, :1])
        ).batch(4)
    return model.fit(
        dataset,
        epochs=epochs,
        callbacks=[callback],
        shuffle=False,
        verbose=0,
        **options,
    )


def of_unknown_length():
    def batches():
        for _ in range(STEPS_PER_EPOCH):
            yield np.ones((4, 2), "float32"), np.ones((4, 1), "float32")

    signature = (tf.TensorSpec((4, 2)), tf.TensorSpec((4, 1)))
    return tf.data.Dataset.from_generator(batches, output_signature=signature)


def steps_of(workdir):
    return [step for step, _ in list_checkpoints(workdir)]


def test_the_newest_checkpoints_are_kept(model, tmp_path):
    fit(model, SaveCheckpoints(tmp_path, keep=2), epochs=5)
    assert steps_of(tmp_path) == [12, 15]
    names = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert sorted(names) == ["step_00000012.keras", "step_00000015.keras"]


def test_checkpoints_are_saved_every_so_many_epochs(model, tmp_path):
    fit(model, SaveCheckpoints(tmp_path, every_epochs=2, keep=9), epochs=5)
    assert steps_of(tmp_path) == [6, 12]


def test_training_that_goes_on_counts_its_steps_on(model, tmp_path):
    fit(model, SaveCheckpoints(tmp_path), epochs=2)
    fit(model, SaveCheckpoints(tmp_path), epochs=3, initial_epoch=2)
    assert steps_of(tmp_path) == [6, 9]


def test_a_checkpoint_holds_the_weights_of_its_step(model, tmp_path):
    seen = {}

    class Remember(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            step = (epoch + 1) * STEPS_PER_EPOCH
            seen[step] = self.model.get_weights()

    callbacks = keras.callbacks.CallbackList(
        [Remember(), SaveCheckpoints(tmp_path, keep=3)], model=model
    )
    fit(model, callbacks, epochs=3)
    assert steps_of(tmp_path) == [3, 6, 9]
    for step, weights in seen.items():
        loaded = load_model(checkpoint_path(tmp_path, step)).get_weights()
        for a, b in zip(weights, loaded, strict=True):
            np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(seen[3], seen[9], strict=True))


def test_files_that_are_no_checkpoints_stay(model, tmp_path):
    mine = tmp_path / "checkpoints" / "step_00000001_best.keras"
    mine.parent.mkdir()
    mine.write_text("mine")
    fit(model, SaveCheckpoints(tmp_path, keep=1), epochs=2)
    assert steps_of(tmp_path) == [6]
    assert mine.read_text() == "mine"


# Keras notes the length in the first epoch and warns at its end.
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_steps_are_counted_in_a_dataset_of_unknown_length(model, tmp_path):
    fit(model, SaveCheckpoints(tmp_path), 2, of_unknown_length())
    fit(model, SampleGrid(tmp_path / "samples"), 1, of_unknown_length())
    assert steps_of(tmp_path) == [3, 6]
    assert (tmp_path / "samples" / "step_00000003.png").is_file()


def test_a_grid_of_samples_is_written_every_so_many_epochs(model, tmp_path):
    callback = SampleGrid(
        tmp_path,
        every_epochs=2,
        num_images=5,
        num_steps=7,
        seed=11,
        sampler="heun",
        batch_size=3,
    )
    fit(model, callback, epochs=5)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["step_00000006.png", "step_00000012.png"]
    asked = {
        "num_steps": 7,
        "seed": 11,
        "sampler": "heun",
        "batch_size": 3,
        "image_size": None,
    }
    assert model.asked == ((5, asked),) * 2


def test_the_picture_shows_the_samples_in_columns(model, tmp_path):
    callback = SampleGrid(tmp_path, num_images=5, num_columns=5)
    fit(model, callback, epochs=1)
    (path,) = tmp_path.iterdir()
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
    # Gaps of 2 pixels around images of 4 by 4.
    assert pixels.shape == (8, 32)
    for k, image in enumerate(to_uint8(PaintingModel.painted)):
        left = 2 + 6 * k
        shown = pixels[2:6, left : left + 4]
        np.testing.assert_array_equal(shown, image[..., 0])


def test_tensorboard_gets_the_grid_of_each_epoch(model, tmp_path):
    callback = SampleGrid(log_dir=tmp_path, num_images=4)
    fit(model, callback, epochs=2)
    found = {}
    for path in tmp_path.iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                # Width, height, and then the pictures.
                found[event.step] = value.tag, value.tensor.string_val[2]
    # After steps, not epochs.
    assert sorted(found) == [3, 6]
    for tag, data in found.values():
        assert tag == "samples"
        assert tf.io.decode_png(data).shape == (14, 14, 1)


def test_nothing_is_written_without_a_folder(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit(model, SampleGrid(num_images=1), epochs=1)
    assert list(tmp_path.iterdir()) == []


def test_a_diffusion_model_paints_the_same_seed_again(small_model, tmp_path):
    callback = SampleGrid(tmp_path, num_images=4, num_steps=2, seed=3)
    callback.set_model(small_model)
    for epoch in (0, 1):
        callback.on_epoch_begin(epoch)
        callback.on_train_batch_end(9)
        callback.on_epoch_end(epoch)
    first, second = sorted(tmp_path.iterdir())
    assert [first.name, second.name] == [
        "step_00000010.png",
        "step_00000020.png",
    ]
    assert first.read_bytes() == second.read_bytes()
    expected = small_model.generate(4, num_steps=2, seed=3)
    with Image.open(first) as picture:
        corner = np.asarray(picture)[2:10, 2:10]
    np.testing.assert_array_equal(corner, to_uint8(expected)[0, ..., 0])


def rates_by(clock, executions, monkeypatch):
    """Rates in the logs of executions, which end at given batches and times;
    an epoch begins where the batches begin anew."""
    now = iter(clock)
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    callback, found = ImagesPerSecond(batch_size=64), []
    callback.on_train_begin()
    for epoch, batches in enumerate(executions):
        callback.on_epoch_begin(epoch)
        for batch in batches:
            logs = {}
            callback.on_train_batch_end(batch, logs)
            found.append(logs.get("images_per_second"))
        logs = {"loss": 1.0}
        callback.on_epoch_end(epoch, logs)
        found.append(logs.get("images_per_second"))
    return found


def test_the_rate_is_images_over_seconds_without_the_first_step(monkeypatch):
    # The first step ends at 60 s, the others take 1, 3 and 4 s; then an epoch
    # begins at 100 s, whose first step counts and takes 2 s.
    clock = [0.0, 60.0, 61.0, 64.0, 68.0, 100.0, 102.0]
    assert rates_by(clock, [[0, 1, 2, 3], [0]], monkeypatch) == [
        None,
        64.0,
        2 * 64 / 4,
        3 * 64 / 8,
        3 * 64 / 8,
        32.0,
        32.0,
    ]


def test_the_first_execution_of_several_steps_is_left_out(monkeypatch):
    clock = [0.0, 60.0, 62.0, 100.0, 110.0]
    assert rates_by(clock, [[4, 9], [4]], monkeypatch) == [
        None,
        5 * 64 / 2,
        5 * 64 / 2,
        5 * 64 / 10,
        5 * 64 / 10,
    ]


def test_an_epoch_of_the_first_execution_alone_has_no_rate(monkeypatch):
    assert rates_by([0.0, 60.0], [[9]], monkeypatch) == [None, None]


def test_batches_whose_ends_are_told_in_another_order_count_once(monkeypatch):
    # Keras on JAX calls from several threads.
    clock = [0.0, 60.0, 62.0, 62.1]
    assert rates_by(clock, [[0, 2, 1]], monkeypatch) == [None, 64.0, 64.0, 64.0]


class RememberRates(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.rates = []

    def on_train_batch_end(self, batch, logs=None):
        self.rates.append(logs.get("images_per_second"))


def shown_rates(capsys):
    """All rates that were printed."""
    return re.findall(r"images_per_second: ([0-9.]+)", capsys.readouterr().out)


def test_the_progress_bar_shows_the_latest_rate_and_no_mean_of_rates(
    model, capsys
):
    numbers = np.ones((80, 2), "float32")
    remember = RememberRates()
    # 10 executions of 2 steps, of which the first has no rate.
    model.compile("sgd", "mse", steps_per_execution=2)
    model.fit(
        numbers,
        numbers[:, :1],
        batch_size=4,
        callbacks=[ImagesPerSecond(4), remember],
        verbose=1,
    )
    first, *rates = remember.rates
    assert first is None and len(rates) == 9
    shown = shown_rates(capsys)
    # The bar leaves out what comes within 50 ms; the last it always shows.
    assert set(shown) <= {f"{rate:.4f}" for rate in rates}
    assert shown[-1] == f"{rates[-1]:.4f}"


def test_the_line_of_an_epoch_without_a_bar_has_the_rate(model, capsys):
    rows = np.ones((12, 2), "float32")
    history = model.fit(
        rows,
        rows[:, :1],
        batch_size=4,
        epochs=2,
        callbacks=[ImagesPerSecond(4)],
        verbose=2,
    ).history
    expected = [f"{rate:.4f}" for rate in history["images_per_second"]]
    assert shown_rates(capsys) == expected
    assert len(expected) == 2


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: SampleGrid(every_epochs=0), "every_epochs=0"),
        (lambda: ImagesPerSecond(0), "batch_size=0"),
        (lambda: SaveCheckpoints("run", every_epochs=0), "every_epochs=0"),
        (lambda: SaveCheckpoints("run", keep=0), "keep=0"),
    ],
)
def test_counts_below_one_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
