"""The card of exported files: what they are and the code that loads them."""

from pathlib import Path

from keras_unet_diffusion.export.parity_table import format_parity_table
from keras_unet_diffusion.export.signatures import LOW_RESOLUTION

CARD_FILE = "README.md"
SAMPLES_FILE = "samples.png"
_REDUCED = {
    "float16": "weights in float16, arithmetic in float32",
    "weight_int8": "weights of 8 bits, arithmetic in float32",
    "dynamic_int8": "weights and what they multiply of 8 bits",
}


def write_card(folder, manifest, rows):
    """Writes `README.md` into a folder of exported files.

    Its code is for this very model: labels, guidance and images to enlarge
    appear only where it takes them.

    Args:
        folder: the folder.
        manifest: dict, see `describe_model` and `describe_signature`.
        rows: list of the rows of the parity table.
    """
    signatures = manifest["signatures"]
    inputs = manifest["generate"]["inputs"]
    parts = [
        "# An exported diffusion model\n",
        _introduction(manifest),
        f"![Samples of each file from the same noise]({SAMPLES_FILE})\n\n"
        "*The same noise, sampled by Keras and by each file. PSNR is of the "
        "final images, in [-1, 1].*\n",
        _measured(rows),
        _VERIFY,
        _tensorflow(manifest, inputs),
    ]
    if "litert/float32.tflite" in signatures:
        parts.append(_litert(manifest, signatures["litert/float32.tflite"]))
    if "onnx/step.onnx" in signatures:
        parts.append(_onnx(manifest, signatures["onnx/step.onnx"]))
    parts += [_WEIGHTS, _LIMITS]
    Path(folder, CARD_FILE).write_text("\n".join(parts), encoding="utf-8")


def _introduction(manifest):
    height, width, channels = manifest["image_shape"]
    classes = manifest["num_classes"]
    of = "" if classes is None else f" of {classes} classes, 0 to {classes - 1}"
    kind = manifest["prediction"].removesuffix("Prediction").lower()
    return (
        f"It makes images of {height} x {width} pixels and {channels} "
        f"channel{'s' * (channels > 1)}{of}. The network predicts the {kind}. "
        "`manifest.json` has the shape, type and range of every input, the "
        "noise schedule, and size and SHA-256 of every file. Pixels are "
        "numbers in [-1, 1]; `saved_model` has `encode_image` and "
        "`decode_image` from bytes and to them.\n"
    )


def _measured(rows):
    reduced = [
        f"- `{row['artifact']}`, {_REDUCED[name]}: off by "
        f"{row['max_difference_of_spread']:.1e} of the standard deviation in "
        f"one call, {row['mean_difference']:.1e} on average."
        f"{_of_samples(rows, row['artifact'])}"
        for row in rows
        if row["signature"] == "denoise"
        and (name := Path(row["artifact"]).stem) in _REDUCED
    ]
    text = (
        "## Measured against Keras\n\n"
        f"```text\n{format_parity_table(rows)}\n```\n\n"
        "`of spread` is the largest difference as a share of the standard "
        "deviation of what Keras returns; PSNR and `stats` (the largest "
        "difference of the channels' means and deviations) are of images that "
        "were sampled from the same noise; `peak MB` is of the whole process "
        "that ran the file. `step` is timed for one step.\n"
    )
    if reduced:
        text += "\nWhat reduced precision costs:\n\n" + "\n".join(reduced)
        text += "\n"
    return text


def _of_samples(rows, artifact):
    found = [x for x in rows if x["artifact"] == artifact and "psnr_db" in x]
    if not found:
        return ""
    psnr = found[0]["psnr_db"]
    distance = "equal to" if psnr is None else f"{psnr:.1f} dB from"
    return (
        f" Sampled images are {distance} Keras's from the same noise, their "
        "channels' means and deviations off by at most "
        f"{found[0]['statistics_difference']:.1e}."
    )


_VERIFY = """## Verify before loading

Files are programs: load only those of whom you trust, and as they were written.
With keras_unet_diffusion installed,
`keras_unet_diffusion.export.check_artifacts(".")` does this and more; without:

```python
import hashlib
import json
import pathlib

files = json.loads(pathlib.Path("manifest.json").read_text())["files"]
for name, facts in files.items():
    data = pathlib.Path(name).read_bytes()
    if hashlib.sha256(data).hexdigest() != facts["sha256"]:
        raise SystemExit(f"{name} is not the file that was exported.")
```
"""

