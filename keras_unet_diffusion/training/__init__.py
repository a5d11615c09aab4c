"""What surrounds `fit`: averages, augmentation, checkpoints, callbacks."""

from keras_unet_diffusion.training.augmentation import Augmentation
from keras_unet_diffusion.training.averaging import (
    Average,
    ExponentialMovingAverage,
    HalfLifeAverage,
    PowerFunctionAverage,
)
from keras_unet_diffusion.training.callbacks import ImagesPerSecond, SampleGrid
from keras_unet_diffusion.training.checkpoints import (
    best_checkpoint,
    load_model,
)
from keras_unet_diffusion.training.fused_adam import FusedAdam
from keras_unet_diffusion.training.learning_rates import (
    ConstantRate,
    InverseRootRate,
    learning_rate_schedule,
)
from keras_unet_diffusion.training.loss_by_time import LossByTime
from keras_unet_diffusion.training.model_card import (
    WriteModelCard,
    write_model_card,
)
from keras_unet_diffusion.training.model_files import save_model
from keras_unet_diffusion.training.non_finite import Diverged, StopOnNonFinite
from keras_unet_diffusion.training.post_hoc import reconstruct
from keras_unet_diffusion.training.profiling import ProfileBatches
from keras_unet_diffusion.training.run_record import RunRecord
from keras_unet_diffusion.training.save_checkpoints import SaveCheckpoints
from keras_unet_diffusion.training.snapshots import StoreSnapshots
from keras_unet_diffusion.training.stopping import (
    RestoreMetrics,
    StopOnSignal,
    Stopped,
)
from keras_unet_diffusion.training.tensorboard import LogScalars

__all__ = [
    "Augmentation",
    "Average",
    "ConstantRate",
    "Diverged",
    "ExponentialMovingAverage",
    "FusedAdam",
    "HalfLifeAverage",
    "ImagesPerSecond",
    "InverseRootRate",
    "LogScalars",
    "LossByTime",
    "PowerFunctionAverage",
    "ProfileBatches",
    "RestoreMetrics",
    "RunRecord",
    "SampleGrid",
    "SaveCheckpoints",
    "StopOnNonFinite",
    "StopOnSignal",
    "Stopped",
    "StoreSnapshots",
    "WriteModelCard",
    "best_checkpoint",
    "learning_rate_schedule",
    "load_model",
    "reconstruct",
    "save_model",
    "write_model_card",
]
