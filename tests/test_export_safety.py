"""Exported files hold no Python code, and our loaders run none."""

import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from conftest import one_block_network
from export_fixtures import write_few
from safetensors import safe_open
from safetensors.numpy import save_file
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from keras_unet_diffusion import DiffusionModel, DiffusionProcess
from keras_unet_diffusion.export import export_model, load_exported_network
from keras_unet_diffusion.export.weights_file import write_weights
from keras_unet_diffusion.training import load_model

# Operations of TensorFlow that call Python, or touch files; SaveV2 and
# RestoreV2 are those of every SavedModel, for its own variables.
PYTHON = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}
FILES = {"ReadFile", "WriteFile", "LoadAndRemapMatrix", "PrintV2"}
# `.pkl`, `.py`, `.so` and `.keras` are among those that are not.
KINDS = {".pb", ".index", ".tflite", ".json", ".md", ".png", ".safetensors"}
# How a pickle of protocol 2 to 5 begins: with a frame, a mark or a global.
PICKLES = tuple(b"\x80" + bytes([k]) for k in (2, 3, 4, 5))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "exported"
    with pytest.MonkeyPatch.context() as patch:
        write_few(patch)
        model = DiffusionModel(one_block_network())
        export_model(model, folder, samplers=["ddpm"])
    return folder


def operations(folder):
    """Names of all operations in the graphs of a SavedModel."""
    data = (folder / "saved_model.pb").read_bytes()
    names = set()
    for graph in saved_model_pb2.SavedModel.FromString(data).meta_graphs:
        functions = graph.graph_def.library.function
        nodes = [*graph.graph_def.node]
        nodes += [node for x in functions for node in x.node_def]
        called = {x.signature.name for x in functions}
        names |= {node.op for node in nodes} - called
    return names


def test_a_saved_model_has_operations_of_tensorflow_alone(exported):
    names = operations(exported / "saved_model")
    assert {"Conv2D", "Assert"} <= names
    assert not names & (PYTHON | FILES)
    # None of another library, which would have to be loaded.
    assert all(op_def_registry.get(name) for name in names)


def test_the_check_finds_a_python_function(tmp_path):
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec((), tf.float32)])
    def call(x):
        return tf.py_function(lambda x: x + 1, [x], tf.float32)

    module.call = call
    tf.saved_model.save(module, str(tmp_path))
    assert operations(tmp_path) & PYTHON


def custom_operations(path):
    """Operations of a LiteRT file that are not built in."""
    model = schema.ModelT.InitFromObj(
        schema.Model.GetRootAsModel(path.read_bytes(), 0)
    )
    is_custom = schema.BuiltinOperator.CUSTOM
    return [
        code.customCode
        for code in model.operatorCodes
        if code.builtinCode == is_custom or code.customCode
    ]


def test_litert_files_have_built_in_operations_alone(exported):
    assert custom_operations(exported / "litert" / "float32.tflite") == []


def test_the_check_finds_an_operation_that_is_not_built_in(tmp_path):
    @tf.function(input_signature=[tf.TensorSpec((2,), tf.int32)])
    def call(seed):
        return tf.random.stateless_normal((3,), seed)

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [call.get_concrete_function()], tf.Module()
    )
    converter.target_spec.supported_ops = [
        tf.lite.OpsSet.TFLITE_BUILTINS,
        tf.lite.OpsSet.SELECT_TF_OPS,
    ]
    path = tmp_path / "flex.tflite"
    path.write_bytes(converter.convert())
    assert b"FlexStatelessRandomNormalV2" in custom_operations(path)


def test_no_file_is_a_pickle_or_of_a_kind_that_is_run(exported):
    files = [path for path in exported.rglob("*") if path.is_file()]
    for path in files:
        is_data = path.name.startswith("variables.data-")
        assert is_data or path.suffix in KINDS, path
        data = path.read_bytes()
        assert not data.startswith(PICKLES)
        assert b"__lambda__" not in data
    assert len(files) >= 9


def lambda_network():
    images = keras.Input((8, 8, 1), name="noisy_images")
    level = keras.Input((), name="noise_level")
    hidden = keras.layers.Conv2D(1, 1)(images)
    outputs = keras.layers.Lambda(lambda x: 2 * x)(hidden)
    return keras.Model({"noisy_images": images, "noise_level": level}, outputs)


def test_a_network_with_a_lambda_is_not_exported(tmp_path):
    network = lambda_network()
    with pytest.raises(ValueError, match="[Ll]ambda"):
        export_model(DiffusionModel(network), tmp_path / "out")
    with pytest.raises(ValueError, match="hold no Python code"):
        write_weights(tmp_path / "w.safetensors", network, DiffusionProcess())
    assert list(tmp_path.iterdir()) == []


def changed_weights(exported, path, change):
    """Writes the weights anew after a change of tensors and metadata."""
    with safe_open(exported / "weights.safetensors", "numpy") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    change(tensors, metadata)
    save_file(tensors, path, metadata)


def test_a_lambda_in_a_file_of_weights_is_not_run(exported, tmp_path):
    config = keras.saving.serialize_keras_object(lambda_network())

    def change(tensors, metadata):
        metadata["network"] = json.dumps(config)

    path = tmp_path / "w.safetensors"
    changed_weights(exported, path, change)
    with pytest.raises(ValueError, match="[Ll]ambda"):
        load_exported_network(path)


# Keras numbers layers by how many there were before.
A_BIAS = r"'conv2d\w*\.bias'"


def a_bias(tensors):
    return next(x for x in tensors if re.fullmatch(A_BIAS, f"'{x}'"))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda tensors, _: tensors.pop(a_bias(tensors)), A_BIAS),
        (
            lambda tensors, _: tensors.update(more=np.zeros(1, "float32")),
            "1 that are missing, left over or of another shape, such as 'more'",
        ),
        (
            lambda tensors, _: tensors.update(
                {a_bias(tensors): np.zeros(9, "float32")}
            ),
            A_BIAS,
        ),
        (lambda _, metadata: metadata.clear(), "says nothing of the network"),
    ],
)
def test_weights_that_are_not_the_networks_are_refused(
    exported, tmp_path, change, message
):
    path = tmp_path / "w.safetensors"
    changed_weights(exported, path, change)
    with pytest.raises(ValueError, match=message):
        load_exported_network(path)


def test_damaged_weights_are_refused(exported, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes((exported / "weights.safetensors").read_bytes()[:-1])
    with pytest.raises(ValueError, match="cannot be read"):
        load_exported_network(path)


def test_a_keras_file_with_a_lambda_is_not_loaded(tmp_path):
    lambda_network().save(tmp_path / "x.keras")
    with pytest.raises(ValueError, match="[Ll]ambda"):
        load_model(tmp_path / "x.keras")
