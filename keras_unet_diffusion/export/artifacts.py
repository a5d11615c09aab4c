"""One call that writes all artifacts of a model and proves them."""

import importlib.util

import tensorflow as tf

from keras_unet_diffusion.backends import is_jax
from keras_unet_diffusion.export.card import SAMPLES_FILE, write_card
from keras_unet_diffusion.export.file_tensors import (
    litert_tensors,
    onnx_tensors,
)
from keras_unet_diffusion.export.litert import write_litert_models
from keras_unet_diffusion.export.manifest import (
    describe_model,
    describe_signature,
    write_json,
    write_manifest,
)
from keras_unet_diffusion.export.network import rebuild_in_float32
from keras_unet_diffusion.export.onnx import write_onnx
from keras_unet_diffusion.export.parity import run_elsewhere
from keras_unet_diffusion.export.pictures import write_samples
from keras_unet_diffusion.export.proof import Proof
from keras_unet_diffusion.export.saved_model import write_saved_model
from keras_unet_diffusion.export.signatures import SharedNetwork
from keras_unet_diffusion.export.step_table import step_rows
from keras_unet_diffusion.export.stopwatch import Stopwatch
from keras_unet_diffusion.export.weights_file import write_weights
from keras_unet_diffusion.files import check_new_folder, written_whole
from keras_unet_diffusion.generation import ImageGenerator
from keras_unet_diffusion.network_calls import network_image_shape
from keras_unet_diffusion.samplers import make_sampler

# What an application can choose from unless told otherwise.
SAMPLERS = ("ddim", "ddpm", "dpm_solver_2", "heun")
# The LiteRT files of one image a call, and those of any number.
PRECISIONS = ("float32", "float16", "dynamic_int8", "weight_int8")
DYNAMIC_PRECISIONS = ("float32",)
# What writes and proves some files, and is not needed for others.
_PACKAGES = {
    "onnx": ("tf2onnx", "onnxruntime"),
    "weight_int8": ("ai_edge_quantizer",),
}


def missing_packages():
    """What is not installed, without which some files are left out.

    Returns:
        Dict of lists of the names of packages, by "onnx" and "weight_int8";
        empty if there are all.
    """
    find = importlib.util.find_spec
    missing = {
        what: [name for name in names if find(name) is None]
        for what, names in _PACKAGES.items()
    }
    return {what: names for what, names in missing.items() if names}


def export_model(
    model,
    out,
    samplers=SAMPLERS,
    image_size=None,
    xla=False,
    report=lambda line: None,
):
    """Writes the files by which other applications use a model.

    `out` then holds `saved_model/`, `litert/*.tflite`, `onnx/*.onnx` and
    `weights.safetensors`, and beside them `README.md` (a card with the code
    that loads them), `samples.png` (the same noise sampled by Keras and by
    each file), `parity.json` (how far each is from Keras, size, time, memory)
    and `manifest.json` (shapes, ranges, noise schedule, and size and hash of
    each file, see `check_artifacts`). What needs packages that are not
    installed is left out, see `missing_packages`. Each artifact is loaded in
    another process, where this package cannot be imported, and compared with
    the Keras model: a float32 artifact that is off by more than 1e-5 of the
    output's standard deviation fails the export, unless the Keras model
    itself is about as far from what float64 gives. The averaged weights are
    exported, in float32.

    Args:
        model: a `DiffusionModel`.
        out: folder to write, new or empty; it appears whole or not at all.
        samplers: what the signature `generate` of the SavedModel can choose
            from: a sequence of names, see `samplers.SAMPLER_NAMES`, or a dict
            of `Sampler`s.
        image_size: int, height and width in pixels, only for a network of
            any size.
        xla: bool. Whether XLA compiles the SavedModel's network where it is
            loaded: faster calls after a first one of seconds or minutes.
        report: function that is called with a line of text after each file
            that was written or compared, such as `print`.

    Returns:
        List of the rows of the parity table, see `format_parity_table`.

    Raises:
        ValueError: Keras runs on JAX, the folder is not empty, the network
            says nothing of the image where sampling begins (as `generate`
            refuses too), or an artifact fails.

    Example:

    ```python
    rows = export_model(model, "exported")
    print(format_parity_table(rows))
    ```
    """
    if is_jax():
        raise ValueError(
            "TensorFlow makes the files for other applications. Received: a "
            "model on the backend 'jax'. Save it, and export it in a process "
            "with KERAS_BACKEND=tensorflow: the saved model is the same for "
            "both."
        )
    check_new_folder(out)
    # On the CPU: a GPU may round convolutions to 10 bits (TF32), which would
    # hide what the artifacts themselves do.
    with tf.device("CPU:0"):
        return _export_on_cpu(
            model, out, samplers, image_size, xla, Stopwatch(report)
        )


