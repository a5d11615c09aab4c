"""Named sets of `UNet` arguments: published networks, and a small one.

What was published about each is in `published.py`.
"""

# Ho et al. 2020, appendix B; the defaults of UNet.
_DDPM = {
    "image_size": 32,
    "image_channels": 3,
    "base_channels": 128,
    "channel_multipliers": (1, 2, 2, 2),
    "num_residual_blocks": 2,
    "attention_resolutions": (16,),
    "num_heads": 1,
}
_DDPM_256 = _DDPM | {
    "image_size": 256,
    "channel_multipliers": (1, 1, 2, 2, 4, 4),
}

# Nichol and Dhariwal 2021: learned variances, so twice the channels come out.
_IDDPM = {
    "image_size": 64,
    "output_channels": 6,
    "base_channels": 128,
    "channel_multipliers": (1, 2, 3, 4),
    "num_residual_blocks": 3,
    "attention_resolutions": (16, 8),
    "num_heads": 4,
    "scale_shift": True,
    "downsample_padding": (1, 1),
    "epsilon": 1e-5,
    "embedding_order": "cos_sin",
    "frequency_shift": 0,
    "initialization": "adm",
}

# Dhariwal and Nichol 2021: ADM.
_ADM = _IDDPM | {
    "attention_resolutions": (32, 16, 8),
    "num_head_channels": 64,
    "downsampling": "residual_block",
    "upsampling": "residual_block",
}
_ADM_256 = _ADM | {
    "image_size": 256,
    "base_channels": 256,
    "channel_multipliers": (1, 1, 2, 2, 4, 4),
    "num_residual_blocks": 2,
}

# Karras et al. 2022, table 7: DDPM++ and NCSN++ as EDM trains them.
_EDM_DDPMPP = {
    "image_size": 32,
    "base_channels": 128,
    "channel_multipliers": (2, 2, 2),
    "stem_channels": 128,
    "num_residual_blocks": 4,
    "attention_resolutions": (16,),
    "decoder_attention": "last",
    "num_heads": 1,
    "dropout": 0.13,
    "downsampling": "residual_block",
    "upsampling": "residual_block",
    "resampling_shortcut": "conv",
    "residual_scale": 0.5**0.5,
    "num_groups": 32,
    "min_group_channels": 4,
    "epsilon": 1e-6,
    "label_embedding": "one_hot",
    "augmentation_channels": 9,
    "initialization": "edm",
}
_EDM_NCSNPP = _EDM_DDPMPP | {
    "noise_level_embedding": "fourier",
    "noise_channels": 256,
    "resampling_kernel": (1, 3, 3, 1),
    "encoder_pyramid": "residual",
}
_EDM_64 = {
    "image_size": 64,
    "channel_multipliers": (1, 2, 2, 2),
    "dropout": 0.05,
}

# UNet2DModel of diffusers, everything left at the defaults of its class.
_DIFFUSERS = {
    "image_size": None,
    "attention_resolutions": (),
    "num_residual_blocks": 2,
    "num_head_channels": 8,
    "downsample_padding": (1, 1),
    "epsilon": 1e-5,
    "embedding_order": "cos_sin",
    "frequency_shift": 0,
    "initialization": "diffusers",
}

