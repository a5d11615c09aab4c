"""Checkpoints of the `UNet2DModel` of diffusers."""

import re

from keras_unet_diffusion.weights.diffusers_comparison import compare_config
from keras_unet_diffusion.weights.diffusers_config import (
    arguments_from_config,
    check_network,
)
from keras_unet_diffusion.weights.unet_layout import UNetLayout

# Names of the projections of attention before 2023.
OLD_NAMES = {
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
    "proj_attn": "to_out.0",
}


class DiffusersLayout(UNetLayout):
    """`UNet2DModel`: blocks by level, the decoder counted from the coarsest.

    The architecture is in the config.json beside the weights; names and
    shapes alone do not determine it.

    Reference:
        github.com/huggingface/diffusers, release 0.42.1.
    """

    name = "diffusers"
    landmarks = ("time_embedding.linear_1.weight", "conv_in.weight")
    block_names = {
        "norm_1": "norm1",
        "conv_1": "conv1",
        "injection": "time_emb_proj",
        "norm_2": "norm2",
        "conv_2": "conv2",
        "shortcut": "conv_shortcut",
    }
    attention_names = {
        "norm": "group_norm",
        "query": "to_q",
        "key": "to_k",
        "value": "to_v",
        "output": "to_out.0",
    }

    def current_name(self, name):
        return re.sub(
            r"(attentions\.\d+)\.(query|key|value|proj_attn)\.",
            lambda match: f"{match[1]}.{OLD_NAMES[match[2]]}.",
            name,
        )

    def place(self, part, network):
        what = "attentions" if part.kind == "attention" else "resnets"
        above = len(network.channel_multipliers) - 1 - (part.level or 0)
        inner = ".conv" if part.kind == "conv" else ""
        if part.role == "encoder":
            return f"down_blocks.{part.level}.{what}.{part.number - 1}"
        if part.role == "decoder":
            return f"up_blocks.{above}.{what}.{part.number - 1}"
        if part.role == "middle":
            return f"mid_block.{what}.{(part.number or 1) - 1}"
        if part.role == "downsample":
            return f"down_blocks.{part.level}.downsamplers.0{inner}"
        if part.role == "upsample":
            return f"up_blocks.{above}.upsamplers.0{inner}"
        return {
            "noise_dense_1": "time_embedding.linear_1",
            "noise_dense_2": "time_embedding.linear_2",
            "label": "class_embedding",
            "stem": "conv_in",
            "output_norm": "conv_norm_out",
            "output_conv": "conv_out",
        }[part.role]

    def check(self, network):
        check_network(network, self.name)

    def arguments(self, checkpoint, qkv_order=None, **given):
        if checkpoint.config is None:
            raise ValueError(
                "The architecture of a diffusers network is in its "
                f"config.json. Received: {checkpoint.path} without one. Put "
                "the config.json beside the weights, or load the weights into "
                "a network that you build."
            )
        found = arguments_from_config(checkpoint.config, checkpoint.path)
        return found | given

    def check_config(self, network, checkpoint):
        if checkpoint.config is not None:
            compare_config(network, checkpoint.config, checkpoint.path)