def _export_on_cpu(model, out, samplers, image_size, xla, stopwatch):
    process = model.process
    # Refused now, not after minutes.
    step_rows(process)
    network = rebuild_in_float32(model.ema_network)
    if not isinstance(samplers, dict):
        samplers = {name: make_sampler(name) for name in samplers}
    generator = ImageGenerator(network, process)
    image_shape = generator.image_shape(image_size)
    facts = describe_model(network, process, samplers, image_shape)
    with written_whole(out) as folder:
        folder.mkdir()
        writer = _Writer(folder, network, process, image_shape, stopwatch)
        tensors = writer.write(samplers, xla)
        facts["onnx_opset"] = writer.onnx_opset
        facts["signatures"] = {
            artifact: {
                name: describe_signature(*pair, network, process)
                for name, pair in signatures.items()
            }
            for artifact, signatures in tensors.items()
        }
        of_generate = facts["signatures"]["saved_model"]["generate"]
        facts["generate"]["inputs"] = list(of_generate["inputs"])
        proof = _prove(
            Proof(folder, generator, image_shape, run_elsewhere),
            samplers,
            tensors,
            stopwatch,
        )
        write_json(folder / "parity.json", proof.rows)
        write_samples(folder / SAMPLES_FILE, proof.samples)
        write_card(folder, facts, proof.rows)
        write_manifest(folder, facts)
    return proof.rows


class _Writer:
    """Writes the artifacts of one model."""

    def __init__(self, folder, network, process, image_shape, stopwatch):
        self.folder = folder
        self.network = network
        self.process = process
        self.image_shape = image_shape
        self.stopwatch = stopwatch
        self.any_size = network_image_shape(network)
        self.missing = missing_packages()
        self.onnx_opset = None

    def write(self, samplers, xla):
        """Writes all; returns tensors of their signatures by their paths."""
        network, process = self.network, self.process
        with self.stopwatch("saved_model/ written"):
            path = self.folder / "saved_model"
            of_saved_model = write_saved_model(
                path, network, process, samplers, self.image_shape, xla
            )
        with self.stopwatch("weights.safetensors written"):
            write_weights(self.folder / "weights.safetensors", network, process)
        tensors = {"saved_model": of_saved_model} | self._write_litert()
        if "onnx" not in self.missing:
            with self.stopwatch("onnx/ written"):
                self.onnx_opset = write_onnx(
                    self.folder / "onnx", network, process, self.any_size
                )
            for path in sorted((self.folder / "onnx").glob("*.onnx")):
                tensors[f"onnx/{path.name}"] = {path.stem: onnx_tensors(path)}
        return tensors

    def _write_litert(self):
        # Traced once for each batch size, whatever signature calls it.
        function = tf.function(
            lambda inputs: self.network(inputs, training=False), autograph=False
        )
        shared = SharedNetwork(self.network, function)
        tensors = {}
        for precisions, suffix, shape, batch in (
            (PRECISIONS, "", self.image_shape, 1),
            (DYNAMIC_PRECISIONS, "_dynamic", self.any_size, None),
        ):
            folder = self.folder / "litert"
            paths = {
                precision: folder / f"{precision}{suffix}.tflite"
                for precision in precisions
                if precision not in self.missing
            }
            write_litert_models(
                paths, shared, self.process, shape, batch, self.stopwatch
            )
            for path in paths.values():
                tensors[f"litert/{path.name}"] = litert_tensors(path)
        return tensors


def _prove(proof, samplers, tensors, stopwatch):
    with stopwatch("saved_model/ compared"):
        proof.prove_saved_model(samplers)
    for name in tensors:
        if name.startswith("litert/"):
            with stopwatch(f"{name} compared"):
                proof.prove_litert(name, name.startswith("litert/float32"))
    if any(name.startswith("onnx/") for name in tensors):
        with stopwatch("onnx/ compared"):
            proof.prove_onnx("onnx")
    return proof