_WEIGHTS = """## The weights alone

`weights.safetensors` holds the averaged weights in float32, named by layers;
its metadata hold the network's config. To train on, or to sample otherwise:

```python
from keras_unet_diffusion import DiffusionModel
from keras_unet_diffusion.export import load_exported_network

model = DiffusionModel(*load_exported_network("weights.safetensors"))
```
"""

_LIMITS = """## Limits

The model knows the images that it was trained on, with their biases, and may
repeat some. Whether it may be used or passed on depends on their licence, which
these files do not know.
"""


def _tensorflow(manifest, inputs):
    count = 4
    samplers = list(manifest["generate"]["samplers"])
    given = {
        "num_images": f"tf.constant({count})",
        "num_steps": "tf.constant(20)",
        "seed": "tf.constant(0, tf.int64)",
        "sampler": f'tf.constant("{samplers[0]}")',
        "labels": f"tf.constant({_labels(manifest, count)})",
        "guidance_scale": "tf.constant(2.0)  # 1.0 for none",
        LOW_RESOLUTION: "small_images  # yours, float32, in [-1, 1]",
    }
    lines = [_argument(name, given[name]) for name in inputs]
    return f"""## TensorFlow

Samplers are {", ".join(samplers)}.

```python
import tensorflow as tf

model = tf.saved_model.load("saved_model")
images = model.signatures["generate"](
{"".join(lines)})["images"]
pixels = model.signatures["decode_image"](images=images)["pixels"]
for k, image in enumerate(pixels):
    tf.io.write_file(f"image_{{k}}.png", tf.io.encode_png(image))
```
"""


def _argument(name, value):
    value, space, comment = value.partition("  #")
    return f"    {name}={value},{space}{comment}\n"


def _labels(manifest, count):
    return [k % (manifest["num_classes"] or 1) for k in range(count)]


def _condition(manifest, inputs):
    """Lines of what a numpy runtime is given beside noise and steps."""
    given = {
        "labels": f"np.int32({_labels(manifest, 1)})",
        "guidance_scale": 'np.array(2.0, "float32")  # 1.0 for none',
        LOW_RESOLUTION: "small_image  # yours, float32, in [-1, 1]",
    }
    return [_argument(name, given[name]) for name in inputs if name in given]


def _litert(manifest, signatures):
    lines = _condition(manifest, signatures["generate"]["inputs"])
    return f"""## ai-edge-litert and numpy

One image a call; `generate_seeded` takes an int32 `seed` in place of the noise.

```python
import numpy as np
from ai_edge_litert.interpreter import Interpreter

interpreter = Interpreter("litert/float32.tflite")
generate = interpreter.get_signature_runner("generate")
shape = {(1, *manifest["image_shape"])}
images = generate(
    noise=np.random.default_rng(0).standard_normal(shape).astype("float32"),
    num_steps=np.array(20, "int32"),
{"".join(lines)})["images"]
pixels = np.round((np.clip(images, -1, 1) + 1) * 127.5).astype("uint8")
```
"""


def _onnx(manifest, signatures):
    inputs = signatures["step"]["inputs"]
    lines = []
    for line in _condition(manifest, inputs):
        name, _, value = line.strip().partition("=")
        value, space, comment = value.partition(",  #")
        value = value.removesuffix(",")
        lines.append(f'    "{name}": {value},{space and "  #"}{comment}\n')
    remembers = "previous_estimate" in inputs
    first = '\n    inputs["previous_estimate"] = x_0' if remembers else ""
    return f"""## onnxruntime and numpy

The loop is the host's.

```python
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("onnx/step.onnx")
num_steps = 20
shape = {(1, *manifest["image_shape"])}
x = np.random.default_rng(0).standard_normal(shape).astype("float32")
x_0 = np.zeros_like(x)
inputs = {{
    "num_steps": np.array(num_steps, "int32"),
{"".join(lines)}}}
for step in range(num_steps):
    inputs |= {{"x_t": x, "step": np.array(step, "int32")}}{first}
    x, x_0 = session.run(["x_next", "x_0"], inputs)
pixels = np.round((np.clip(x, -1, 1) + 1) * 127.5).astype("uint8")
```
"""
