"""The card's code fits the model: what it takes appears, and nothing else."""

import itertools

import pytest

from keras_unet_diffusion.export.card import write_card

OPTIONS = ("labels", "guidance_scale", "low_resolution_images")


def card(folder, inputs, further_step_inputs=(), rows=()):
    """The card of a model that takes these inputs beside the usual ones."""
    shape = {"shape": [], "dtype": "float32"}
    of_loop = dict.fromkeys([*inputs, *further_step_inputs], shape)
    manifest = {
        "image_shape": [16, 24, 3],
        "num_classes": 5 if "labels" in inputs else None,
        "prediction": "NoisePrediction",
        "generate": {
            "inputs": ["num_images", "num_steps", "seed", "sampler", *inputs],
            "samplers": {"heun": {}, "ddpm": {}},
        },
        "signatures": {
            "saved_model": {},
            "litert/float32.tflite": {"generate": {"inputs": of_loop}},
            "onnx/step.onnx": {"step": {"inputs": of_loop}},
        },
    }
    write_card(folder, manifest, list(rows))
    return (folder / "README.md").read_text()


def code(text):
    return [part.split("```")[0] for part in text.split("```python\n")[1:]]


@pytest.mark.parametrize(
    "inputs",
    [x for n in range(4) for x in itertools.combinations(OPTIONS, n)],
    ids=" ".join,
)
def test_code_is_given_what_the_model_takes_and_nothing_else(tmp_path, inputs):
    text = card(tmp_path, inputs)
    assert ("5 classes, 0 to 4" in text) == ("labels" in inputs)
    _, tensorflow, litert, onnx, _ = blocks = code(text)
    for block in blocks:
        compile(block, "card", "exec")
    for block in (tensorflow, litert, onnx):
        for name in OPTIONS:
            assert (name in block) == (name in inputs)
        assert "previous_estimate" not in block
    assert 'sampler=tf.constant("heun")' in tensorflow
    assert "shape = (1, 16, 24, 3)" in litert


def test_a_loop_of_steps_remembers_where_the_network_does(tmp_path):
    onnx = code(card(tmp_path, (), ["previous_estimate"]))[3]
    compile(onnx, "card", "exec")
    assert 'inputs["previous_estimate"] = x_0' in onnx


def test_reduced_precision_states_what_it_does_to_samples(tmp_path):
    row = {
        "artifact": "litert/float16.tflite",
        "signature": "denoise",
        "max_difference": 0.25,
        "mean_difference": 0.125,
        "max_difference_of_spread": 0.5,
        "size_bytes": 3_000_000,
        "milliseconds_per_call": 7.0,
        "peak_bytes": 40_000_000,
    }
    samples = row | {
        "signature": "generate",
        "psnr_db": 34.56,
        "statistics_difference": 0.0625,
    }
    text = card(tmp_path, (), rows=[row, samples])
    (line,) = [x for x in text.splitlines() if x.startswith("- `litert/float")]
    for figure in ("5.0e-01", "1.2e-01", "34.6 dB", "6.2e-02"):
        assert figure in line
    (in_table,) = [x for x in text.splitlines() if " generate " in x]
    assert in_table.split()[-5:] == ["34.6", "6.2e-02", "3.00", "7.0", "40"]
