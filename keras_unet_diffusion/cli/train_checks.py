"""Which flags of the command that trains fit together."""

import math

from keras_unet_diffusion.cli.process_choices import SCHEDULES
from keras_unet_diffusion.presets import PRESETS


def check_flags(values):
    """Raises a `ValueError` for numbers that do not fit together."""
    values.steps_per_epoch = min(values.steps_per_epoch, values.train_steps)
    values.steps_per_execution = min(
        values.steps_per_execution, values.steps_per_epoch
    )
    for name in (
        "batch_size",
        "train_steps",
        "steps_per_epoch",
        "steps_per_execution",
        "sample_epochs",
        "checkpoint_epochs",
        "accumulation_steps",
        "num_devices",
        "keep_checkpoints",
        "max_skipped_steps",
    ):
        if values[name].value < 1:
            raise ValueError(
                f"--{name} must be at least 1. Received: "
                f"--{name}={values[name].value}. Pass a positive whole number."
            )
    for whole, part in (
        ("train_steps", "steps_per_epoch"),
        ("steps_per_epoch", "steps_per_execution"),
        # Else the gradients of the last steps would update nothing.
        ("train_steps", "accumulation_steps"),
        ("batch_size", "num_devices"),
    ):
        if values[whole].value % values[part].value:
            raise ValueError(
                f"--{whole} must be a multiple of --{part}. Received: "
                f"--{whole}={values[whole].value} and --{part}="
                f"{values[part].value}. Change one of them."
            )
    _check_optimizer(values)
    _check_lists(values)
    if not 0 <= values.seed < 2**32:
        raise ValueError(
            f"--seed is out of range. Received: --seed={values.seed}. Pass a "
            f"number from 0 to {2**32 - 1}."
        )
    _check_process(values)
    if values.preset not in PRESETS:
        raise ValueError(
            "There is no preset of that name. Received: --preset="
            f"{values.preset}. Choose one of {', '.join(PRESETS)}."
        )


def _check_optimizer(values):
    is_rate = math.isfinite(values.learning_rate) and values.learning_rate > 0
    if not is_rate or values.warmup_steps < 0:
        raise ValueError(
            "--learning_rate must be positive and --warmup_steps not "
            f"negative. Received: --learning_rate={values.learning_rate} and "
            f"--warmup_steps={values.warmup_steps}. Leave them out for the "
            "defaults."
        )
    if not 0 <= values.weight_decay < math.inf:
        raise ValueError(
            "--weight_decay is not negative. Received: --weight_decay="
            f"{values.weight_decay}. Leave it out for none; 0.01 is usual."
        )
    is_inverse_root = values.learning_rate_schedule == "inverse_root"
    if is_inverse_root != (values.decay_steps is not None):
        raise ValueError(
            "--decay_steps and --learning_rate_schedule=inverse_root belong "
            f"together. Received: --learning_rate_schedule="
            f"{values.learning_rate_schedule} and --decay_steps="
            f"{values.decay_steps}. Pass both or none."
        )
    if values["ema_decay"].present and values.half_life_images is not None:
        raise ValueError(
            "The average in use has one length. Received: --ema_decay="
            f"{values.ema_decay} and --half_life_images="
            f"{values.half_life_images}. Pass one of them."
        )


def _check_lists(values):
    resolutions = values.attention_resolutions or []
    if not all(resolution.isdecimal() for resolution in resolutions):
        raise ValueError(
            "--attention_resolutions are heights in pixels by commas. "
            f"Received: --attention_resolutions={','.join(resolutions)}. Pass "
            "whole numbers, such as 16,8."
        )
    try:
        for deviation in values.power_averages or []:
            float(deviation)
    except ValueError:
        raise ValueError(
            "--power_averages are relative deviations by commas. Received: "
            f"--power_averages={','.join(values.power_averages)}. Pass "
            "numbers, such as 0.05,0.1."
        ) from None
    batches = values.profile_batches
    if batches is None:
        return
    is_pair = len(batches) == 2 and all(x.isdecimal() for x in batches)
    if not is_pair or not 1 <= int(batches[0]) <= int(batches[1]):
        raise ValueError(
            "--profile_batches are the first and the last step to profile. "
            f"Received: --profile_batches={','.join(batches)}. Pass two "
            "numbers from 1 on, such as 50,60."
        )


def _check_process(values):
    num_timesteps = SCHEDULES[values.schedule]().num_timesteps
    most = num_timesteps or math.inf
    if not 1 <= values.num_sampling_steps <= most:
        known = f"{most:,}" if num_timesteps else "any number of"
        raise ValueError(
            f"The {values.schedule} schedule has {known} steps. Received: "
            f"--num_sampling_steps={values.num_sampling_steps}. Pass a number "
            f"from 1{f' to {most}' if num_timesteps else ' on'}."
        )
    ends_in_noise = values.schedule == "flow" or values.zero_terminal_snr
    if ends_in_noise and values.prediction in ("noise", "score"):
        raise ValueError(
            "The schedule ends in noise alone, of which that prediction says "
            f"nothing. Received: --prediction={values.prediction} with "
            f"--schedule={values.schedule}, --zero_terminal_snr="
            f"{values.zero_terminal_snr}. Pass --prediction=velocity, or flow "
            "for the flow schedule."
        )
    if values.sampler.startswith("flow_") and values.schedule != "flow":
        raise ValueError(
            "Flow samplers follow the flow schedule alone. Received: "
            f"--sampler={values.sampler} with --schedule={values.schedule}. "
            "Pass --sampler=euler or heun, or --schedule=flow."
        )
    size = values.schedule_base_size
    if size is not None and (size < 1 or num_timesteps):
        raise ValueError(
            "Schedules in continuous time can be shifted from one size in "
            f"pixels to another. Received: --schedule_base_size={size} with "
            f"--schedule={values.schedule}. Leave it out, or pass a positive "
            "number and --schedule=continuous_cosine, sigmoid, vp or flow."
        )
