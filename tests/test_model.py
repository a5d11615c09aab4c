"""DiffusionModel: training, validation, averages, saving."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import SMALL
from model_cases import largest_difference, make_model, train, weights_of

from keras_unet_diffusion import (
    CosineSchedule,
    DiffusionModel,
    DiffusionProcess,
    UNet,
    VelocityPrediction,
)
from keras_unet_diffusion.training import (
    ExponentialMovingAverage,
    FusedAdam,
    load_model,
    save_model,
)


def test_a_unet_overfits_eight_real_images(digits):
    images = digits[0][:8]
    network = UNet(**SMALL | {"base_channels": 16})
    model = DiffusionModel(
        network,
        DiffusionProcess(CosineSchedule(), VelocityPrediction()),
        averages=ExponentialMovingAverage(0.97),
        seed=0,
    )
    model.compile(FusedAdam(5e-3))
    dataset = tf.data.Dataset.from_tensor_slices(images).repeat().batch(32)
    model.fit(dataset, steps_per_epoch=150, shuffle=False, verbose=0)
    samples = model.generate(32, num_steps=50, seed=0)
    distances = np.sqrt(
        ((samples[:, None] - images[None]) ** 2).mean(axis=(2, 3, 4))
    )
    between = np.sqrt(((images[:, None] - images[None]) ** 2).mean((2, 3, 4)))
    nearest_other = np.sort(between, axis=1)[:, 1].mean()
    # The typical sample is one of the eight, not a blend of two.
    assert np.median(distances.min(axis=1)) < nearest_other / 2


def test_fit_evaluate_and_labels_work_on_real_images(cheap_model, digits):
    images, labels = digits[0][:96], digits[1][:96]
    cheap_model.compile(FusedAdam(1e-3))
    history = cheap_model.fit(
        images,
        labels,
        batch_size=32,
        epochs=2,
        verbose=0,
        validation_data=(images, labels),
    ).history
    assert history["loss"][1] < history["loss"][0]
    assert np.isfinite(history["val_loss"]).all()


def test_the_average_is_the_recursion_over_updates(digits):
    model = make_model(averages=ExponentialMovingAverage(0.6))
    expected = weights_of(model.network)
    for n in range(6):
        train(model, digits[0][:8], 1)
        decay = min(0.6, (1 + n) / (10 + n))
        expected = [
            decay * e + (1 - decay) * w
            for e, w in zip(expected, weights_of(model.network), strict=True)
        ]
    # Float32 roundings of weights of size 1.
    assert largest_difference(expected, weights_of(model.ema_network)) < 1e-6


def test_the_average_waits_for_accumulated_gradients(digits):
    model = make_model(
        optimizer=keras.optimizers.SGD(0.1), accumulation_steps=3
    )
    start = weights_of(model.ema_network)
    train(model, digits[0][:8], 2)
    assert largest_difference(start, weights_of(model.ema_network)) == 0
    train(model, digits[0][:8], 1)
    # One update: the average has moved by 9/10 of the way (n = 0).
    expected = [
        0.1 * s + 0.9 * w
        for s, w in zip(start, weights_of(model.network), strict=True)
    ]
    assert largest_difference(expected, weights_of(model.ema_network)) < 1e-6


def test_fit_leaves_the_raw_weights_raw(digits):
    model = make_model(averages=ExponentialMovingAverage(0.99))
    model.fit(digits[0][:32], batch_size=8, verbose=0)
    assert (
        largest_difference(
            weights_of(model.network), weights_of(model.ema_network)
        )
        > 1e-5
    )


def test_evaluation_and_sampling_use_the_average(digits):
    model = make_model()
    before = model.evaluate(digits[0][:32], verbose=0)
    images = model.generate(2, num_steps=3, seed=0)
    model.network.set_weights([w * 0 for w in model.network.get_weights()])
    assert model.evaluate(digits[0][:32], verbose=0) == before
    np.testing.assert_array_equal(
        model.generate(2, num_steps=3, seed=0), images
    )
    model.ema_network.set_weights(model.network.get_weights())
    assert model.evaluate(digits[0][:32], verbose=0) != before


def test_validation_loss_is_repeatable(digits):
    model = make_model()
    start = weights_of(model.network)
    first, second = (
        model.evaluate(digits[0][:50], batch_size=20, verbose=0)
        for _ in range(2)
    )
    assert first == second
    train(model, digits[0][:8], 1)
    model.ema_network.set_weights(start)
    assert model.evaluate(digits[0][:50], batch_size=20, verbose=0) == first


def test_validating_changes_nothing_in_training(digits):
    images = digits[0][:16]
    runs = []
    for validation_data in (None, (images,)):
        model = make_model()
        model.run_eagerly = True  # Four steps: tracing takes longer.
        history = model.fit(
            images,
            batch_size=8,
            epochs=2,
            shuffle=False,
            verbose=0,
            validation_data=validation_data,
        ).history
        runs.append((history["loss"], weights_of(model.network)))
    assert runs[0][0] == runs[1][0]
    assert largest_difference(runs[0][1], runs[1][1]) == 0


def test_a_seed_repeats_the_training_noise(digits):
    def losses(seed):
        model = make_model(optimizer=keras.optimizers.SGD(0.0), seed=seed)
        model.run_eagerly = True  # Three steps: tracing takes longer.
        return train(model, digits[0][:8], 3)

    same, again, other = (losses(seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(same, again)
    assert np.abs(same - other).min() > 1e-4
    # Each step draws its own.
    assert np.ptp(same) > 1e-4


def test_gradients_are_clipped_by_their_global_norm(digits):
    for clip_norm in (1e-3, None):
        optimizer = keras.optimizers.SGD(1.0)
        model = make_model(optimizer=optimizer, clip_norm=clip_norm)
        start = weights_of(model.network)
        train(model, digits[0][:8], 1)
        end = weights_of(model.network)
        norm = np.sqrt(
            sum(((e - s) ** 2).sum() for s, e in zip(start, end, strict=True))
        )
        if clip_norm:
            # A weight of size 1 is known to 6e-8, and there are thousands.
            assert norm == pytest.approx(clip_norm, rel=0.02)
        else:
            assert norm > 0.01


def test_an_optimizer_that_clips_keeps_its_own_bound():
    optimizer = keras.optimizers.SGD(1.0, clipnorm=3.0)
    model = make_model(optimizer=optimizer)
    assert model.optimizer.clipnorm == 3.0
    assert model.optimizer.global_clipnorm is None


# In float32, with all that a model may add: test_training_options.py.
@pytest.mark.parametrize(
    "policy",
    [pytest.param("float32", marks=pytest.mark.slow), "mixed_float16"],
)
def test_a_loaded_model_goes_on_like_the_saved_one(policy, digits, tmp_path):
    images = digits[0][:8]
    model = make_model(policy)
    train(model, images, 2)
    save_model(model, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    loaded.compile(loaded.optimizer, jit_compile=False)
    assert loaded.process == model.process
    losses = train(model, images, 3), train(loaded, images, 3)
    np.testing.assert_array_equal(losses[0], losses[1])
    for name in ("network", "ema_network"):
        assert (
            largest_difference(
                weights_of(getattr(model, name)),
                weights_of(getattr(loaded, name)),
            )
            == 0
        )


def test_any_keras_model_with_these_inputs_can_be_trained(digits):
    images = keras.Input((8, 8, 1), name="noisy_images")
    level = keras.Input((), name="noise_level")
    scaled = keras.layers.Reshape((1, 1, 1))(level)
    outputs = keras.layers.Conv2D(1, 3, padding="same")(images) + scaled * 0.0
    network = keras.Model(
        {"noisy_images": images, "noise_level": level}, outputs
    )
    model = DiffusionModel(network, seed=0)
    model.compile(keras.optimizers.Adam(0.01))
    losses = train(model, digits[0][:32], 30)
    assert losses[-5:].mean() < losses[:5].mean()
    assert model.generate(2, num_steps=2, seed=0).shape == (2, 8, 8, 1)


BAD_BATCHES = [
    (np.zeros((4, 8, 8, 1), "uint8"), "Received: uint8 of shape"),
    (np.zeros((4, 8, 8), "float32"), r"Received: float32 of shape \(4, 8, 8\)"),
    ((np.zeros((4, 8, 8, 1)), None, np.ones(4)), "sample weights"),
]


@pytest.mark.parametrize("batch, message", BAD_BATCHES)
def test_bad_batches_are_refused(batch, message):
    batch = batch if isinstance(batch, tuple) else (batch,)
    with pytest.raises(ValueError, match=message):
        make_model().train_step(
            tuple(x if x is None else tf.constant(x) for x in batch)
        )


def test_missing_labels_are_refused(small_model):
    with pytest.raises(ValueError, match="takes labels.*Received: none"):
        small_model.train_step((tf.zeros((4, 8, 8, 1)),))
    with pytest.raises(ValueError, match=r"float32 of shape \(4, 10\)"):
        small_model.train_step((tf.zeros((4, 8, 8, 1)), tf.zeros((4, 10))))
    with pytest.raises(ValueError, match=r"float32 of shape \(4,\)"):
        small_model.train_step((tf.zeros((4, 8, 8, 1)), tf.zeros(4)))


def test_labels_beyond_the_classes_are_refused(small_model):
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="below the network's num_classes"
    ):
        small_model.test_step((tf.zeros((2, 8, 8, 1)), tf.constant([3, 10])))
    with pytest.raises(tf.errors.InvalidArgumentError, match="not be negative"):
        small_model.test_step((tf.zeros((2, 8, 8, 1)), tf.constant([3, -1])))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: DiffusionModel("unet"), "network='unet'"),
        (
            lambda: DiffusionModel(keras.Sequential([keras.Input((4,))])),
            "dict of noisy_images, noise_level",
        ),
        (lambda: make_model(clip_norm=0), "clip_norm=0"),
        (lambda: make_model(averages=0.999), "averages=0.999"),
        (lambda: make_model(averages=()), r"averages=\(\)"),
        (lambda: make_model(accumulation_steps=0), "accumulation_steps=0"),
    ],
)
def test_arguments_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "optimizer, instead",
    [
        (keras.optimizers.Adam(use_ema=True), "averages="),
        (
            keras.optimizers.SGD(gradient_accumulation_steps=2),
            "accumulation_steps=",
        ),
        (keras.optimizers.SGD(loss_scale_factor=2.0), "loss_scale_factor=None"),
        (
            keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()),
            "the optimizer inside it",
        ),
    ],
)
def test_optimizers_that_do_what_the_model_does_are_refused(optimizer, instead):
    with pytest.raises(ValueError, match=f"does so too. Pass .*{instead}"):
        make_model(optimizer=optimizer)
