"""What `DiffusionModel` adds to plain training, as a whole."""

import conftest
import keras
import numpy as np
import pytest
from conftest import one_block_network

from keras_unet_diffusion import (
    DiffusionModel,
    DiffusionProcess,
    EDMSchedule,
    LinearSchedule,
    LogNormalTimes,
)
from keras_unet_diffusion.training import Augmentation, load_model, save_model

STEPS = DiffusionProcess(LinearSchedule(num_timesteps=4))


def augmented_network(width=9):
    """`one_block_network` that is told how images were augmented."""
    plain = one_block_network()
    images = keras.Input((8, 8, 1), name="noisy_images")
    level = keras.Input((), name="noise_level")
    told = keras.Input((width,), name="augmentation")
    added = keras.layers.Dense(1)(told)
    hidden = images + keras.layers.Reshape((1, 1, 1))(added)
    inputs = {"noisy_images": images, "noise_level": level}
    outputs = plain(inputs | {"noisy_images": hidden})
    network = keras.Model(inputs | {"augmentation": told}, outputs)
    return conftest.randomize(network)


OPTIONS = {
    "augmentation": (
        augmented_network,
        {"augmentation": Augmentation(0.5)},
    ),
    "time_resampling": (
        one_block_network,
        {"process": STEPS, "time_resampling": True},
    ),
    "uncertainty": (one_block_network, {"uncertainty": True}),
    "all": (
        augmented_network,
        {
            "process": STEPS,
            "augmentation": Augmentation(0.5),
            "time_resampling": True,
            "uncertainty": True,
        },
    ),
}


# Each is in "all"; where something takes long, they are told apart by request.
TOGETHER = [
    option if option == "all" else pytest.param(option, marks=pytest.mark.slow)
    for option in OPTIONS
]


def make_model(option, jit_compile=False):
    keras.utils.set_random_seed(0)
    make_network, arguments = OPTIONS[option]
    model = DiffusionModel(make_network(), seed=0, **arguments)
    model.compile(keras.optimizers.Adam(1e-3), jit_compile=jit_compile)
    return model


def train(model, images, num_steps):
    return np.array(
        [
            float(model.train_on_batch(images, return_dict=True)["loss"])
            for _ in range(num_steps)
        ]
    )


@pytest.mark.parametrize("option", TOGETHER)
def test_a_loaded_model_goes_on_like_the_saved_one(option, digits, tmp_path):
    images = digits[0][:32]
    model = make_model(option)
    train(model, images, 4)
    save_model(model, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    loaded.compile(loaded.optimizer, jit_compile=False)
    arguments = OPTIONS[option][1]
    for name, value in arguments.items():
        assert getattr(loaded, name) == value
    np.testing.assert_array_equal(
        train(model, images, 3), train(loaded, images, 3)
    )
    for first, second in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("option", TOGETHER)
def test_xla_trains_the_same(option, digits):
    losses = [
        train(make_model(option, jit_compile), digits[0][:32], 4)
        for jit_compile in (False, True)
    ]
    # The noise has the same bits; convolutions round to 24.
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)


@pytest.mark.parametrize("option", TOGETHER)
def test_steps_without_python_between_them_are_the_same_steps(option, digits):
    weights, seen = [], []
    for steps_per_execution in (1, 4):
        model = make_model(option)
        model.compile(
            model.optimizer,
            jit_compile=False,
            steps_per_execution=steps_per_execution,
        )
        history = model.fit(
            digits[0][:64], batch_size=8, epochs=2, shuffle=False, verbose=0
        )
        weights.append(model.get_weights())
        seen.append(history.history["loss"])
    for one, four in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, four)
    np.testing.assert_array_equal(*seen)


@pytest.mark.parametrize("option", TOGETHER)
def test_validation_is_repeatable_and_changes_nothing(option, digits):
    model = make_model(option)
    train(model, digits[0][:32], 2)
    before = [np.array(w) for w in model.weights]
    first, second = (
        model.evaluate(digits[0][:32], verbose=0) for _ in range(2)
    )
    assert first == second
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, new)


def test_validation_is_not_augmented(digits):
    losses = []
    for option in (None, Augmentation(1.0)):
        keras.utils.set_random_seed(0)
        model = DiffusionModel(augmented_network(), augmentation=option, seed=0)
        model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
        trained = train(model, digits[0][:32], 1)[0]
        losses.append((trained, model.evaluate(digits[0][:32], verbose=0)[0]))
    assert losses[0][1] == losses[1][1]
    assert losses[0][0] != losses[1][0]


def test_an_untrained_uncertainty_leaves_the_first_loss_as_it_is(digits):
    losses = []
    for uncertainty in (False, True):
        keras.utils.set_random_seed(0)
        network = one_block_network()
        model = DiffusionModel(network, uncertainty=uncertainty, seed=0)
        model.compile(keras.optimizers.Adam(1e-3), run_eagerly=True)
        losses.append(train(model, digits[0][:32], 1)[0])
    # Another sum of the same float32 numbers.
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)


def test_the_uncertainty_is_trained_but_no_part_of_the_networks():
    model = make_model("uncertainty")
    model.run_eagerly = True  # One step: tracing takes longer.
    count = len(model.network.weights)
    assert len(model.ema_network.weights) == count
    assert len(model.trainable_variables) == 1 + len(
        model.network.trainable_variables
    )
    start = np.array(model.uncertainty_layer.linear.kernel)
    train(model, np.zeros((4, 8, 8, 1), "float32"), 1)
    moved = np.abs(model.uncertainty_layer.linear.kernel - start).max()
    # Adam's first step is the learning rate.
    assert moved == pytest.approx(1e-3, rel=0.01)


def test_resampled_times_are_recorded_and_soon_uneven(digits):
    model = make_model("time_resampling")
    train(model, digits[0][:64], 1)
    counts = model.loss_history.counts.numpy()
    assert counts.sum() <= 64 and counts.min() > 0
    train(model, digits[0][:64], 3)
    assert np.ptp(model.loss_history.probabilities()) > 0.01
    assert np.isfinite(train(model, digits[0][:64], 2)).all()


@pytest.mark.parametrize(
    "process, received",
    [
        (DiffusionProcess(EDMSchedule()), "EDMSchedule"),
        (DiffusionProcess(times=LogNormalTimes()), "LogNormalTimes"),
    ],
)
def test_only_even_steps_are_resampled(process, received):
    with pytest.raises(ValueError, match=f"(?s)resampling=True.*{received}"):
        DiffusionModel(one_block_network(), process, time_resampling=True)


@pytest.mark.parametrize(
    "network, received",
    [(one_block_network, "none"), (lambda: augmented_network(3), "3")],
)
def test_augmentation_needs_a_network_that_is_told(network, received):
    with pytest.raises(
        ValueError, match=f"augmentation_channels={received}. Build"
    ):
        DiffusionModel(network(), augmentation=Augmentation())


def test_an_augmentation_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="augmentation=0.12"):
        DiffusionModel(one_block_network(), augmentation=0.12)
