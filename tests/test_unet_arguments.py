"""Arguments of the U-Net that do not fit together, and what it says."""

import pytest
from conftest import SMALL

from keras_unet_diffusion import UNet
from keras_unet_diffusion.unet_arguments import CHOICES


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"image_size": 9}, "multiple of 2. Received: image_size=9. Use 8 or"),
        ({"image_size": 0}, "must be at least 1. Received: image_size=0"),
        ({"num_groups": 3}, "channels=8, num_groups=3"),
        ({"num_heads": 3}, "channels=16, num_heads=3"),
        ({"num_head_channels": 5}, "num_head_channels=5"),
        ({"attention_resolutions": (5,)}, r"\[8, 4\] pixels.*Leave out \[5\]"),
        ({"attention_levels": (2,)}, r"from 0 to 1.*Leave out \[2\]"),
        ({"attention_levels": (-1,)}, r"from 0 to 1.*Leave out \[-1\]"),
        ({"image_size": None}, "name the levels by attention_levels"),
        ({"channel_multipliers": ()}, "len.channel_multipliers.=0"),
        ({"channel_multipliers": (1, 0.3)}, "8 times 0.3, which is 2.4"),
        ({"channel_multipliers": (1, 0)}, "8 times 0, which is 0"),
        ({"dropout": 1.5}, "dropout=1.5"),
        ({"downsample_padding": (0, 0)}, r"padding=\(0, 0\)"),
        ({"resampling_kernel": (1, 2, 1)}, r"Received: kernel=\(.*1, 3, 3, 1"),
        (
            {"resampling_kernel": (1, 3, 3, 1), "upsampling": "bilinear"},
            r"resampling_kernel=\(1, 3, 3, 1\). Leave it out, or pass",
        ),
        ({"null_label": "zero"}, "num_classes=None. Pass num_classes too"),
        ({"super_resolution_factor": 3}, "factor=3 for image_size=8"),
        ({"embedding_order": "cos"}, "order='cos'"),
        ({"initialization": "he"}, "initialization='he'. Choose one of ddpm"),
        ({"epsilon": 0}, "epsilon=0"),
        ({"image_size": (8, 16)}, r"image_size=\(8, 16\). For oblong images"),
        ({"num_residual_blocks": 1.5}, "num_residual_blocks=1.5. Pass an int"),
        ({"num_heads": 2.0}, "num_heads=2.0. Pass an int"),
        ({"min_group_channels": 0}, "min_group_channels=0"),
        ({"channel_multipliers": 2}, r"multipliers=2. Pass a tuple.*\(2,\)"),
        ({"frequency_shift": 4}, "frequency_shift=4 for 4 frequencies"),
        ({"fourier_scale": -1}, "fourier_scale=-1. Pass a positive"),
        (
            {
                "context_channels": 4,
                "middle_attention": False,
                "attention_resolutions": (),
            },
            "context_channels=4 without attention",
        ),
        ({"num_head": 3}, "num_head=3. Did you mean num_heads"),
        ({"colour": 3}, "colour=3. Leave it out"),
        (
            {"noise_level_embedding": "fourier", "noise_channels": 9},
            "channels=9. Pass an even number",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        UNet(**SMALL | arguments)


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_that_does_not_exist_is_refused_with_those_that_do(name):
    first = next(choice for choice in CHOICES[name] if choice)
    message = f"Received: {name}='other'. Choose one of .*'{first}'"
    with pytest.raises(ValueError, match=message):
        UNet(**SMALL | {name: "other"})


@pytest.mark.parametrize(
    "count, advice",
    [
        ("image_channels", "whole number"),
        ("output_channels", "whole number"),
        ("base_channels", "whole number"),
        ("stem_channels", "whole number"),
        ("num_residual_blocks", "whole number"),
        ("noise_channels", "whole number"),
        ("embedding_channels", "whole number"),
        ("num_classes", "pass num_classes=None"),
        ("augmentation_channels", "whole number"),
        ("super_resolution_factor", "whole number"),
        ("context_channels", "whole number"),
    ],
)
def test_counts_below_1_are_refused(count, advice):
    message = f"{count} must be at least 1. Received: {count}=0.*{advice}"
    with pytest.raises(ValueError, match=message):
        UNet(**SMALL | {count: 0})
