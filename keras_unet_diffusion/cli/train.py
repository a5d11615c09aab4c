"""The command that trains: `kud-train`, `python -m train`."""

import os
import sys
from pathlib import Path

import keras

from keras_unet_diffusion.cli.command import check_place, run_command
from keras_unet_diffusion.cli.train_checks import check_flags
from keras_unet_diffusion.cli.train_flags import (
    JIT_COMPILE,
    PREDICTIONS,
    SCHEDULES,
    TIMES,
    WEIGHTINGS,
    check_same_flags,
    define_flags,
    read_flags,
    write_flags,
)
from keras_unet_diffusion.data import image_dataset, open_source, save_grid
from keras_unet_diffusion.diffusion import (
    DiffusionProcess,
    FlowSchedule,
    ShiftedSchedule,
    ZeroTerminalSNRSchedule,
)
from keras_unet_diffusion.files import remove_leftovers
from keras_unet_diffusion.model import DiffusionModel
from keras_unet_diffusion.presets import PRESETS
from keras_unet_diffusion.training import (
    Augmentation,
    ImagesPerSecond,
    SampleGrid,
    SaveCheckpoints,
    load_model,
    save_model,
)
from keras_unet_diffusion.training.checkpoints import (
    CHECKPOINT_FOLDER,
    FINAL_MODEL,
    checkpoint_path,
    keep_newest,
    list_checkpoints,
)
from keras_unet_diffusion.unet import UNet

DESCRIPTION = """Trains a U-Net to denoise images, and samples from it.

Without flags: the preset "tiny" on scikit-learn's handwritten digits, a few
minutes on a CPU. The same command goes on with a run that was stopped.
"""


