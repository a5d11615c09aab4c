"""What both backends of Keras must compute alike; a script for one of them.

`python tests/backend_cases.py FOLDER NAME...` reads the networks that are in
the folder, writes them again beside them, and writes the arrays of some cases.
"""

import functools
import sys
from pathlib import Path

import keras
import numpy as np

from keras_unet_diffusion import (
    DiffusionModel,
    DiffusionProcess,
    UNet,
    VelocityPrediction,
    layers,
)
from keras_unet_diffusion.diffusion import (
    CosineSchedule,
    FlowPrediction,
    FlowSchedule,
)
from keras_unet_diffusion.export import export_model
from keras_unet_diffusion.guidance import (
    AutoGuidance,
    ClassifierFreeGuidance,
    ClassifierGuidance,
)
from keras_unet_diffusion.samplers import DDIM, SAMPLER_NAMES, KarrasGrid
from keras_unet_diffusion.training import ExponentialMovingAverage

NUM_CLASSES = 3
SHAPE = (8, 8, 1)
NETWORKS = ("unet", "labelled", "guide", "classifier")


def small_unet():
    """A U-Net with every kind of layer, labels and a null label."""
    return UNet(
        image_size=8,
        image_channels=1,
        base_channels=8,
        channel_multipliers=(1, 2),
        num_residual_blocks=1,
        attention_resolutions=(4,),
        num_heads=2,
        num_groups=4,
        num_classes=NUM_CLASSES,
        null_label="learned",
    )


def block_network(has_labels=True, num_logits=None):
    """One residual block: it is compiled in a second, once a sampler."""
    inputs = {
        "noisy_images": keras.Input(SHAPE, name="noisy_images"),
        "noise_level": keras.Input((), name="noise_level"),
    }
    embedding = layers.NoiseLevelEmbedding(8, 8)(inputs["noise_level"])
    if has_labels:
        inputs["labels"] = keras.Input((), name="labels", dtype="int32")
        table = layers.LabelEmbedding(NUM_CLASSES, 8, null_label="learned")
        embedding = embedding + table(inputs["labels"])
    hidden = keras.layers.Conv2D(4, 3, padding="same")(inputs["noisy_images"])
    hidden = layers.ResidualBlock(4, num_groups=2)(hidden, embedding)
    if num_logits is None:
        outputs = keras.layers.Conv2D(1, 3, padding="same")(hidden)
    else:
        flat = keras.layers.Flatten()(hidden)
        outputs = keras.layers.Dense(num_logits)(flat)
    return keras.Model(inputs, outputs)


def make_networks():
    """The networks of `NETWORKS`, random, by name."""
    networks = (
        small_unet(),
        block_network(),
        block_network(has_labels=False),
        block_network(has_labels=False, num_logits=NUM_CLASSES),
    )
    random = np.random.default_rng(0)
    for network in networks:
        weights = [
            w + 0.1 * random.standard_normal(w.shape)
            for w in network.get_weights()
        ]
        network.set_weights(weights)
    return dict(zip(NETWORKS, networks, strict=True))


def arrays(networks, names):
    """Arrays of the cases of these names: images made, edited and measured."""
    model = DiffusionModel(
        networks["labelled"], DiffusionProcess(prediction=VelocityPrediction())
    )
    # What a network of this library knows of itself.
    model.ema_network.num_classes = NUM_CLASSES
    model.ema_network.null_label = "learned"
    cases = of_samplers(model) | of_guidance(model, networks)
    cases |= of_given_images(model)
    cases["trained"] = lambda: trained(networks["guide"])
    cases["unet"] = functools.partial(
        DiffusionModel(networks["unet"]).generate,
        3,
        num_steps=3,
        seed=2**62 + 5,
        guidance_scale=2.0,
    )
    return {name: cases[name]() for name in names or cases}


def trained(network):
    """The losses of three steps, and images by the average after them."""
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    model = DiffusionModel(
        copy,
        DiffusionProcess(prediction=VelocityPrediction()),
        averages=ExponentialMovingAverage(0.5),
        seed=3,
    )
    is_jax = keras.backend.backend() == "jax"
    model.compile(keras.optimizers.SGD(0.1), jit_compile=is_jax)
    images = np.random.default_rng(4).uniform(-1, 1, (4, *SHAPE))
    losses = [
        float(model.train_on_batch(images, return_dict=True)["loss"])
        for _ in range(3)
    ]
    made = model.generate(2, num_steps=3, seed=1)
    return np.concatenate([losses, made.ravel()])


