"""A SavedModel without functions for gradients, which take most of its time."""

from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

# What marks an operation whose gradient is computed otherwise than its own.
_MARK = "_gradient_op_type"


def save_with_plain_gradients(module, path, signatures):
    """Writes a SavedModel whose operations have their own gradients alone.

    Activations such as silu bring a gradient that saves memory in training.
    Stored, each is one more graph, to be traced here and read wherever the
    file is loaded; left out but named, each loader warns. Without the names
    gradients are those of the operations that it is made of: the same numbers.

    Args:
        module: the `tf.Module` to save.
        path: folder to write, which does not exist yet.
        signatures: dict of functions by name.
    """
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(path), signatures, options)
    file = Path(path, "saved_model.pb")
    content = SavedModel.FromString(file.read_bytes())
    for graph in content.meta_graphs:
        functions = graph.graph_def.library.function
        for nodes in (graph.graph_def.node, *(x.node_def for x in functions)):
            for node in nodes:
                node.attr.pop(_MARK, None)
    file.write_bytes(content.SerializeToString(deterministic=True))
    # It is of the content before. TensorFlow loads without one.
    Path(path, "fingerprint.pb").unlink(missing_ok=True)