PRESETS = {
    # Trains on 16x16 images on a CPU in minutes; not a published network.
    "tiny": {
        "image_size": 16,
        "image_channels": 1,
        "base_channels": 24,
        "channel_multipliers": (1, 2, 2),
        "num_residual_blocks": 1,
        "attention_resolutions": (8,),
        "num_heads": 4,
        "num_groups": 8,
    },
    "ddpm_cifar10": _DDPM | {"dropout": 0.1},
    "ddpm_256": _DDPM_256,
    "iddpm_cifar10": _IDDPM
    | {"image_size": 32, "channel_multipliers": (1, 2, 2, 2), "dropout": 0.3},
    "iddpm_imagenet64": _IDDPM,
    "iddpm_imagenet64_conditional": _IDDPM
    | {"base_channels": 192, "num_classes": 1000},
    "iddpm_lsun_bedroom256": _IDDPM
    | {
        "image_size": 256,
        "channel_multipliers": (1, 1, 2, 2, 4, 4),
        "num_residual_blocks": 2,
        "attention_resolutions": (16,),
        "num_heads": 1,
        "scale_shift": False,
    },
    "iddpm_upsampler_64_256": _IDDPM
    | {
        "image_size": 256,
        "base_channels": 192,
        "channel_multipliers": (1, 1, 2, 2, 4, 4),
        "num_residual_blocks": 2,
        "num_classes": 1000,
        "super_resolution_factor": 4,
    },
    "adm_imagenet64": _ADM
    | {"base_channels": 192, "dropout": 0.1, "num_classes": 1000},
    "adm_imagenet128": _ADM
    | {
        "image_size": 128,
        "base_channels": 256,
        "channel_multipliers": (1, 1, 2, 3, 4),
        "num_residual_blocks": 2,
        "num_heads": 4,
        "num_head_channels": None,
        "num_classes": 1000,
    },
    "adm_imagenet256": _ADM_256 | {"num_classes": 1000},
    "adm_imagenet256_unconditional": _ADM_256,
    "adm_lsun256": _ADM_256 | {"dropout": 0.1},
    "adm_imagenet512": _ADM_256
    | {
        "image_size": 512,
        "channel_multipliers": (0.5, 1, 1, 2, 2, 4, 4),
        "num_classes": 1000,
    },
    "adm_upsampler_64_256": _ADM_256
    | {
        "base_channels": 192,
        "num_heads": 4,
        "num_head_channels": None,
        "num_classes": 1000,
        "super_resolution_factor": 4,
    },
    "adm_upsampler_128_512": _ADM_256
    | {
        "image_size": 512,
        "base_channels": 192,
        "attention_resolutions": (32, 16),
        "num_classes": 1000,
        "super_resolution_factor": 4,
    },
    "edm_cifar10_ddpmpp": _EDM_DDPMPP,
    "edm_cifar10_ddpmpp_conditional": _EDM_DDPMPP | {"num_classes": 10},
    "edm_cifar10_ncsnpp": _EDM_NCSNPP,
    "edm_cifar10_ncsnpp_conditional": _EDM_NCSNPP | {"num_classes": 10},
    "edm_ffhq64_ddpmpp": _EDM_DDPMPP | _EDM_64,
    "edm_ffhq64_ncsnpp": _EDM_NCSNPP | _EDM_64,
    "edm_afhqv2_64_ddpmpp": _EDM_DDPMPP | _EDM_64 | {"dropout": 0.25},
    "edm_afhqv2_64_ncsnpp": _EDM_NCSNPP | _EDM_64 | {"dropout": 0.25},
    # ADM-64 without learned variances, told c_noise.
    "edm_imagenet64_adm": _ADM
    | {
        "output_channels": None,
        "base_channels": 192,
        "dropout": 0.1,
        "min_group_channels": 4,
        "num_classes": 1000,
        "null_label": "zero",
    },
    "diffusers_ddpm_cifar10": _DDPM | {"initialization": "diffusers"},
    "diffusers_ddpm_256": _DDPM_256 | {"initialization": "diffusers"},
    "diffusers_unet2d": _DIFFUSERS
    | {
        "base_channels": 224,
        "channel_multipliers": (1, 2, 3, 4),
        "attention_levels": (1, 2, 3),
    },
    "diffusers_train_example": _DIFFUSERS
    | {
        "base_channels": 128,
        "channel_multipliers": (1, 1, 2, 2, 4, 4),
        "attention_levels": (4,),
    },
    "consistency_imagenet64": _ADM
    | {
        "output_channels": None,
        "base_channels": 192,
        "num_classes": 1000,
        "initialization": "diffusers",
    },
}