def of_samplers(model):
    """Images of every sampler, the last batch smaller than the others."""
    flow = DiffusionModel(
        model.ema_network, DiffusionProcess(FlowSchedule(), FlowPrediction())
    )
    options = {"num_steps": 6, "seed": 7, "batch_size": 2}
    cases = {
        name: functools.partial(
            (flow if name.startswith("flow") else model).generate,
            3,
            sampler=name,
            **options,
        )
        for name in SAMPLER_NAMES
    }
    # Keras computes its cosines in float32 on JAX.
    cosine = DiffusionModel(
        model.ema_network,
        DiffusionProcess(CosineSchedule(), VelocityPrediction()),
    )
    cases["cosine"] = lambda: cosine.generate(
        3, sampler=DDIM(grid=KarrasGrid()), **options
    )
    cases["retrained"] = lambda: retrained(model, **options)
    cases["frames"] = lambda: model.generate(
        3, sampler="ddpm", num_frames=3, **options
    )[1]
    return cases


def retrained(model, **options):
    """Images before and after the weights have changed."""
    before = model.generate(3, **options)
    network = model.ema_network
    weights = network.get_weights()
    network.set_weights([0.5 * w for w in weights])
    after = model.generate(3, **options)
    network.set_weights(weights)
    return np.stack([before, after])


def of_guidance(model, networks):
    """Images by each kind of guidance."""
    kinds = {
        "rescaled": ClassifierFreeGuidance(rescale=0.7, interval=(0.2, 5.0)),
        "by_guide": AutoGuidance(networks["guide"]),
        "by_classifier": ClassifierGuidance(networks["classifier"]),
    }
    return {
        name: functools.partial(
            model.generate,
            3,
            num_steps=5,
            seed=3,
            guidance_scale=2.0,
            guidance=guidance,
        )
        for name, guidance in kinds.items()
    }


def of_given_images(model):
    """Images varied, completed, inverted and counted in bits."""
    random = np.random.default_rng(2)
    images = random.integers(0, 256, (2, *SHAPE)) / 127.5 - 1
    labels = np.array([0, 2])
    options = {"labels": labels, "num_steps": 6}
    mask = np.tile(np.arange(8) < 4, (8, 1))
    cases = {
        "varied": lambda: model.image_to_image(
            images, strength=0.5, seed=1, **options
        ),
        "varied_from": lambda: model.image_to_image(
            images, noise_level=1, seed=1, **options
        ),
        "inpainted": lambda: model.inpaint(
            images, mask, num_resamples=2, seed=1, **options
        ),
        "inverted": lambda: model.invert(images, **options),
        "decoded": lambda: model.decode(images, **options),
    }
    return cases | {
        method: functools.partial(
            model.bits_per_dimension,
            images,
            labels,
            method=method,
            num_steps=4,
            batch_size=1,
        )
        for method in ("variational", "flow")
    }


def num_wide_operations(network):
    """How many results of a network's operations are float64 on JAX where
    float64 is allowed, as it is in the loops."""
    import jax

    inputs = {
        name: np.ones((2, *x.shape[1:]), x.dtype)
        for name, x in network.input.items()
    }
    with jax.enable_x64(True):
        program = jax.make_jaxpr(lambda x: network(x, training=False))(inputs)
    return str(program).count("f64[")


def main(folder, *names):
    folder = Path(folder)
    networks = {
        name: keras.saving.load_model(folder / f"{name}.keras", compile=False)
        for name in NETWORKS
    }
    for name, network in networks.items():
        network.save(folder / f"{name}_again.keras")
    result = arrays(networks, names)
    result["wide_operations"] = num_wide_operations(networks["unet"])
    try:
        export_model(DiffusionModel(networks["unet"]), folder / "exported")
    except ValueError as error:
        result["export_error"] = str(error)
    np.savez(folder / "arrays.npz", **result)


if __name__ == "__main__":
    main(*sys.argv[1:])
