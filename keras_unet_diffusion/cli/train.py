"""The command that trains: `kud-train`, `python -m train`."""

import os
import sys
from pathlib import Path

import keras
from absl import flags

from keras_unet_diffusion.cli.command import parse_flags, run_command
from keras_unet_diffusion.data import image_dataset, open_source, save_grid
from keras_unet_diffusion.diffusion import (
    CosineSchedule,
    DiffusionProcess,
    ImagePrediction,
    LinearSchedule,
    MinSNRWeighting,
    NoisePrediction,
    UniformWeighting,
    VelocityPrediction,
)
from keras_unet_diffusion.files import written_whole
from keras_unet_diffusion.model import DiffusionModel
from keras_unet_diffusion.presets import PRESETS
from keras_unet_diffusion.training import (
    ImagesPerSecond,
    SampleGrid,
    SaveCheckpoints,
    load_model,
    save_model,
)
from keras_unet_diffusion.training.checkpoints import (
    FINAL_MODEL,
    list_checkpoints,
)
from keras_unet_diffusion.unet import UNet

DESCRIPTION = """Trains a U-Net to denoise images, and samples from it.

Without flags: the preset "tiny" on scikit-learn's handwritten digits, a few
minutes on a CPU. The same command goes on with a run that was stopped.
"""
FLAG_FILE = "train.flags"
SCHEDULES = {"linear": LinearSchedule, "cosine": CosineSchedule}
PREDICTIONS = {
    "noise": NoisePrediction,
    "image": ImagePrediction,
    "velocity": VelocityPrediction,
}
WEIGHTINGS = {"uniform": UniformWeighting, "min_snr": MinSNRWeighting}
JIT_COMPILE = {"auto": "auto", "true": True, "false": False}
# A run may go on under another value of these.
MAY_CHANGE = ("workdir", "train_steps", "flagfile", "help", "h", "undefok")


def define_flags(values):
    """Defines the flags of the command on a `FlagValues`."""
    to = {"flag_values": values}
    flags.DEFINE_string(
        "workdir", "runs/digits", "Folder for all that the run writes.", **to
    )
    _define_data_flags(to)
    _define_network_flags(to)
    flags.DEFINE_enum(
        "schedule", "cosine", list(SCHEDULES), "Noise schedule.", **to
    )
    flags.DEFINE_enum(
        "prediction", "velocity", list(PREDICTIONS), "Prediction type.", **to
    )
    flags.DEFINE_enum(
        "weighting", "uniform", list(WEIGHTINGS), "Loss weights.", **to
    )
    _define_training_flags(to)


def _define_data_flags(to):
    flags.DEFINE_string(
        "source",
        "digits",
        "Images: digits, tfds:NAME, folder:PATH or npz:PATH.",
        **to,
    )
    flags.DEFINE_string(
        "data_dir", None, "Where tensorflow-datasets looks.", **to
    )
    flags.DEFINE_string("split", "train", "Split to train on.", **to)
    flags.DEFINE_string(
        "validation_split",
        None,
        "Split to validate on after each epoch; none by default.",
        **to,
    )
    flags.DEFINE_integer(
        "image_size", None, "Pixels; by default the preset's.", **to
    )
    flags.DEFINE_enum(
        "image_channels",
        None,
        ["1", "3"],
        "1 grey, 3 RGB; by default the source's.",
        **to,
    )
    flags.DEFINE_bool("flip", False, "Mirror half of the images.", **to)
    flags.DEFINE_enum(
        "on_bad_image",
        "error",
        ["error", "skip"],
        "What to do with images that cannot be read.",
        **to,
    )


