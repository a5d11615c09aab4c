"""What a run of the command that trains does besides training."""

from pathlib import Path

import keras

from keras_unet_diffusion.cli.train_flag_file import MAY_CHANGE
from keras_unet_diffusion.training import (
    ImagesPerSecond,
    LogScalars,
    LossByTime,
    ProfileBatches,
    SampleGrid,
    SaveCheckpoints,
    StopOnNonFinite,
    StoreSnapshots,
    WriteModelCard,
)
from keras_unet_diffusion.training.model_card import describe_data


def num_columns(network):
    """Columns of the sample grids: the classes, if they are not too many."""
    columns = network.num_classes or 8
    return columns if columns <= 16 else 8


class RunCallbacks:
    """Makes the callbacks of a run.

    Args:
        values: the parsed flags.
        data: the `RunData`.
        model: the `DiffusionModel`.
        record: the `RunRecord`.
    """

    def __init__(self, values, data, model, record):
        self.values = values
        self.workdir = Path(values.workdir)
        self.log_dir = self.workdir / "logs"
        self.network = network = model.network
        images, labels, _ = keras.utils.unpack_x_y_sample_weight(data.shown())
        self.shown = images, labels if model.is_conditional else None
        self.record = record
        self.flags = {
            name: values[name].value
            for name in values
            if name not in MAY_CHANGE
        }
        self.facts = {
            "batch_size": values.batch_size,
            "flags": self.flags,
            "preset": values.preset,
            "data": describe_data(
                data.source,
                values.source,
                values.split,
                network.image_size,
                network.image_channels,
            ),
        }
        # One for all calls of fit: it counts on.
        self.profile = []
        if values.profile_batches:
            batches = map(int, values.profile_batches)
            self.profile = [ProfileBatches(self.log_dir, *batches)]

    @property
    def losses(self):
        """Logs of the last epoch, a dict; None if there was none."""
        epochs = self.record.epochs
        return epochs[-1]["logs"] if epochs else None

    def make(self, steps_done):
        """Those of one call of `fit`, in their order, a list."""
        values, record = self.values, self.record
        rest = {"batches_done": steps_done % values.steps_per_epoch}
        seldom = rest | {"every_epochs": values.sample_epochs}
        often = rest | {"every_epochs": values.checkpoint_epochs}
        save = SaveCheckpoints(
            self.workdir, keep=values.keep_checkpoints, **often
        )
        snapshots = []
        if values.power_averages:
            snapshots = record.timed(
                "checkpoints",
                StoreSnapshots(self.workdir, values.checkpoint_epochs),
            )
        return [
            ImagesPerSecond(values.batch_size),
            record,
            LogScalars(self.log_dir, self.flags),
            *snapshots,
            # Before the pictures: what runs out of memory there loses nothing.
            *record.timed("checkpoints", save),
            *record.timed("samples", self._grid(seldom)),
            *record.timed(
                "loss by time",
                LossByTime(self.log_dir / "train", *self.shown, **seldom),
            ),
            *self.profile,
            *record.timed(
                "model card",
                WriteModelCard(
                    self.workdir,
                    record,
                    every_epochs=values.checkpoint_epochs,
                    **self.facts,
                ),
            ),
            StopOnNonFinite(self.workdir, values.max_skipped_steps),
        ]

    def _grid(self, options):
        columns = num_columns(self.network)
        return SampleGrid(
            self.workdir / "samples",
            self.log_dir / "train",
            num_images=8 * columns,
            num_columns=columns,
            num_steps=self.values.num_sampling_steps,
            seed=self.values.seed,
            sampler=self.values.sampler,
            batch_size=self.values.batch_size,
            **options,
        )
