"""The command that trains: `kud-train`, `python -m train`."""

import os
import sys
from pathlib import Path

import keras

from keras_unet_diffusion.cli.command import check_place, run_command
from keras_unet_diffusion.cli.train_checks import check_flags
from keras_unet_diffusion.cli.train_flags import (
    check_same_flags,
    define_flags,
    read_flags,
    write_flags,
)
from keras_unet_diffusion.cli.train_model import (
    build_model,
    build_network,
    execution,
)
from keras_unet_diffusion.data import image_dataset, open_source, save_grid
from keras_unet_diffusion.files import remove_leftovers
from keras_unet_diffusion.training import (
    ImagesPerSecond,
    RestoreLoss,
    SampleGrid,
    SaveCheckpoints,
    StopOnSignal,
    load_model,
    save_model,
)
from keras_unet_diffusion.training.checkpoints import (
    CHECKPOINT_FOLDER,
    FINAL_MODEL,
    checkpoint_path,
    keep_newest,
    list_checkpoints,
    newest_whole_checkpoint,
)

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
    newest = list_checkpoints(workdir)[-1][0] if before else 0
    if newest >= values.train_steps and (workdir / FINAL_MODEL).exists():
        print(f"{workdir} already holds {newest} steps; nothing is left to do.")
        _print_next_commands(workdir)
        return
    done, checkpoint = newest_whole_checkpoint(workdir) if before else (0, None)
    keras.utils.set_random_seed(values.seed)
    source = open_source(values.source, values.split, values.data_dir)
    network = build_network(values, source)
    datasets = _datasets(values, source, network, done)
    if checkpoint:
        model = load_model(checkpoint)
        # A file does not say how steps are run; the flags do.
        model.compile(model.optimizer, **execution(values))
        network = model.network
        print(f"Going on after step {done:,}.")
    else:
        model = build_model(values, network)
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
    _fit(values, model, source, datasets, done)
    _finish(values, model, done)


def _fit(values, model, source, datasets, done):
    """Trains to the last step; an epoch that was stopped is ended first."""
    workdir, steps_per_epoch = Path(values.workdir), values.steps_per_epoch
    with StopOnSignal(workdir, done) as stop:
        while done < values.train_steps:
            epoch, batches_done = divmod(done, steps_per_epoch)
            callbacks = [*_callbacks(workdir, values, model, done), stop]
            last_epoch = values.train_steps // steps_per_epoch
            if batches_done:
                callbacks = [RestoreLoss(model), *callbacks]
                last_epoch = epoch + 1
            dataset, validation_data = datasets
            model.fit(
                dataset,
                epochs=last_epoch,
                initial_epoch=epoch,
                steps_per_epoch=steps_per_epoch - batches_done,
                validation_data=validation_data,
                callbacks=callbacks,
                shuffle=False,
                verbose=1 if sys.stdout.isatty() else 2,
            )
            done = last_epoch * steps_per_epoch
            if done < values.train_steps:
                datasets = _datasets(values, source, model.network, done)


def _finish(values, model, done):
    """Writes what a whole run ends with."""
    workdir = Path(values.workdir)
    last_checkpoint = checkpoint_path(workdir, max(done, values.train_steps))
    if not last_checkpoint.exists():
        save_model(model, last_checkpoint)
        keep_newest(workdir)
    num_columns = _num_columns(model.network)
    images = model.generate(
        8 * num_columns,
        num_steps=values.num_sampling_steps,
        seed=values.seed,
        sampler=values.sampler,
        batch_size=values.batch_size,
    )
    scale = max(1, 64 // model.network.image_size)
    save_grid(workdir / "samples.png", images, num_columns, scale)
    # The last file: where it is, nothing is left to do.
    save_model(model, workdir / FINAL_MODEL)
    _print_next_commands(workdir)


def _num_columns(network):
    """Columns of the sample grids: the classes, if they are not too many."""
    num_columns = network.num_classes or 8
    return num_columns if num_columns <= 16 else 8


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


def _callbacks(workdir, values, model, done):
    log_dir = workdir / "logs"
    batches_done = done % values.steps_per_epoch
    num_columns = _num_columns(model.network)
    return [
        ImagesPerSecond(values.batch_size),
        keras.callbacks.TensorBoard(log_dir, write_graph=False),
        # Before the grid: what runs out of memory there loses nothing.
        SaveCheckpoints(
            workdir,
            every_epochs=values.checkpoint_epochs,
            batches_done=batches_done,
        ),
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
            batches_done=batches_done,
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
