"""The images that the command trains on, validates on and shows."""

import dataclasses

import numpy as np

from keras_unet_diffusion.data import image_dataset, open_source

# Images whose loss is shown over t.
_NUM_SHOWN = 32


class RunData:
    """Images of a run, for a network.

    Args:
        values: the parsed flags.
        source: the opened `Source` to train on.
        network: see `DiffusionModel`.

    Raises:
        ValueError: the split to validate on has other classes.
    """

    def __init__(self, values, source, network):
        self.values = values
        self.source = source
        self.held_out = None
        if values.validation_split:
            self.held_out = _held_out(values, source)
        self.options = {
            "image_size": network.image_size,
            "image_channels": network.image_channels,
            "on_bad_image": values.on_bad_image,
            "seed": values.seed,
        }

    def batches(self, steps_done):
        """Datasets to train on, after some steps, and to validate on or
        None."""
        batch_size = self.values.batch_size
        dataset = image_dataset(
            self.source,
            batch_size=batch_size,
            flip=self.values.flip,
            repeat=True,
            start_batch=steps_done,
            **self.options,
        )
        if self.held_out is None:
            return dataset, None
        return dataset, image_dataset(
            self.held_out, batch_size=batch_size, shuffle=False, **self.options
        )

    def shown(self):
        """A few images, always the same; with labels a pair of both."""
        source = self.held_out or self.source
        count = len(source.items)
        chosen = np.linspace(0, count - 1, min(count, _NUM_SHOWN)).astype(int)
        few = dataclasses.replace(
            source,
            items=[source.items[k] for k in chosen],
            labels=None if source.labels is None else source.labels[chosen],
            names=source.names and [source.names[k] for k in chosen],
        )
        dataset = image_dataset(
            few, batch_size=len(chosen), shuffle=False, **self.options
        )
        return next(iter(dataset))


def _held_out(values, source):
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
    return held_out