def _define_network_flags(to):
    flags.DEFINE_string(
        "preset", "tiny", f"Network: {', '.join(PRESETS)}.", **to
    )
    flags.DEFINE_integer(
        "num_classes",
        None,
        "Classes to condition on; 0 for none, by default the source's.",
        **to,
    )
    flags.DEFINE_integer(
        "base_channels", None, "Channels; by default the preset's.", **to
    )
    flags.DEFINE_list(
        "attention_resolutions",
        None,
        "Heights of the feature maps with attention, by commas; by default "
        "the preset's.",
        **to,
    )
    flags.DEFINE_float(
        "dropout", None, "Share dropped; by default the preset's.", **to
    )


def _define_training_flags(to):
    flags.DEFINE_integer("batch_size", 32, "Images per step.", **to)
    flags.DEFINE_integer("train_steps", 1000, "Steps in all.", **to)
    flags.DEFINE_integer(
        "steps_per_epoch", 100, "Steps between two lines of the log.", **to
    )
    flags.DEFINE_float("learning_rate", 2e-3, "Of Adam.", **to)
    flags.DEFINE_integer(
        "warmup_steps", 100, "Steps until the full learning rate.", **to
    )
    flags.DEFINE_float("ema_decay", 0.995, "Decay of the average.", **to)
    flags.DEFINE_float("clip_norm", 1.0, "Bound of the gradients.", **to)
    flags.DEFINE_enum(
        "dtype_policy",
        "float32",
        ["float32", "mixed_float16", "mixed_bfloat16"],
        "Precision of the network.",
        **to,
    )
    flags.DEFINE_enum(
        "jit_compile",
        "auto",
        list(JIT_COMPILE),
        "Whether XLA compiles; auto: on a GPU.",
        **to,
    )
    flags.DEFINE_integer("seed", 0, "Of weights, data and noise.", **to)
    flags.DEFINE_integer(
        "sample_epochs", 5, "Epochs between two sample grids.", **to
    )
    flags.DEFINE_integer(
        "checkpoint_epochs", 5, "Epochs between two checkpoints.", **to
    )
    flags.DEFINE_integer(
        "num_sampling_steps", 50, "Steps of DDIM for the grids.", **to
    )


