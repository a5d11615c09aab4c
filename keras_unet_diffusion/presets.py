"""Named sets of `UNet` arguments: published networks, and a small one."""

PRESETS = {
    # 627,433 parameters: trains on 16x16 images on a CPU in minutes.
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
    # Ho et al. 2020, appendix B: CIFAR-10, 35,746,307 parameters. Published:
    # linear schedule, 1,000 steps, noise prediction, Adam 2e-4 after 5,000
    # steps of warm-up, gradients clipped to 1, batch 128, 800k steps, average
    # 0.9999, flips; FID 3.17 at 1,000 sampling steps.
    "ddpm_cifar10": {
        "image_size": 32,
        "image_channels": 3,
        "base_channels": 128,
        "channel_multipliers": (1, 2, 2, 2),
        "num_residual_blocks": 2,
        "attention_resolutions": (16,),
        "num_heads": 1,
        "dropout": 0.1,
    },
    # Ho et al. 2020, appendix B: LSUN and CelebA-HQ at 256x256, 113,673,219
    # parameters. Published: as above with learning rate 2e-5, batch 64 and no
    # dropout; FID 6.36 (bedroom), 7.89 (church), 19.75 (cat).
    "ddpm_256": {
        "image_size": 256,
        "image_channels": 3,
        "base_channels": 128,
        "channel_multipliers": (1, 1, 2, 2, 4, 4),
        "num_residual_blocks": 2,
        "attention_resolutions": (16,),
        "num_heads": 1,
        "dropout": 0.0,
    },
}
