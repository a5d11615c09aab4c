"""How good the network is at each noise level, for TensorBoard."""

import numpy as np
import tensorflow as tf
from tensorboard.plugins.histogram import metadata

from keras_unet_diffusion.training.callbacks import EveryEpochs, check_count
from keras_unet_diffusion.training.line_plot import line_plot


class LossByTime(EveryEpochs):
    """Shows the loss of a few images over the time t, now and then.

    The mean loss hides where the network is good: it is high where almost
    everything is noise, or almost nothing, by the prediction type. This shows
    it at equal distances from t = 0 (clean) to t = 1 (noise), always with the
    same images and the same noise, so that what changes is the network. It is
    that of the averaged weights. It costs `num_levels` forward passes.

    TensorBoard gets a histogram, in which t is on the x axis, the height is
    the loss, and the steps stand one behind the other; and a picture of the
    curve with its numbers. There is no histogram where a loss is negative, as
    with learned uncertainty.

    Args:
        log_dir: for TensorBoard, where its x is the step.
        images: floats in [-1, 1], `(batch, height, width, channels)`; 16 to 64
            from the validation split are enough.
        labels: int `(batch,)`, or None.
        num_levels: int >= 1. Values of t, the middles of as many equal parts
            of [0, 1].
        every_epochs: int >= 1.
        seed: int, of the noise.
        batches_done: int >= 0. Batches of the first epoch that were trained
            on before `fit`.

    Raises:
        ValueError: num_levels or every_epochs is below 1.

    Example:

    ```python
    images, labels = next(iter(validation_data))
    show = LossByTime("runs/photos/logs/train", images, labels)
    model.fit(dataset, epochs=100, callbacks=[show])
    ```
    """

    def __init__(
        self,
        log_dir,
        images,
        labels=None,
        num_levels=20,
        every_epochs=1,
        seed=0,
        batches_done=0,
    ):
        super().__init__(every_epochs, batches_done)
        check_count("num_levels", num_levels)
        self.log_dir = log_dir
        self.images = images
        self.labels = labels
        self.num_levels = num_levels
        self.seed = seed
        self._writer = None

    def losses(self):
        """Returns the times and the mean losses, two `(num_levels,)`."""
        edges = np.linspace(0, 1, self.num_levels + 1)
        times = (edges[:-1] + edges[1:]) / 2
        losses = [
            np.mean(
                self.model.losses_at(
                    self.images,
                    np.full(len(self.images), t, "float32"),
                    self.labels,
                    seed=self.seed,
                )
            )
            for t in times
        ]
        return times, np.array(losses)

    def act(self, epoch, step):
        times, losses = self.losses()
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self.log_dir))
        with self._writer.as_default(step=step):
            if np.isfinite(losses).all() and losses.min() >= 0:
                _write_histogram("loss_by_time/histogram", losses)
            if np.isfinite(losses).any():
                is_positive = np.nanmin(losses) > 0
                curve = line_plot(
                    {"loss": (times, losses)},
                    "t (0 is clean, 1 is noise)",
                    f"loss, step {step:,}",
                    size=(420, 280),
                    log_y=is_positive,
                )
                tf.summary.image("loss_by_time/curve", curve[np.newaxis])
        self._writer.flush()

    def on_train_end(self, logs=None):
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _write_histogram(tag, heights):
    """Writes a histogram over [0, 1] whose heights are given.

    tf.summary.histogram would count values instead.
    """
    edges = np.linspace(0, 1, len(heights) + 1)
    buckets = np.stack([edges[:-1], edges[1:], heights], axis=1)
    tf.summary.write(
        tag,
        tf.constant(buckets, tf.float64),
        metadata=metadata.create_summary_metadata(
            display_name="", description="Loss (height) over the time t (x)."
        ),
    )
