"""LiteRT files of whole models: what they compute and how much they weigh."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from labelled_network import labelled_network

from keras_unet_diffusion import (
    DDIM,
    CosineSchedule,
    DiffusionProcess,
    VelocityPrediction,
)
from keras_unet_diffusion.export.litert import (
    LITERT_PRECISIONS,
    write_litert_model,
    write_litert_models,
)
from keras_unet_diffusion.export.network import weight_bytes
from keras_unet_diffusion.export.parity import run_elsewhere
from keras_unet_diffusion.export.quantize import can_quantize_weights
from keras_unet_diffusion.export.seeded_noise import seeded_noise
from keras_unet_diffusion.generation import ImageGenerator
from keras_unet_diffusion.noise import normal_images

SHAPE = (8, 8, 1)
PROCESS = DiffusionProcess(CosineSchedule(), VelocityPrediction())
GIVEN = {"labels": np.int32([3]), "guidance_scale": np.float32(2.5)}
# Wide, so that weights outweigh graphs: 0.9 MB of them.
CHANNELS = 224


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return labelled_network(CHANNELS)


@pytest.fixture(scope="module")
def files(network, tmp_path_factory):
    """The path of the file of each precision."""
    folder = tmp_path_factory.mktemp("litert")
    paths = {
        precision: folder / f"{precision}.tflite"
        for precision in LITERT_PRECISIONS
        if precision != "weight_int8" or can_quantize_weights()
    }
    write_litert_models(paths, network, PROCESS, SHAPE)
    return paths


@pytest.fixture(scope="module")
def expected(network):
    """Two images of ten steps, with the same guidance and noise."""
    return ImageGenerator(network, PROCESS).generate(
        2,
        labels=3,
        num_steps=10,
        seed=7,
        sampler=DDIM(),
        guidance_scale=GIVEN["guidance_scale"],
    )


def noise_of(seed, count):
    return normal_images(seed, 0, count, SHAPE).numpy()


def runner(path, name):
    return Interpreter(str(path)).get_signature_runner(name)


def test_float32_files_make_the_models_images(files, expected):
    generate = runner(files["float32"], "generate")
    step = runner(files["float32"], "step")
    ten = np.int32(10)
    for noise, image in zip(noise_of(7, 2), expected, strict=True):
        images = generate(noise=noise[None], num_steps=ten, **GIVEN)["images"]
        x_t = noise[None]
        for k in range(10):
            arguments = {"step": np.int32(k), "num_steps": ten} | GIVEN
            x_t = step(x_t=x_t, **arguments)["x_next"]
        # Float32 roundings, amplified by ten steps of a random network.
        for made in (images, x_t):
            assert np.abs(made[0] - image).max() < 2e-5 * expected.std()


def test_what_reduced_weights_lose_is_bounded(network, files):
    # Shares of the spread, root mean square: roundings of 2**-12 and of half
    # of 1/127 of a channel's greatest weight, through three layers, and for
    # dynamic_int8 of the images that enter them, too.
    bounds = {"float16": 1e-3, "weight_int8": 0.03, "dynamic_int8": 0.05}
    inputs = {
        "noisy_images": noise_of(7, 8),
        "noise_level": np.linspace(0, 999, 8).astype("float32"),
        "labels": np.arange(8, dtype="int32") % 4,
    }
    expected = np.asarray(network(inputs))
    for precision in bounds.keys() & files.keys():
        denoise = runner(files[precision], "denoise")
        outputs = [
            denoise(**{name: x[k : k + 1] for name, x in inputs.items()})
            for k in range(8)
        ]
        outputs = np.concatenate([x["prediction"] for x in outputs])
        error = np.sqrt(np.mean((outputs - expected) ** 2)) / expected.std()
        # More than that of float32: else nothing would have been reduced.
        assert 1e-5 < error < bounds[precision], precision


def test_float16_files_keep_the_schedule(files, expected):
    images = runner(files["float16"], "generate")(
        noise=noise_of(7, 1), num_steps=np.int32(10), **GIVEN
    )["images"]
    # NaN if the first share of the image were rounded to float16. Weights of
    # 11 bits, through three layers and ten steps, times a guidance of 2.5.
    assert np.abs(images[0] - expected[0]).max() < 0.02 * expected.std()


def test_signatures_share_one_copy_of_the_weights(network, files):
    weights = weight_bytes(network)
    graphs = 0.2 * weights
    for precision, path in files.items():
        share = LITERT_PRECISIONS[precision] / 4 * weights
        assert share <= path.stat().st_size < share + graphs


def test_elsewhere_each_image_of_a_batch_is_made(files, expected):
    noise = {"noise": noise_of(7, 2), "num_steps": np.int32(10)}
    given = {
        "labels": np.int32([3, 3]),
        "guidance_scale": GIVEN["guidance_scale"],
    }
    calls = [(name, noise | given) for name in ("generate", "step")]
    for result in run_elsewhere("litert", files["float32"], calls):
        # Float32 roundings, amplified by ten steps of a random network.
        off = np.abs(result["output"] - expected).max()
        assert off < 2e-5 * expected.std()
        assert result["milliseconds"] > 0


def test_a_seed_makes_the_images_of_its_noise(files):
    seeded = runner(files["float32"], "generate_seeded")
    generate = runner(files["float32"], "generate")
    steps, made = np.int32(3), []
    for seed in (np.int32(5), np.int32(6)):
        made.append(seeded(seed=seed, num_steps=steps, **GIVEN)["images"])
        noise = seeded_noise(seed, (1, *SHAPE)).numpy()
        images = generate(noise=noise, num_steps=steps, **GIVEN)["images"]
        # Roundings of other sines and logarithms.
        np.testing.assert_allclose(made[-1], images, atol=1e-4)
    assert np.abs(made[0] - made[1]).max() > 0.1


@pytest.mark.parametrize("wrong", [(-1, 5), (5, 5), (0, 0), (0, 1001)])
def test_steps_that_do_not_exist_are_refused(files, wrong):
    step, num_steps = map(np.int32, wrong)
    with pytest.raises(RuntimeError, match="gather index|[Dd]ivision by 0"):
        runner(files["float32"], "step")(
            x_t=noise_of(0, 1), step=step, num_steps=num_steps, **GIVEN
        )


@pytest.mark.parametrize("num_steps", [-1, 0, 1001])
def test_numbers_of_steps_that_do_not_exist_are_refused(files, num_steps):
    with pytest.raises(RuntimeError, match="gather index|[Dd]ivision by 0"):
        runner(files["float32"], "generate")(
            noise=noise_of(0, 1), num_steps=np.int32(num_steps), **GIVEN
        )


@pytest.mark.slow
def test_dynamic_files_take_any_batch_and_size(tmp_path):
    network = labelled_network(image_size=None)
    path = tmp_path / "dynamic.tflite"
    write_litert_model(path, network, PROCESS, (None, None, 1), batch=None)
    generate = runner(path, "generate")
    generator = ImageGenerator(network, PROCESS)
    for scale, count, size in ((1.0, 1, 8), (2.5, 3, 12)):
        images = generate(
            noise=normal_images(7, 0, count, (size, size, 1)).numpy(),
            num_steps=np.int32(5),
            labels=np.full(count, 3, "int32"),
            guidance_scale=np.float32(scale),
        )["images"]
        expected = generator.generate(
            count,
            labels=3,
            num_steps=5,
            seed=7,
            sampler=DDIM(),
            guidance_scale=scale,
            image_size=size,
        )
        # Float32 roundings, amplified by five steps of a random network.
        assert np.abs(images - expected).max() < 2e-5 * expected.std()


def test_operations_that_are_not_built_in_are_refused_by_name(tmp_path):
    class Inverse(keras.layers.Layer):
        def call(self, images):
            return images + keras.ops.erfinv(0.1 * keras.ops.tanh(images))

    network = labelled_network(marked=Inverse())
    path = tmp_path / "x.tflite"
    with pytest.raises(
        ValueError, match="Received: a network with Erfinv. Leave"
    ):
        write_litert_model(path, network, PROCESS, SHAPE)
    assert list(tmp_path.iterdir()) == []


def test_a_precision_that_no_file_has_is_refused(network, tmp_path):
    with pytest.raises(ValueError, match="precision='int4'"):
        write_litert_model(tmp_path / "x", network, PROCESS, SHAPE, "int4")
