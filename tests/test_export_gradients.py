"""The SavedModel stores no graphs of gradients, and has gradients still."""

import collections
import logging

import numpy as np
import pytest
import tensorflow as tf
from conftest import SMALL, randomize
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from keras_unet_diffusion import (
    CosineSchedule,
    DiffusionProcess,
    UNet,
    VelocityPrediction,
)
from keras_unet_diffusion.export.saved_model import write_saved_model
from keras_unet_diffusion.network_calls import network_inputs
from keras_unet_diffusion.samplers import make_sampler

SHAPE = (8, 8, 1)


# By default, test_export.py loads and compares such files.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def network():
    return randomize(UNet(**SMALL, num_classes=3, null_label="learned"))


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "saved_model"
    process = DiffusionProcess(CosineSchedule(), VelocityPrediction())
    samplers = {name: make_sampler(name) for name in ("ddim", "heun")}
    write_saved_model(folder, network, process, samplers, SHAPE)
    return folder


@pytest.fixture(scope="module")
def graph(folder):
    content = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    return content.meta_graphs[0].graph_def


def test_it_loads_without_a_warning_and_with_the_networks_gradients(
    network, folder, caplog
):
    with caplog.at_level(logging.WARNING):
        # Kept, as its functions hold the variables weakly.
        loaded = tf.saved_model.load(str(folder))
    denoise = loaded.signatures["denoise"]
    assert not [x for x in caplog.records if "gradient" in x.getMessage()]
    images = np.random.default_rng(0).standard_normal((2, *SHAPE))
    given = {
        "noisy_images": tf.constant(images, tf.float32),
        "noise_level": tf.constant([3.0, 900.0]),
        "labels": tf.constant([0, 2]),
    }

    def gradient(call):
        with tf.GradientTape() as tape:
            tape.watch(given["noisy_images"])
            loss = tf.reduce_sum(call() ** 2)
        return tape.gradient(loss, given["noisy_images"]).numpy()

    found = gradient(lambda: denoise(**given)["prediction"])
    expected = gradient(lambda: network(network_inputs(network, **given)))
    # Float32 roundings, in another order of sums.
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected.std())


def test_no_operation_names_a_gradient_that_is_not_there(graph):
    nodes = [x for f in graph.library.function for x in f.node_def]
    nodes += graph.node
    assert nodes
    assert not [x for x in nodes if "_gradient_op_type" in x.attr]


def test_the_network_and_each_loop_are_in_the_file_once(network, graph):
    operations = collections.Counter(
        node.op for f in graph.library.function for node in f.node_def
    )
    convolutions = [x for x in network.weights if len(x.shape) == 4]
    assert operations["Conv2D"] == len(convolutions)
    # With guidance and without; heun's loop has one for half steps.
    assert operations["While"] + operations["StatelessWhile"] == 2
