"""Named sets of `MagnitudePreservingUNet` arguments: the published sizes.

Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion
Models" (XS to XXL) and "Guiding a Diffusion Model with a Bad Version of Itself"
(XXS). All are conditioned on the classes of ImageNet; 64x64 pixels of four
channels are the latent images of 512x512 photographs. The numbers of trainable
parameters are the published ones, which are printed in millions.
"""

_EDM2 = {
    "image_size": 64,
    "image_channels": 4,
    "channel_multipliers": (1, 2, 3, 4),
    "num_residual_blocks": 3,
    "attention_resolutions": (16, 8),
    "num_head_channels": 64,
    "num_classes": 1000,
}

MAGNITUDE_PRESERVING_PRESETS = {
    # 31,308,901 parameters.
    "edm2_xxs": _EDM2 | {"base_channels": 64},
    # 124,713,125 parameters.
    "edm2_xs": _EDM2 | {"base_channels": 128},
    # 280,212,709 parameters.
    "edm2_s": _EDM2 | {"base_channels": 192},
    # 497,807,653 parameters.
    "edm2_m": _EDM2 | {"base_channels": 256, "dropout": 0.1},
    # 777,497,957 parameters.
    "edm2_l": _EDM2 | {"base_channels": 320, "dropout": 0.1},
    # 1,119,283,621 parameters.
    "edm2_xl": _EDM2 | {"base_channels": 384, "dropout": 0.1},
    # 1,523,164,645 parameters.
    "edm2_xxl": _EDM2 | {"base_channels": 448, "dropout": 0.1},
}
