"""The mistakes that are known to happen when weights are converted.

By fixture: what is wrong, what it costs at least (max |difference| over the
deviation of the right outputs; measured, and halved), and how it is made.
"""

import numpy as np
import weight_mutations as wrong
from weight_mutations import (
    arguments,
    code,
    each_tensor,
    inputs,
    layers,
    loaded,
    outputs,
    tensors,
    wiring,
)

from keras_unet_diffusion.layers import (
    BilinearUpsample,
    PyramidDownsample,
    ResidualBlock,
    SpatialSelfAttention,
    filtering,
)
from keras_unet_diffusion.weights.edm import EDMLayout
from keras_unet_diffusion.weights.guided_diffusion import GuidedDiffusionLayout


def block(**flags):
    return code(ResidualBlock, "_transform", wrong.residual_block(**flags))


def weight(layer, variable, change):
    return layers(wrong.change_weight(layer, variable, change))


def enlarged(how):
    return code(BilinearUpsample, "call", how)


def every(*_):
    return True


SKIP_FIRST = wiring("_join_skip", wrong.skip_first)
DDPM = {
    "padding (1, 1)": (1, arguments(downsample_padding=(1, 1))),
    "bilinear upsampling": (0.6, arguments(upsampling="bilinear_conv")),
    "epsilon 1e-5": (0.001, arguments(epsilon=1e-5)),
    "epsilon 1e-3": (0.1, arguments(epsilon=1e-3)),
    "cosines first": (0.5, arguments(embedding_order="cos_sin")),
    "frequency shift 0": (0.4, arguments(frequency_shift=0)),
    "no SiLU of the embedding": (0.3, block(raw_embedding=True)),
    "embedding added after norm_2": (0.3, block(bias_after_norm=True)),
    "skip before hidden": (2, SKIP_FIRST),
    "heads of 8": (0.2, arguments(num_head_channels=8)),
    "square matrices [out, in]": (
        0.8,
        each_tensor(wrong.is_square_matrix, np.transpose),
    ),
    "bfloat16 checkpoint": (
        0.01,
        each_tensor(every, wrong.rounded("bfloat16")),
    ),
    "float16 checkpoint": (0.001, each_tensor(every, wrong.rounded("float16"))),
    "bfloat16 network": (0.02, arguments(dtype="mixed_bfloat16")),
    "float16 network": (0.003, arguments(dtype="mixed_float16")),
}
DIFFUSERS = {
    "padding (0, 1)": (1, arguments(downsample_padding=(0, 1))),
    "epsilon 1e-6": (0.001, arguments(epsilon=1e-6)),
    "frequency shift 1": (0.4, arguments(frequency_shift=1)),
    "one head": (0.1, arguments(num_head_channels=None)),
    "scores over sqrt(C)": (
        0.09,
        code(SpatialSelfAttention, "_attend", wrong.scaled_by_all_channels),
    ),
    "key for value": (0.2, tensors(wrong.key_for_value)),
    "square matrices [in, out]": (
        0.4,
        each_tensor(wrong.is_square_matrix, np.transpose),
    ),
}
DIFFUSERS_SCALE_SHIFT = {
    "one head": (0.3, arguments(num_head_channels=None)),
    "labels from 1": (1, inputs(labels=lambda x: x - 1)),
}
GUIDED_NEW = {
    "rows in the legacy order": (1, loaded("legacy")),
    "4 heads": (0.1, loaded(num_heads=4, num_head_channels=None)),
}
GUIDED_LEGACY = {
    "rows in the new order": (0.7, loaded("new")),
    "rows interleaved": (0.7, loaded("interleaved", GuidedDiffusionLayout)),
    "heads of 64": (0.6, loaded(num_head_channels=64)),
    "padding (0, 1)": (1, arguments(downsample_padding=(0, 1))),
    "16 groups": (0.7, arguments(num_groups=16)),
    "sines first": (0.5, arguments(embedding_order="sin_cos")),
    "square convolutions IOHW": (
        2,
        each_tensor(wrong.is_square_conv, lambda x: x.swapaxes(0, 1)),
    ),
    "convolutions OIWH": (
        2,
        each_tensor(wrong.is_conv, lambda x: x.swapaxes(2, 3)),
    ),
}
GUIDED_UPSAMPLER = {
    "enlarged by nearest": (0.9, enlarged(wrong.enlarged_nearest)),
    "enlarged by aligned corners": (0.7, enlarged(wrong.enlarged_by_corners)),
    "enlarged by cubic": (0.4, enlarged(wrong.enlarged_cubic)),
    "low resolution first": (
        3,
        wiring("_concatenate", wrong.low_resolution_first),
    ),
    "resampling after conv_1": (1, block(resample_last=True)),
    "shift before scale": (1, layers(wrong.swap_scale_and_shift)),
    "scale without 1 +": (2, layers(wrong.forget_one_plus_scale)),
    "labels from 1": (2, inputs(labels=lambda x: x - 1)),
    "mean and variance interleaved": (
        2,
        outputs(lambda x: x[..., [0, 3, 1, 4, 2, 5]]),
    ),
}
IMPROVED = {
    "whole noise levels": (0.08, inputs(noise_level=np.floor)),
    "noise levels of 4000 steps": (0.6, inputs(noise_level=lambda x: 4 * x)),
    "variance before mean": (2, outputs(lambda x: np.roll(x, 3, axis=-1))),
}
EDM_ADM = {
    "32 groups of narrow layers": (0.7, arguments(min_group_channels=None)),
    "epsilon 1e-6": (0.003, arguments(epsilon=1e-6)),
    "sines first": (0.8, arguments(embedding_order="sin_cos")),
    "frequency shift 1": (0.003, arguments(frequency_shift=1)),
    "no SiLU of the embedding": (1, block(raw_embedding=True)),
    "shift before scale": (1, layers(wrong.swap_scale_and_shift)),
    "rows in the new order": (0.9, loaded("new", EDMLayout)),
    "rows in the legacy order": (1, loaded("legacy", EDMLayout)),
    "labels times sqrt(N)": (
        1,
        weight("label_embedding", "table", lambda x: x * 10**0.5),
    ),
}
EDM_DDPMPP = {
    "filter (1, 3, 3, 1)": (0.3, arguments(resampling_kernel=(1, 3, 3, 1))),
    "32 groups of narrow layers": (0.8, arguments(min_group_channels=None)),
    "epsilon 1e-5": (0.001, arguments(epsilon=1e-5)),
    "cosines first": (0.7, arguments(embedding_order="cos_sin")),
    "frequency shift 0": (0.006, arguments(frequency_shift=0)),
    "rows in the new order": (0.5, loaded("new", EDMLayout)),
    "sums not scaled": (1, arguments(residual_scale=1.0)),
    "skip before hidden": (2, SKIP_FIRST),
    "resampling after conv_1": (0.5, block(resample_last=True)),
    "labels without sqrt(N)": (
        0.6,
        weight("label_embedding", "table", lambda x: x / 10**0.5),
    ),
    "no bias of the labels": (
        0.09,
        weight("label_embedding", "bias", np.zeros_like),
    ),
    "augmentation ignored": (0.5, inputs(augmentation=np.zeros_like)),
}
EDM_NCSNPP = {
    "filter (1, 1)": (0.6, arguments(resampling_kernel=(1, 1))),
    "filter repeats edges": (
        0.1,
        code(filtering, "filter_images", wrong.edges_repeated),
    ),
    "shortcut before resampling": (0.01, block(shortcut_first=True)),
    "pyramid convolves, then filters": (
        0.03,
        code(PyramidDownsample, "call", wrong.convolved_then_filtered),
    ),
    "pyramid not scaled": (0.2, wiring("_scale", wrong.pyramid_raw)),
    "attention not scaled": (
        0.3,
        code(SpatialSelfAttention, "_run", wrong.attention_not_scaled),
    ),
    "cosines first": (0.9, arguments(embedding_order="cos_sin")),
    "frequencies without 2 pi": (
        0.7,
        weight(
            "noise_level_embedding",
            "waves.frequencies",
            lambda x: x / (2 * np.pi),
        ),
    ),
    "noise level not a quarter": (0.7, inputs(noise_level=lambda x: 4 * x)),
    "augmentation ignored": (0.7, inputs(augmentation=np.zeros_like)),
}