def train(values):
    """Trains as the flags say; the command without its error handling."""
    _check(values)
    workdir = Path(values.workdir)
    done = _prepare_workdir(workdir, values)
    if done >= values.train_steps and (workdir / FINAL_MODEL).exists():
        print(f"{workdir} already holds {done} steps; nothing is left to do.")
        _print_next_commands(workdir)
        return
    keras.utils.set_random_seed(values.seed)
    source = open_source(values.source, values.split, values.data_dir)
    network = _build_network(values, source)
    dataset, validation_data = _datasets(values, source, network, done)
    if done:
        model = load_model(list_checkpoints(workdir)[-1][1])
        print(f"Going on after step {done:,}.")
    else:
        model = _build_model(values, network)
    print(
        f"{values.source}: {len(source.items):,} images; {values.preset} at "
        f"{network.image_size}x{network.image_size}x{network.image_channels}"
        f", {network.num_classes or 'no'} classes, "
        f"{network.count_params():,} parameters, {values.dtype_policy}."
    )
    _write_flags(workdir, values)
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
    save_model(model, workdir / FINAL_MODEL)
    images = model.generate(
        8 * num_columns, num_steps=values.num_sampling_steps, seed=values.seed
    )
    scale = max(1, 64 // network.image_size)
    save_grid(workdir / "samples.png", images, num_columns, scale)
    _print_next_commands(workdir)


def _check(values):
    """Raises a `ValueError` for numbers that do not fit together."""
    values.steps_per_epoch = min(values.steps_per_epoch, values.train_steps)
    for name in (
        "batch_size",
        "train_steps",
        "steps_per_epoch",
        "sample_epochs",
        "checkpoint_epochs",
    ):
        if values[name].value < 1:
            raise ValueError(
                f"--{name} must be at least 1. Received: "
                f"--{name}={values[name].value}."
            )
    if values.train_steps % values.steps_per_epoch:
        raise ValueError(
            "--train_steps must be a multiple of --steps_per_epoch. Received: "
            f"--train_steps={values.train_steps} and --steps_per_epoch="
            f"{values.steps_per_epoch}."
        )
    if values.learning_rate <= 0 or values.warmup_steps < 0:
        raise ValueError(
            "--learning_rate must be positive and --warmup_steps not "
            f"negative. Received: {values.learning_rate} and "
            f"{values.warmup_steps}."
        )
    if values.preset not in PRESETS:
        raise ValueError(
            "There is no preset of that name. Received: --preset="
            f"{values.preset}. Choose one of {', '.join(PRESETS)}."
        )


def _prepare_workdir(workdir, values):
    """Returns the steps that were done before; refuses another run's."""
    flag_file = workdir / FLAG_FILE
    if flag_file.exists():
        _check_same_flags(flag_file, values)
    elif workdir.is_dir() and any(workdir.iterdir()):
        raise ValueError(
            "The work directory is not empty and holds no run. Received: "
            f"--workdir={workdir}. Choose another, or remove it."
        )
    checkpoints = list_checkpoints(workdir)
    return checkpoints[-1][0] if checkpoints else 0


def _write_flags(workdir, values):
    lines = values.flags_into_string().splitlines()
    lines = [line for line in lines if line != "--nohelp"]
    with written_whole(workdir / FLAG_FILE) as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def _check_same_flags(flag_file, values):
    before = parse_flags(define_flags, ["", f"--flagfile={flag_file}"])
    changed = [
        f"--{name} {before[name].value} -> {values[name].value}"
        for name in values
        if name not in MAY_CHANGE and before[name].value != values[name].value
    ]
    if changed:
        raise ValueError(
            "The work directory holds a run with other flags. Received: "
            f"--workdir={flag_file.parent} with {', '.join(changed)}. Choose "
            "another --workdir, or pass its flags: --flagfile="
            f"{flag_file}."
        )


def _build_network(values, source):
    channels = values.image_channels or source.image_channels
    num_classes = values.num_classes
    if num_classes is None:
        num_classes = source.num_classes
    elif num_classes and num_classes < (source.num_classes or 0):
        raise ValueError(
            f"{values.source} has {source.num_classes} classes. Received: "
            f"--num_classes={num_classes}. Leave it out, or pass 0 for none."
        )
    elif num_classes and source.labels is None:
        raise ValueError(
            f"{values.source} has no labels. Received: --num_classes="
            f"{num_classes}. Leave it out."
        )
    overrides = {
        "image_channels": int(channels),
        "num_classes": num_classes or None,
        "dtype": values.dtype_policy,
    }
    for name in ("image_size", "base_channels", "dropout"):
        if values[name].value is not None:
            overrides[name] = values[name].value
    if values.attention_resolutions is not None:
        overrides["attention_resolutions"] = [
            int(x) for x in values.attention_resolutions
        ]
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
    return dataset, image_dataset(
        held_out, batch_size=values.batch_size, shuffle=False, **shared
    )


def _build_model(values, network):
    process = DiffusionProcess(
        SCHEDULES[values.schedule](),
        PREDICTIONS[values.prediction](),
        WEIGHTINGS[values.weighting](),
    )
    model = DiffusionModel(
        network,
        process,
        ema_decay=values.ema_decay,
        clip_norm=values.clip_norm,
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
    model.compile(
        keras.optimizers.Adam(learning_rate),
        jit_compile=JIT_COMPILE[values.jit_compile],
    )
    return model


def _callbacks(workdir, values, num_columns):
    log_dir = workdir / "logs"
    return [
        ImagesPerSecond(values.batch_size),
        keras.callbacks.TensorBoard(log_dir, write_graph=False),
        SampleGrid(
            workdir / "samples",
            log_dir / "train",
            every_epochs=values.sample_epochs,
            num_images=8 * num_columns,
            num_columns=num_columns,
            num_steps=values.num_sampling_steps,
            seed=values.seed,
        ),
        SaveCheckpoints(workdir, every_epochs=values.checkpoint_epochs),
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
