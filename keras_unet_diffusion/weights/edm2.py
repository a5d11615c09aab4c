"""Checkpoints of EDM2: the magnitude-preserving U-Net."""

import re

from keras_unet_diffusion.weights.layout import Layout
from keras_unet_diffusion.weights.named_shapes import (
    check_heads,
    multiplier,
)
from keras_unet_diffusion.weights.tensor_map import (
    CONV,
    DENSE,
    TensorEntry,
    pointwise,
    qkv_kernel,
    qkv_rows,
)

# What EDM2 takes for heads, unless it was changed there.
HEAD_CHANNELS = 64


class EDM2Layout(Layout):
    """EDM2's network; blocks are named by the resolution that they work at.

    There are no biases and no normalisations with weights. Kernels are stored
    as they are trained: the network normalises them whenever it uses them. A
    checkpoint also holds what predicts the uncertainty of the training loss,
    `logvar_*`, which is no part of the network and is left aside.

    Reference:
        Karras et al. 2024, "Analyzing and Improving the Training Dynamics of
        Diffusion Models", appendix B.
    """

    name = "edm2"
    network = "MagnitudePreservingUNet"
    landmarks = ("emb_fourier.freqs", "emb_noise.weight")
    usual_prefix = "unet."

    def ignores(self, name):
        return re.match(r"(.*\.)?logvar_(fourier|linear)\.", name) is not None

    def check(self, network):
        if network.image_size is None:
            raise ValueError(
                "The edm2 layout names blocks by their size in pixels. "
                "Received: a network with image_size=None. Build it with an "
                "image_size."
            )

    def entries(self, network, qkv_order=None):
        self.check(network)
        self.refuse_qkv_order(qkv_order)
        embedding = network.get_layer("embedding")
        size = network.image_size
        entries = [
            TensorEntry("emb_fourier.freqs", embedding.waves.frequencies),
            TensorEntry("emb_fourier.phases", embedding.waves.phases),
            TensorEntry(
                "emb_noise.weight", embedding.noise_projection.kernel, DENSE
            ),
        ]
        if network.num_classes is not None:
            entries.append(
                TensorEntry("emb_label.weight", embedding.label_table, DENSE)
            )
        stem = network.get_layer("stem")
        entries.append(
            TensorEntry(f"enc.{size}x{size}_conv.weight", stem.kernel, CONV)
        )
        for name, layer in _blocks(network):
            entries += self.block_entries(name, network.get_layer(layer))
        output = network.get_layer("output_conv")
        return entries + [
            TensorEntry("out_conv.weight", output.kernel, CONV),
            TensorEntry("out_gain", output.gain),
        ]

    def block_entries(self, name, block):
        entries = [
            TensorEntry(f"{name}.conv_res0.weight", block.conv_1.kernel, CONV),
            TensorEntry(
                f"{name}.emb_linear.weight", block.modulation.kernel, DENSE
            ),
            TensorEntry(f"{name}.emb_gain", block.modulation.gain),
            TensorEntry(f"{name}.conv_res1.weight", block.conv_2.kernel, CONV),
        ]
        if block.shortcut is not None:
            entries.append(
                TensorEntry(
                    f"{name}.conv_skip.weight", block.shortcut.kernel, CONV
                )
            )
        attention = block.attention
        if attention is not None:
            layers = (attention.query, attention.key, attention.value)
            kernels = [layer.kernel for layer in layers]
            heads = block.channels // attention.num_head_channels
            rows = qkv_rows("interleaved", heads, block.channels)
            entries += [
                TensorEntry(
                    f"{name}.attn_qkv.weight", kernels, qkv_kernel(rows, 4)
                ),
                TensorEntry(
                    f"{name}.attn_proj.weight",
                    attention.output_projection.kernel,
                    pointwise(4),
                ),
            ]
        return entries

    def arguments(self, checkpoint, qkv_order=None, **given):
        shapes = self.named_shapes(checkpoint)
        sizes = shapes.numbers(r"enc\.(\d+)x\d+_block0\.conv_res0\.weight")
        sizes = sizes[::-1]
        top = f"enc.{sizes[0]}x{sizes[0]}" if sizes else "enc"
        base, channels_in, _, _ = shapes.of(f"{top}_conv.weight", 4)
        channels = [
            shapes.of(f"enc.{x}x{x}_block0.conv_res1.weight", 4)[0]
            for x in sizes
        ]
        projections = shapes.matching(r".*\.attn_qkv\.weight")
        head_channels = given.get("num_head_channels", HEAD_CHANNELS)
        check_heads(
            head_channels, {shapes.of(x.string, 4)[1] for x in projections}
        )
        found = {
            "image_size": sizes[0],
            # Beside the image there is a channel of ones.
            "image_channels": channels_in - 1,
            "base_channels": base,
            "channel_multipliers": tuple(multiplier(x, base) for x in channels),
            "num_residual_blocks": len(
                shapes.numbers(top + r"_block(\d+)\.conv_res0\.weight")
            ),
            "attention_resolutions": tuple(
                x
                for x in sizes
                if f"enc.{x}x{x}_block0.attn_qkv.weight" in shapes
            ),
            "num_head_channels": head_channels,
        }
        if "emb_label.weight" in shapes:
            found["num_classes"] = shapes.of("emb_label.weight", 2)[1]
        return found | given


def _blocks(network):
    """Names of every block, there and here, in the order of their use."""
    sizes = [network.image_size >> x for x in range(_num_levels(network))]
    numbers = range(network.num_residual_blocks + 1)
    for level, size in enumerate(sizes):
        if level > 0:
            ours = f"encoder_{2 * size}x{2 * size}_downsample"
            yield f"enc.{size}x{size}_down", ours
        for number in numbers[:-1]:
            ours = f"encoder_{size}x{size}_block_{number + 1}"
            yield f"enc.{size}x{size}_block{number}", ours
    for number in (0, 1):
        size = sizes[-1]
        yield f"dec.{size}x{size}_in{number}", f"middle_block_{number + 1}"
    for size in reversed(sizes):
        if size != sizes[-1]:
            half = size // 2
            yield f"dec.{size}x{size}_up", f"decoder_{half}x{half}_upsample"
        for number in numbers:
            ours = f"decoder_{size}x{size}_block_{number + 1}"
            yield f"dec.{size}x{size}_block{number}", ours


def _num_levels(network):
    return len(network.channel_multipliers)
