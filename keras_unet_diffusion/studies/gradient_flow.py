"""How large gradients are by depth, with and without skips and shortcuts."""

import keras
import numpy as np
from keras import ops

from keras_unet_diffusion.backends import gradients
from keras_unet_diffusion.layers import ResidualBlock
from keras_unet_diffusion.studies.budget import variant
from keras_unet_diffusion.studies.figures import (
    draw_lines,
    label_axes,
    new_figure,
    use_log_scale,
)
from keras_unet_diffusion.studies.report import Result
from keras_unet_diffusion.studies.surgery import rewired

_NUM_IMAGES = 64


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class BlockWithoutShortcut(ResidualBlock):
    """A residual block without what makes it one.

    It has the shortcut's weights, so that nothing else differs, and takes
    away what they add. See `ResidualBlock` for arguments and shapes; it does
    not resample.
    """

    def call(self, inputs, embedding, training=False):
        outputs = super().call(inputs, embedding, training=training)
        shortcut = inputs if self.shortcut is None else self.shortcut(inputs)
        return outputs / self.residual_scale - shortcut


def without_shortcuts(network):
    """A new network like one of residual blocks, without their shortcuts."""

    def call(layer, *arguments, **options):
        if isinstance(layer, ResidualBlock):
            layer = BlockWithoutShortcut.from_config(layer.get_config())
        return layer(*arguments, **options)

    return rewired(network, call)


def variants(budget):
    """The networks that are compared, a list of `Variant`.

    Initial weights are PyTorch's, because those of DDPM let no gradient
    through but by shortcuts.
    """
    usual = {"initialization": "diffusers"}
    cut = usual | {"skip_connections": "none"}
    return [
        variant("skips and shortcuts", **usual),
        variant("shortcuts alone", **cut),
        variant("skips alone", change=without_shortcuts, **usual),
        variant("neither", change=without_shortcuts, **cut),
    ]


def run(laboratory):
    """Measures gradients by depth, at first and after training.

    Args:
        laboratory: a `Laboratory`.

    Returns:
        A `Result`.
    """
    trained = laboratory.train_all(variants(laboratory.budget))
    rows, curves = [], {"at first": {}, "after training": {}}
    for each in trained:
        found = []
        for weights in (each.initial, each.weights):
            norms = []
            for of_seed in weights:
                each.network.set_weights(of_seed)
                norms.append(gradient_sizes(each.network, *_batch(laboratory)))
            found.append(np.array(norms))
        for when, norms in zip(curves, found, strict=True):
            curves[when][each.name] = norms
        rows.append(
            [each.name, each.loss]
            + [size for norms in found for size in (norms[:, 0], norms[:, -1])]
            + [norms.max(axis=1) / norms.min(axis=1) for norms in found]
        )
    return Result(
        "gradient_flow",
        (
            "network",
            "loss",
            "first block, at first",
            "last block, at first",
            "first block, after training",
            "last block, after training",
            "largest / least, at first",
            "largest / least, after training",
        ),
        rows,
        {"curves": curves, "blocks": _block_names(trained[0].network)},
    )


def gradient_sizes(network, inputs, target):
    """Root mean square of the loss's gradient in each residual block.

    Args:
        network: a functional `keras.Model` of `ResidualBlock`s.
        inputs: dict of its inputs.
        target: what it ought to predict.

    Returns:
        float array `(blocks,)`: of the kernel of the first convolution of
        each, in the order of computation.
    """
    kernels = [x.conv_1.kernel for x in _blocks(network)]
    found = gradients(
        lambda: ops.mean(ops.square(network(inputs) - target)), kernels
    )
    return np.sqrt([float(ops.mean(ops.square(x))) for x in found])


def _blocks(network):
    """Residual blocks in the order of computation: `layers` has the order of
    depth, which is the same, as no two of them are side by side."""
    return [x for x in network.layers if isinstance(x, ResidualBlock)]


def _block_names(network):
    return [block.name for block in _blocks(network)]


def _batch(laboratory):
    """Images at all times, and what is to be predicted."""
    validation = laboratory.validation
    images = validation.images[:_NUM_IMAGES]
    noise = validation.noise[:_NUM_IMAGES]
    times = np.resize(validation.times, len(images)).astype("float32")
    process = validation.process
    x_t = process.corrupt(images, noise, times)
    inputs = {
        "noisy_images": process.network_input(x_t, times),
        "noise_level": process.noise_level(times),
    }
    return inputs, process.target(images, noise, times)


def draw(result):
    """Draws the `Result`: gradients over depth, at first and in the end."""
    series = result.series
    names = series["blocks"]
    figure, axes = new_figure(2, height=2.9)
    depth = np.arange(1, len(names) + 1)
    for axis, (when, lines) in zip(axes, series["curves"].items(), strict=True):
        use_log_scale(axis)
        axis.set_xticks(depth)
        draw_lines(axis, depth, lines, label_ends=when == "after training")
        label_axes(axis, "residual block, from the image", "", when)
    axes[0].set_ylabel("gradient, root mean square", fontsize=8)
    return figure