# The fixture of 35 million numbers shows nothing that DDPM's does not.
MISTAKES = {
    "ddpm_tf1_cifar10": DDPM,
    "diffusers_train_example": DIFFUSERS,
    "diffusers_small_scale_shift": DIFFUSERS_SCALE_SHIFT,
    "guided_adm64_narrow": GUIDED_NEW,
    "guided_legacy_heads": GUIDED_LEGACY,
    "guided_super_res": GUIDED_UPSAMPLER,
    "improved_cifar10": IMPROVED,
    "edm_adm_narrow": EDM_ADM,
    "edm_ddpmpp_narrow": EDM_DDPMPP,
    "edm_ncsnpp_narrow": EDM_NCSNPP,
}

# Ways to make a mistake, without a mistake.
NO_MISTAKES = {
    "arguments": ("edm_ddpmpp_narrow", arguments()),
    "loaded": ("guided_legacy_heads", loaded()),
    "loaded_by_another_layout": (
        "edm_adm_narrow",
        loaded("interleaved", EDMLayout),
    ),
    "tensors": ("edm_ncsnpp_narrow", each_tensor(every, np.copy)),
    "layers": ("edm_adm_narrow", layers(wrong.leave_alone)),
    "inputs": ("edm_ncsnpp_narrow", inputs(augmentation=np.copy)),
    "code": (
        "edm_ncsnpp_narrow",
        code(PyramidDownsample, "call", wrong.unchanged),
    ),
    "wiring": ("guided_super_res", wiring("_concatenate", wrong.unchanged)),
    "block": ("edm_ddpmpp_narrow", block()),
    "block_of_scale_and_shift": ("guided_super_res", block()),
}
