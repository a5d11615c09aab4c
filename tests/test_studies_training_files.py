"""Trained networks of the studies are kept, and found by what they are."""

import dataclasses

import numpy as np
import pytest
from study_cases import PLAIN, SMALL

from keras_unet_diffusion.studies.budget import make_plain_cnn, variant
from keras_unet_diffusion.studies.laboratory import Laboratory
from keras_unet_diffusion.studies.surgery import (
    with_noise_level_at_stem,
    without_noise_level,
)
from keras_unet_diffusion.studies.training_files import (
    Training,
    TrainingFiles,
)

TRAINING = Training(
    weights=[np.arange(6.0).reshape(2, 3), np.array(1, "int32")],
    losses=np.array([0.5, 0.25]),
    bands=np.ones((2, 2)),
    checks=np.array([0.375]),
)


def test_what_is_kept_is_found_whole(tmp_path):
    files = TrainingFiles(tmp_path / "networks", SMALL)
    assert files.load(PLAIN, 1.0, 0) is None
    files.save(PLAIN, 1.0, 0, TRAINING)
    found = TrainingFiles(tmp_path / "networks", SMALL).load(PLAIN, 1.0, 0)
    for first, second in zip(found.weights, TRAINING.weights, strict=True):
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)
    for name in ("losses", "bands", "checks"):
        np.testing.assert_array_equal(
            getattr(found, name), getattr(TRAINING, name)
        )


def test_a_network_of_another_kind_or_budget_is_not_taken_for_it(tmp_path):
    files = TrainingFiles(tmp_path, SMALL)
    changed = dataclasses.replace(SMALL, train_steps=8)
    fewer_seeds = dataclasses.replace(SMALL, seeds=(0,))
    path = files.path(PLAIN, 1.0, 0)
    others = [
        files.path(PLAIN, 1.0, 1),
        files.path(PLAIN, 1.5, 0),
        files.path(variant("plain", make_plain_cnn, num_layers=3), 1.0, 0),
        files.path(variant("plain", change=without_noise_level), 1.0, 0),
        files.path(variant("plain", change=with_noise_level_at_stem), 1.0, 0),
        TrainingFiles(tmp_path, changed).path(PLAIN, 1.0, 0),
    ]
    assert len({path, *others}) == 7
    renamed = dataclasses.replace(PLAIN, name="another name")
    assert files.path(renamed, 1.0, 0) == path
    assert TrainingFiles(tmp_path, fewer_seeds).path(PLAIN, 1.0, 0) == path


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_a_damaged_file_is_reported_and_passed_over(content, tmp_path):
    said = []
    files = TrainingFiles(tmp_path, SMALL, said.append)
    files.save(PLAIN, 1.0, 0, TRAINING)
    path = files.path(PLAIN, 1.0, 0)
    path.write_bytes(path.read_bytes()[:-40] if content is None else content)
    assert files.load(PLAIN, 1.0, 0) is None
    (line,) = said
    assert str(path) in line and "trained anew" in line


def test_nothing_is_kept_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = TrainingFiles(None, SMALL)
    files.save(PLAIN, 1.0, 0, TRAINING)
    assert files.load(PLAIN, 1.0, 0) is None
    assert list(tmp_path.iterdir()) == []


def test_after_a_stop_only_what_is_missing_is_trained(tmp_path, monkeypatch):
    laboratory = Laboratory(SMALL, report=str, folder=tmp_path)
    first = laboratory.train(PLAIN)
    # As if it were another process, which remembers nothing.
    laboratory._trained.clear()
    (second,) = tmp_path.glob("*-seed-1.npz")
    second.unlink()
    trained = []
    original = Laboratory._measure

    def measure(self, course, network, predict, initial, seed):
        trained.append(seed)
        return original(self, course, network, predict, initial, seed)

    monkeypatch.setattr(Laboratory, "_measure", measure)
    again = laboratory.train(PLAIN)
    assert trained == [1]
    for name in ("losses", "bands", "checks"):
        np.testing.assert_array_equal(
            getattr(again, name), getattr(first, name)
        )
    for seed in (0, 1):
        for one, other in zip(
            again.weights[seed], first.weights[seed], strict=True
        ):
            np.testing.assert_array_equal(one, other)
