"""The smallest budget and network that a study can have."""

import dataclasses

from keras_unet_diffusion.studies.budget import (
    DIGITS,
    make_plain_cnn,
    variant,
)

SMALL = dataclasses.replace(
    DIGITS,
    base_channels=4,
    channel_multipliers=(1, 2),
    train_steps=4,
    num_checks=2,
    batch_size=8,
    validation_images=16,
    num_noise_levels=2,
    seeds=(0, 1),
)
# Two convolutions: a U-Net takes ten seconds to trace.
PLAIN = variant("plain", make_plain_cnn, num_layers=2)
