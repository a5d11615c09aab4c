"""Saving checkpoints while a model trains."""

from keras_unet_diffusion.training.callbacks import EveryEpochs, check_count
from keras_unet_diffusion.training.checkpoints import save_checkpoint


class SaveCheckpoints(EveryEpochs):
    """Saves the whole model now and then; keeps the newest files and the best.

    The best is that of the lowest validation loss or, without one, of the
    lowest training loss: `training.best_checkpoint` finds it. Each file knows
    its own losses, so a run that goes on in the same work directory keeps the
    best of all of its parts.

    A save that fails, on a full disk for one, ends `fit` with its `OSError`:
    the checkpoints before it stay, and the run can go on from them.

    Args:
        workdir: checkpoints go to `workdir/checkpoints`.
        every_epochs: int >= 1.
        keep: int >= 1. Newest checkpoints that are kept; the best may be one
            more.
        batches_done: int >= 0. Batches of the first epoch that were trained
            on before `fit`.
    """

    def __init__(self, workdir, every_epochs=1, keep=2, batches_done=0):
        super().__init__(every_epochs, batches_done)
        check_count("keep", keep)
        self.workdir = workdir
        self.keep = keep
        self.losses = None

    def on_epoch_end(self, epoch, logs=None):
        # An epoch of which a part was trained on before: `RestoreMetrics` makes
        # its mean loss that of the whole.
        self.losses = logs
        super().on_epoch_end(epoch, logs)

    def act(self, epoch, step):
        save_checkpoint(self.model, self.workdir, step, self.losses, self.keep)