def train(values):
    """Trains as the flags say; the command without its error handling."""
    workdir = Path(values.workdir)
    before = _flags_of_run(workdir)
    if before and not values["steps_per_epoch"].present:
        values.steps_per_epoch = before.steps_per_epoch
    check_flags(values)
    if before:
        check_same_flags(workdir, before, values)
    done = list_checkpoints(workdir)[-1][0] if before else 0
    if done >= values.train_steps and (workdir / FINAL_MODEL).exists():
        print(f"{workdir} already holds {done} steps; nothing is left to do.")
        _print_next_commands(workdir)
        return
    keras.utils.set_random_seed(values.seed)
    source = open_source(values.source, values.split, values.data_dir)
    network = _build_network(values, source)
    dataset, validation_data = _datasets(values, source, network, done)
    if done:
        model = load_model(checkpoint_path(workdir, done))
        # A file does not say how steps are run; the flags do.
        model.compile(model.optimizer, **_execution(values))
        network = model.network
        print(f"Going on after step {done:,}.")
    else:
        model = _build_model(values, network)
    print(
        f"{values.source}: {len(source.items):,} images; {values.preset} at "
        f"{network.image_size}x{network.image_size}x{network.image_channels}"
        f", {network.num_classes or 'no'} classes, "
        f"{network.count_params():,} parameters, {values.dtype_policy}."
    )
    write_flags(workdir, values)
    for folder in (workdir, workdir / CHECKPOINT_FOLDER):
        remove_leftovers(folder)
    # Of fewer steps; the checkpoint of the same step is kept.
    (workdir / FINAL_MODEL).unlink(missing_ok=True)
    num_columns = network.num_classes or 8
    num_columns = num_columns if num_columns <= 16 else 8
    model.fit(
        dataset,
        epochs=values.train_steps // values.steps_per_epoch,
        initial_epoch=done // values.steps_per_epoch,
        steps_per_epoch=values.steps_per_epoch,
        validation_data=validation_data,
        callbacks=_callbacks(workdir, values, num_columns),
        shuffle=False,
        verbose=1 if sys.stdout.isatty() else 2,
    )
    last_checkpoint = checkpoint_path(workdir, max(done, values.train_steps))
    if not last_checkpoint.exists():
        save_model(model, last_checkpoint)
        keep_newest(workdir)
    images = model.generate(
        8 * num_columns,
        num_steps=values.num_sampling_steps,
        seed=values.seed,
        sampler=values.sampler,
        batch_size=values.batch_size,
    )
    scale = max(1, 64 // network.image_size)
    save_grid(workdir / "samples.png", images, num_columns, scale)
    # The last file: where it is, nothing is left to do.
    save_model(model, workdir / FINAL_MODEL)
    _print_next_commands(workdir)


def _flags_of_run(workdir):
    """Flags of the run to go on with, None if there is none."""
    check_place("workdir", workdir)
    flags = read_flags(workdir)
    if flags is None and workdir.is_dir() and any(workdir.iterdir()):
        raise ValueError(
            "The work directory is not empty and holds no run. Received: "
            f"--workdir={workdir}. Choose another, or remove it."
        )
    if list_checkpoints(workdir):
        return flags
    if (workdir / FINAL_MODEL).exists():
        raise ValueError(
            "The work directory holds a finished model and no checkpoint to "
            f"go on from. Received: --workdir={workdir}. Choose another."
        )
    # A start that failed, maybe by its flags.
    return None


def _build_network(values, source):
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


def _datasets(values, source, network, steps_done):
    shared = {
        "image_size": network.image_size,
        "image_channels": network.image_channels,
        "on_bad_image": values.on_bad_image,
        "seed": values.seed,
    }
    dataset = image_dataset(
        source,
        batch_size=values.batch_size,
        flip=values.flip,
        repeat=True,
        start_batch=steps_done,
        **shared,
    )
    if not values.validation_split:
        return dataset, None
    held_out = open_source(
        values.source, values.validation_split, values.data_dir
    )
    if held_out.class_names != source.class_names:
        raise ValueError(
            "The two splits number other classes. Received: --validation_split"
            f"={values.validation_split} with {', '.join(held_out.class_names)}"
            f"; {values.split} has {', '.join(source.class_names)}. Give both "
            "the same classes."
        )
    return dataset, image_dataset(
        held_out, batch_size=values.batch_size, shuffle=False, **shared
    )


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


def _build_model(values, network):
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
        ema_decay=values.ema_decay,
        clip_norm=values.clip_norm or None,
        label_dropout=values.label_dropout,
        offset_noise=values.offset_noise,
        augmentation=Augmentation(values.augment) if values.augment else None,
        time_resampling=values.time_resampling,
        uncertainty=values.learned_uncertainty,
        seed=values.seed,
    )
    learning_rate = values.learning_rate
    if values.warmup_steps:
        # Keras's cosine schedule with a cosine that stays at 1: warm-up,
        # then constant.
        learning_rate = keras.optimizers.schedules.CosineDecay(
            0.0,
            decay_steps=1,
            alpha=1.0,
            warmup_target=values.learning_rate,
            warmup_steps=values.warmup_steps,
        )
    model.compile(keras.optimizers.Adam(learning_rate), **_execution(values))
    return model


def _execution(values):
    return {
        "jit_compile": JIT_COMPILE[values.jit_compile],
        "steps_per_execution": values.steps_per_execution,
    }


def _callbacks(workdir, values, num_columns):
    log_dir = workdir / "logs"
    return [
        ImagesPerSecond(values.batch_size),
        keras.callbacks.TensorBoard(log_dir, write_graph=False),
        # Before the grid: what runs out of memory there loses nothing.
        SaveCheckpoints(workdir, every_epochs=values.checkpoint_epochs),
        SampleGrid(
            workdir / "samples",
            log_dir / "train",
            every_epochs=values.sample_epochs,
            num_images=8 * num_columns,
            num_columns=num_columns,
            num_steps=values.num_sampling_steps,
            seed=values.seed,
            sampler=values.sampler,
            batch_size=values.batch_size,
        ),
    ]


def _print_next_commands(workdir):
    name = os.fspath(workdir)
    print(
        f"\nLook at {workdir / 'samples.png'}. Next:\n"
        f"  tensorboard --logdir={workdir / 'logs'}\n"
        f"  kud-sample --checkpoint={name} --out={name}-samples\n"
        f"  kud-export --checkpoint={name} --out={name}-exported"
    )


def main(argv=None):
    """Runs the command; returns its exit status."""
    return run_command(train, define_flags, DESCRIPTION, argv)


if __name__ == "__main__":
    sys.exit(main())
