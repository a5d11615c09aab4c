"""ONNX files: onnxruntime computes what Keras does."""

import sys

import keras
import numpy as np
import pytest
from labelled_network import labelled_network

from keras_unet_diffusion import (
    DDIM,
    CosineSchedule,
    DiffusionProcess,
    VelocityPrediction,
)
from keras_unet_diffusion.export.onnx import OPSET, write_onnx
from keras_unet_diffusion.export.parity import run_elsewhere
from keras_unet_diffusion.generation import ImageGenerator
from keras_unet_diffusion.noise import normal_images

PROCESS = DiffusionProcess(CosineSchedule(), VelocityPrediction())


def test_without_its_packages_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ValueError, match=r"pip install .*\[export\]"):
        write_onnx(tmp_path, labelled_network(), PROCESS, (8, 8, 1))


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return labelled_network(image_size=None)


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("onnx")
    assert write_onnx(folder, network, PROCESS, (None, None, 1)) == OPSET
    return folder


def session(folder, name):
    import onnxruntime

    return onnxruntime.InferenceSession(folder / f"{name}.onnx")


def test_denoise_agrees_at_every_noise_level(network, folder):
    inputs = {
        "noisy_images": normal_images(0, 0, 40, (8, 12, 1)).numpy(),
        # The waves of the noise level are kept as bits, which ONNX knows not.
        "noise_level": np.linspace(0, 999, 40).astype("float32"),
        "labels": np.arange(40, dtype="int32") % 4,
    }
    (output,) = session(folder, "denoise").run(["prediction"], inputs)
    expected = np.asarray(network(inputs))
    # The bound that is promised for every float32 file.
    assert np.abs(output - expected).max() < 1e-5 * expected.std()


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_a_loop_of_steps_makes_the_models_images(network, folder, scale):
    expected = ImageGenerator(network, PROCESS).generate(
        3,
        labels=[0, 2, 3],
        num_steps=5,
        seed=7,
        sampler=DDIM(),
        guidance_scale=scale,
        image_size=8,
    )
    x_t = normal_images(7, 0, 3, (8, 8, 1)).numpy()
    step = session(folder, "step")
    for k in range(5):
        inputs = {
            "x_t": x_t,
            "step": np.array(k, "int32"),
            "num_steps": np.array(5, "int32"),
            "labels": np.array([0, 2, 3], "int32"),
            "guidance_scale": np.array(scale, "float32"),
        }
        x_t, x_0 = step.run(["x_next", "x_0"], inputs)
    # Float32 roundings, amplified by five steps of a random network.
    assert np.abs(x_t - expected).max() < 2e-5 * expected.std()
    # The last step goes to the estimate.
    np.testing.assert_array_equal(x_t, x_0)


def test_elsewhere_a_loop_of_steps_is_run(network, folder):
    given = {
        "noise": normal_images(7, 0, 2, (8, 8, 1)).numpy(),
        "num_steps": np.int32(5),
        "labels": np.int32([0, 3]),
        "guidance_scale": np.float32(2.5),
    }
    (result,) = run_elsewhere("onnx", folder, [("step", given)])
    expected = ImageGenerator(network, PROCESS).generate(
        2,
        labels=[0, 3],
        num_steps=5,
        seed=7,
        sampler=DDIM(),
        guidance_scale=2.5,
        image_size=8,
    )
    # Float32 roundings, amplified by five steps of a random network.
    off = np.abs(result["output"] - expected).max()
    assert off < 2e-5 * expected.std()


@pytest.mark.parametrize("wrong", [(-1, 5), (5, 5), (0, 0), (0, 1001)])
def test_steps_that_do_not_exist_are_refused(folder, wrong):
    inputs = {
        "x_t": np.zeros((1, 8, 8, 1), "float32"),
        "step": np.array(wrong[0], "int32"),
        "num_steps": np.array(wrong[1], "int32"),
        "labels": np.array([0], "int32"),
        "guidance_scale": np.array(1, "float32"),
    }
    with pytest.raises(Exception, match="out of data bounds|division by zero"):
        session(folder, "step").run(None, inputs)


def test_files_name_their_opset_and_their_sizes(folder):
    import onnx

    for name, images in (("denoise", "noisy_images"), ("step", "x_t")):
        model = onnx.load(folder / f"{name}.onnx")
        opsets = {x.domain: x.version for x in model.opset_import}
        assert opsets[""] == OPSET
        shapes = {
            x.name: [
                d.dim_param or d.dim_value for d in x.type.tensor_type.shape.dim
            ]
            for x in model.graph.input
        }
        assert shapes[images] == ["batch", "height", "width", 1]
        assert shapes["labels"] == ["batch"]


def test_operations_that_onnx_lacks_are_refused_by_name(tmp_path):
    pytest.importorskip("tf2onnx")

    class Inverse(keras.layers.Layer):
        def call(self, images):
            return images + keras.ops.erfinv(0.1 * keras.ops.tanh(images))

    network = labelled_network(marked=Inverse())
    with pytest.raises(ValueError, match="Erfinv"):
        write_onnx(tmp_path, network, PROCESS, (8, 8, 1))
    assert list(tmp_path.iterdir()) == []
