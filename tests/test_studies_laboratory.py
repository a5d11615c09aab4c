"""The laboratory: equal terms, each network once, the same again."""

import dataclasses

import numpy as np
import pytest
from study_cases import PLAIN, SMALL

from keras_unet_diffusion import PlainCNN
from keras_unet_diffusion.studies.budget import variant
from keras_unet_diffusion.studies.laboratory import Laboratory


@pytest.fixture(scope="module")
def laboratory():
    return Laboratory(SMALL, report=lambda line: None)


@pytest.fixture(scope="module")
def trained(laboratory):
    return laboratory.train(PLAIN)


def test_every_seed_has_losses_and_weights_of_its_own(trained):
    assert trained.losses.shape == (2, 2)
    assert trained.bands.shape == (2, 2, 2)
    assert trained.checks.shape == (2, 2)
    for weights in (trained.initial, trained.weights):
        first, second = (
            np.concatenate([x.ravel() for x in w]) for w in weights
        )
        assert np.abs(first - second).max() > 0.01


def test_training_lowers_the_loss(trained):
    # A new network predicts 0, and the noise has a mean square of 1.
    assert (trained.loss < 1).all()
    assert (trained.checks[:, 1] < trained.checks[:, 0]).all()
    np.testing.assert_array_equal(trained.checks[:, -1], trained.loss)


def test_a_network_is_trained_once_by_any_name(laboratory, trained):
    again = laboratory.train(dataclasses.replace(PLAIN, name="other"))
    assert again.name == "other" and trained.name == "plain"
    assert again.network is trained.network


def test_the_same_command_gives_the_same_numbers(trained):
    seeds = {"seeds": (1,)}
    other = Laboratory(dataclasses.replace(SMALL, **seeds), report=str)
    again = other.train(PLAIN)
    # Also without the seed before: no state is left over from it.
    np.testing.assert_array_equal(again.losses[0], trained.losses[1])


def test_networks_have_the_weights_of_each_seed_in_turn(laboratory, trained):
    found = [
        laboratory.validation.errors(trained.predict)
        for _ in trained.of_each_seed()
    ]
    losses = [np.mean(np.square(errors, dtype="float64")) for errors in found]
    np.testing.assert_allclose(losses, trained.loss, rtol=1e-12)


def test_samples_are_of_the_same_noise(laboratory, trained):
    network = next(trained.of_each_seed())
    first, again = (
        laboratory.sample(network, 2, num_steps=2) for _ in range(2)
    )
    assert first.shape == (2, 8, 8, 1)
    np.testing.assert_array_equal(first, again)


def test_networks_of_unequal_size_are_not_compared(laboratory):
    def make_tiny(budget, width):
        return PlainCNN(8, 1, channels=4, num_layers=2)

    with pytest.raises(ValueError, match="equal size"):
        laboratory.train_all([variant("tiny", make_tiny)])


def test_more_held_out_images_than_there_are_are_refused():
    budget = dataclasses.replace(SMALL, validation_images=298)
    with pytest.raises(ValueError, match="298, and 297 in the split 'test'"):
        Laboratory(budget)
