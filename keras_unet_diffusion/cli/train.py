"""The command that trains: `kud-train`, `python -m train`."""

import os
import sys
from pathlib import Path

import keras

from keras_unet_diffusion.backends import (
    compute_deterministically,
    keep_compiled,
)
from keras_unet_diffusion.cli.command import check_place, run_command
from keras_unet_diffusion.cli.processor import advise_on_dtype
from keras_unet_diffusion.cli.train_callbacks import (
    RunCallbacks,
    num_columns,
)
from keras_unet_diffusion.cli.train_checks import check_flags
from keras_unet_diffusion.cli.train_data import RunData
from keras_unet_diffusion.cli.train_flag_file import (
    check_same_flags,
    read_flags,
    write_flags,
)
from keras_unet_diffusion.cli.train_flags import define_flags
from keras_unet_diffusion.cli.train_model import (
    build_model,
    build_network,
    execution,
)
from keras_unet_diffusion.data import open_source, save_grid
from keras_unet_diffusion.files import remove_leftovers
from keras_unet_diffusion.replicas import devices_scope
from keras_unet_diffusion.training import (
    RestoreMetrics,
    RunRecord,
    StopOnSignal,
    load_model,
    save_model,
    write_model_card,
)
from keras_unet_diffusion.training.checkpoints import (
    CHECKPOINT_FOLDER,
    FINAL_MODEL,
    checkpoint_path,
    list_checkpoints,
    newest_whole_checkpoint,
    save_checkpoint,
)
from keras_unet_diffusion.training.model_files import is_whole

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
    if newest >= values.train_steps and is_whole(workdir / FINAL_MODEL):
        print(f"{workdir} already holds {newest} steps; nothing is left to do.")
        _print_next_commands(workdir)
        return
    _prepare_backend(values)
    with devices_scope(values.num_devices):
        _train_from(values, *_newest(workdir, before))


def _prepare_backend(values):
    """What must be said before the first computation."""
    if values.deterministic:
        compute_deterministically()
    if values.compilation_cache:
        folder = keep_compiled(values.compilation_cache)
        if folder:
            print(f"What is compiled is kept in {folder}.")


def _newest(workdir, before):
    """Step and path of the checkpoint to go on from; 0 and None if none."""
    return newest_whole_checkpoint(workdir) if before else (0, None)


def _train_from(values, done, checkpoint):
    """Trains from a checkpoint, or from the start, to the end."""
    workdir = Path(values.workdir)
    # First: where the disk was full, they are the space that is needed.
    for folder in (workdir, workdir / CHECKPOINT_FOLDER):
        remove_leftovers(folder)
    record = RunRecord(workdir, done, every_epochs=values.checkpoint_epochs)
    keras.utils.set_random_seed(values.seed)
    record.enter("data")
    source = open_source(values.source, values.split, values.data_dir)
    network = build_network(values, source)
    data = RunData(values, source, network)
    datasets = data.batches(done)
    record.enter("model")
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
    advice = advise_on_dtype(values.dtype_policy)
    if advice:
        print(advice)
    write_flags(workdir, values)
    # Of fewer steps; the checkpoint of the same step is kept.
    (workdir / FINAL_MODEL).unlink(missing_ok=True)
    callbacks = RunCallbacks(values, data, model, record)
    with record, StopOnSignal(workdir, done, values.keep_checkpoints) as stop:
        _fit(values, model, data, datasets, callbacks, stop)
        record.enter("final samples")
        _finish(values, model, callbacks)


def _fit(values, model, data, datasets, run_callbacks, stop):
    """Trains to the last step; an epoch that was stopped is ended first."""
    done, steps_per_epoch = stop.step, values.steps_per_epoch
    while done < values.train_steps:
        epoch, batches_done = divmod(done, steps_per_epoch)
        callbacks = [*run_callbacks.make(done), stop]
        last_epoch = values.train_steps // steps_per_epoch
        if batches_done:
            callbacks = [RestoreMetrics(model), *callbacks]
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
            datasets = data.batches(done)


def _finish(values, model, callbacks):
    """Writes what a whole run ends with."""
    workdir = Path(values.workdir)
    step = values.train_steps
    if not is_whole(checkpoint_path(workdir, step)):
        save_checkpoint(
            model, workdir, step, callbacks.losses, values.keep_checkpoints
        )
    columns = num_columns(model.network)
    images = model.generate(
        8 * columns,
        num_steps=values.num_sampling_steps,
        seed=values.seed,
        sampler=values.sampler,
        batch_size=values.batch_size,
    )
    scale = max(1, 64 // model.network.image_size)
    save_grid(workdir / "samples.png", images, columns, scale)
    write_model_card(workdir, model, callbacks.record, **callbacks.facts)
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


def _print_next_commands(workdir):
    name = os.fspath(workdir)
    print(
        f"\nLook at {workdir / 'samples.png'}. Next:\n"
        f"  tensorboard --logdir={workdir / 'logs'}\n"
        f"  kud-explain --checkpoint={name} --out={name}.html\n"
        f"  kud-sample --checkpoint={name} --out={name}-samples\n"
        f"  kud-export --checkpoint={name} --out={name}-exported"
    )


def main(argv=None):
    """Runs the command; returns its exit status."""
    return run_command(train, define_flags, DESCRIPTION, argv)


if __name__ == "__main__":
    sys.exit(main())
