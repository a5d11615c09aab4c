"""From the flags of the command that trains to the model."""

import keras

from keras_unet_diffusion.cli.process_choices import (
    PREDICTIONS,
    SCHEDULES,
    TIMES,
    WEIGHTINGS,
)
from keras_unet_diffusion.cli.train_flags import JIT_COMPILE
from keras_unet_diffusion.diffusion import (
    DiffusionProcess,
    FlowSchedule,
    ShiftedSchedule,
    ZeroTerminalSNRSchedule,
)
from keras_unet_diffusion.model import DiffusionModel
from keras_unet_diffusion.presets import PRESETS
from keras_unet_diffusion.training import (
    Augmentation,
    ExponentialMovingAverage,
    FusedAdam,
    HalfLifeAverage,
    PowerFunctionAverage,
    learning_rate_schedule,
)
from keras_unet_diffusion.unet import UNet


def build_network(values, source):
    """The network that the flags describe, for the images of a source."""
    channels = values.image_channels or source.image_channels
    num_classes = values.num_classes
    if num_classes is None:
        num_classes = source.num_classes
    elif num_classes and source.labels is None:
        raise ValueError(
            f"{values.source} has no labels. Received: --num_classes="
            f"{num_classes}. Leave it out."
        )
    elif num_classes and num_classes < source.num_classes:
        raise ValueError(
            f"{values.source} has {source.num_classes} classes. Received: "
            f"--num_classes={num_classes}. Leave it out, or pass 0 for none."
        )
    overrides = {
        "image_channels": int(channels),
        "num_classes": num_classes or None,
        "dtype": values.dtype_policy,
        "rematerialize": values.rematerialize,
        "self_conditioning": values.self_conditioning,
        # Means and variances, or means alone.
        "output_channels": (
            2 * int(channels) if values.learned_variance else None
        ),
    }
    if values.augment:
        overrides["augmentation_channels"] = Augmentation.num_labels
    if values.label_dropout and not num_classes:
        raise ValueError(
            "There are no labels to leave out. Received: --label_dropout="
            f"{values.label_dropout} without classes. Leave it out, or train "
            "on images with labels."
        )
    if not num_classes:
        overrides["null_label"] = None
    elif values.label_dropout:
        overrides["null_label"] = "learned"
    for name in ("image_size", "base_channels", "dropout"):
        if values[name].value is not None:
            overrides[name] = values[name].value
    if values.attention_resolutions is not None:
        overrides["attention_resolutions"] = [
            int(x) for x in values.attention_resolutions
        ]
    if (PRESETS[values.preset] | overrides)["image_size"] is None:
        raise ValueError(
            "The preset is of a network of any size. Received: --preset="
            f"{values.preset} and no --image_size. Pass --image_size, in "
            "pixels."
        )
    return UNet.from_preset(values.preset, **overrides)


def _schedule(values, image_size):
    schedule = SCHEDULES[values.schedule]()
    if values.zero_terminal_snr:
        schedule = ZeroTerminalSNRSchedule(schedule)
    base_size = values.schedule_base_size
    if base_size is None:
        return schedule
    if values.schedule == "flow":
        # Esser et al. 2024, Eq. 23: the root of the ratio of the pixels.
        return FlowSchedule(shift=image_size / base_size)
    return ShiftedSchedule(schedule, image_size, base_size)


def build_model(values, network):
    """The compiled `DiffusionModel` that the flags describe."""
    process = DiffusionProcess(
        _schedule(values, network.image_size),
        PREDICTIONS[values.prediction](),
        WEIGHTINGS[values.weighting](),
        TIMES[values.times](),
        # Nichol and Dhariwal 2021, Eq. 16.
        variance_weight=0.001 if values.learned_variance else None,
    )
    model = DiffusionModel(
        network,
        process,
        averages=_averages(values),
        clip_norm=values.clip_norm or None,
        accumulation_steps=values.accumulation_steps,
        label_dropout=values.label_dropout,
        offset_noise=values.offset_noise,
        augmentation=Augmentation(values.augment) if values.augment else None,
        time_resampling=values.time_resampling,
        uncertainty=values.learned_uncertainty,
        seed=values.seed,
    )
    model.compile(_optimizer(values), **execution(values))
    return model


def _averages(values):
    """The average in use, and those that others can be made of."""
    first = ExponentialMovingAverage(values.ema_decay)
    if values.half_life_images is not None:
        first = HalfLifeAverage(values.half_life_images)
    deviations = map(float, values.power_averages or [])
    return (first, *map(PowerFunctionAverage, deviations))


def _optimizer(values):
    schedule = learning_rate_schedule(
        values.learning_rate_schedule,
        values.learning_rate,
        values.warmup_steps,
        total_steps=values.train_steps // values.accumulation_steps,
        decay_steps=values.decay_steps,
    )
    arguments = {"weight_decay": values.weight_decay or None}
    if values.optimizer.lower() in ("adam", "adamw"):
        return FusedAdam(schedule, **arguments)
    try:
        optimizer = type(keras.optimizers.get(values.optimizer))
    except (ValueError, TypeError):
        raise ValueError(
            "Keras has no optimizer of that name. Received: --optimizer="
            f"{values.optimizer}. Pass one of keras.optimizers, such as adam, "
            "adamw, lion, adafactor, muon or sgd."
        ) from None
    return optimizer(schedule, **arguments)


def execution(values):
    """How steps are run: arguments of `compile` that no file keeps."""
    return {
        "jit_compile": JIT_COMPILE[values.jit_compile],
        "steps_per_execution": values.steps_per_execution,
    }
