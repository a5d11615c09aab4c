"""Checkpoints of the original DDPM, written by TensorFlow 1."""

from keras_unet_diffusion.weights.limits import (
    PLAIN_LIMITS,
    check_limits,
    width_problems,
)
from keras_unet_diffusion.weights.named_shapes import multiplier, unless
from keras_unet_diffusion.weights.tensor_map import NIN, UNCHANGED
from keras_unet_diffusion.weights.unet_layout import TensorStyle, UNetLayout

# Downsampling and upsampling that go together.
RESAMPLING = {"strided_conv": "nearest_conv", "average_pool": "nearest"}
LIMITS = PLAIN_LIMITS | {
    "downsampling": tuple(RESAMPLING),
    "downsample_padding": ((0, 1),),
    "num_groups": (32,),
    "epsilon": (1e-6,),
    "embedding_order": ("sin_cos",),
    "frequency_shift": (1,),
    "scale_shift": (False,),
    "num_heads": (1,),
    "num_head_channels": (None,),
    "decoder_attention": ("all",),
    "middle_attention": (True,),
    "middle_attention_norm": (True,),
    "num_classes": (None,),
    "super_resolution_factor": (None,),
}


class DDPMLayout(UNetLayout):
    """The original DDPM: TensorFlow 1 scopes, and already Keras's axes.

    Levels are numbered by resolution in both directions, so that the decoder
    runs from the highest number down. A checkpoint holds every weight twice;
    the averaged ones are those that reach the published quality, and it is
    for the reader of the file to hand out these.

    Reference:
        github.com/hojonathanho/diffusion; Ho et al. 2020.
    """

    name = "ddpm"
    landmarks = ("temb/dense0/W", "conv_in/W")
    usual_prefix = "model/"
    style = TensorStyle(
        separator="/",
        gamma="gamma",
        beta="beta",
        kernel="W",
        bias="b",
        conv=UNCHANGED,
        dense=UNCHANGED,
        shortcut=NIN,
    )
    block_names = {
        "norm_1": "norm1",
        "conv_1": "conv1",
        "injection": "temb_proj",
        "norm_2": "norm2",
        "conv_2": "conv2",
        "shortcut": "nin_shortcut",
    }
    attention_names = {
        "norm": "norm",
        "query": "q",
        "key": "k",
        "value": "v",
        "output": "proj_out",
    }

    def place(self, part, network):
        what = "attn" if part.kind == "attention" else "block"
        if part.role in ("encoder", "decoder"):
            side = "down" if part.role == "encoder" else "up"
            return f"{side}_{part.level}/{what}_{part.number - 1}"
        if part.role == "middle":
            return f"mid/{what}_{part.number or 1}"
        if part.role == "downsample":
            return f"down_{part.level}/downsample/conv"
        if part.role == "upsample":
            return f"up_{part.level}/upsample/conv"
        return {
            "noise_dense_1": "temb/dense0",
            "noise_dense_2": "temb/dense1",
            "stem": "conv_in",
            "output_norm": "norm_out",
            "output_conv": "conv_out",
        }[part.role]

    def check(self, network):
        limits = LIMITS | {
            "downsampling": tuple(RESAMPLING),
            "upsampling": (RESAMPLING.get(network.downsampling),),
        }
        base = network.base_channels
        # The stem has the base channels, whatever the first level has.
        check_limits(
            network,
            self.name,
            limits,
            width_problems(network, base, 4 * base, base),
        )

    def arguments(self, checkpoint, qkv_order=None, **given):
        shapes = self.named_shapes(checkpoint)
        # Without any, the first is what is reported to be missing.
        levels = shapes.numbers(r"down_(\d+)/block_0/conv2/W") or [0]
        blocks = shapes.numbers(r"down_0/block_(\d+)/conv2/W")
        base, embedding_channels = shapes.of("temb/dense0/W", 2)
        stem = shapes.of("conv_in/W", 4)
        channels = [
            shapes.of(f"down_{x}/block_0/conv2/W", 4)[3] for x in levels
        ]
        output_channels = shapes.of("conv_out/W", 4)[3]
        has_conv = "down_0/downsample/conv/W" in shapes or len(levels) == 1
        downsampling = "strided_conv" if has_conv else "average_pool"
        return {
            "image_size": None,
            "image_channels": stem[2],
            "output_channels": unless(output_channels, stem[2]),
            "base_channels": base,
            "stem_channels": unless(stem[3], channels[0]),
            "embedding_channels": unless(embedding_channels, 4 * base),
            "channel_multipliers": tuple(multiplier(x, base) for x in channels),
            "num_residual_blocks": len(blocks),
            "attention_resolutions": (),
            "attention_levels": tuple(
                x for x in levels if f"down_{x}/attn_0/q/W" in shapes
            ),
            "downsampling": downsampling,
            "upsampling": RESAMPLING[downsampling],
            "downsample_padding": (0, 1),
            "epsilon": 1e-6,
            "embedding_order": "sin_cos",
            "frequency_shift": 1,
            "initialization": "ddpm",
        } | given
