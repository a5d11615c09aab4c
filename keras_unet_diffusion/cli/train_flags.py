"""The flags of the command that trains."""

from absl import flags

from keras_unet_diffusion.cli.process_choices import (
    PREDICTIONS,
    SCHEDULES,
    TIMES,
    WEIGHTINGS,
)
from keras_unet_diffusion.presets import PRESETS
from keras_unet_diffusion.samplers import SAMPLER_NAMES

JIT_COMPILE = {"auto": "auto", "true": True, "false": False}


def define_flags(values):
    """Defines the flags of the command on a `FlagValues`."""
    to = {"flag_values": values}
    flags.DEFINE_string(
        "workdir", "runs/digits", "Folder for all that the run writes.", **to
    )
    _define_data_flags(to)
    _define_network_flags(to)
    _define_process_flags(to)
    _define_objective_flags(to)
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
    flags.DEFINE_bool(
        "rematerialize",
        False,
        "Compute blocks twice instead of storing what happens inside them: "
        "less memory, more time.",
        **to,
    )
    flags.DEFINE_float(
        "dropout", None, "Share dropped; by default the preset's.", **to
    )


def _define_process_flags(to):
    flags.DEFINE_enum(
        "schedule", "cosine", list(SCHEDULES), "Noise schedule.", **to
    )
    flags.DEFINE_integer(
        "schedule_base_size",
        None,
        "Pixels of the images that a schedule in continuous time was made "
        "for; larger ones get more noise.",
        **to,
    )
    flags.DEFINE_bool(
        "zero_terminal_snr",
        False,
        "Rescale the schedule's steps so that the last is noise alone.",
        **to,
    )
    flags.DEFINE_enum(
        "prediction", "velocity", list(PREDICTIONS), "Prediction type.", **to
    )
    flags.DEFINE_enum(
        "weighting", "uniform", list(WEIGHTINGS), "Loss weights.", **to
    )
    flags.DEFINE_enum(
        "times", "uniform", list(TIMES), "Where training draws times.", **to
    )


def _define_objective_flags(to):
    flags.DEFINE_bool(
        "learned_variance",
        False,
        "Also learn the variance of the steps, by the hybrid bound.",
        **to,
    )
    flags.DEFINE_bool(
        "self_conditioning",
        False,
        "Show the network its own last estimate.",
        **to,
    )
    flags.DEFINE_float(
        "label_dropout",
        0.0,
        "Share of labels left out, for classifier-free guidance; 0.1 is usual.",
        **to,
    )
    flags.DEFINE_float(
        "offset_noise", 0.0, "Deviation of noise on whole channels.", **to
    )
    flags.DEFINE_float(
        "augment",
        0.0,
        "How likely each kind of change to an image is, of which the network "
        "is told; 0.12 is usual, 0 for none.",
        **to,
    )
    flags.DEFINE_bool(
        "time_resampling",
        False,
        "Draw steps by their past losses; for --learned_variance.",
        **to,
    )
    flags.DEFINE_bool(
        "learned_uncertainty",
        False,
        "Divide the loss by what is to be expected at each noise level.",
        **to,
    )


def _define_training_flags(to):
    flags.DEFINE_integer("batch_size", 32, "Images per step.", **to)
    flags.DEFINE_integer("train_steps", 1000, "Steps in all.", **to)
    flags.DEFINE_integer(
        "steps_per_epoch", 100, "Steps between two lines of the log.", **to
    )
    flags.DEFINE_integer(
        "steps_per_execution",
        1,
        "Steps that a GPU takes without waiting for Python; the result is the "
        "same.",
        **to,
    )
    flags.DEFINE_integer(
        "accumulation_steps",
        1,
        "Steps whose mean gradient makes one update of the weights.",
        **to,
    )
    flags.DEFINE_integer(
        "num_devices", 1, "GPUs of this machine that share each batch.", **to
    )
    _define_optimizer_flags(to)
    flags.DEFINE_float(
        "clip_norm", 1.0, "Bound of the gradients; 0 for none.", **to
    )
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
    flags.DEFINE_bool(
        "deterministic",
        False,
        "Take only kernels that always compute the same: on a GPU slower, and "
        "what a run needs there to go on bit for bit.",
        **to,
    )
    flags.DEFINE_string(
        "compilation_cache",
        "~/.cache/keras_unet_diffusion",
        "Folder for what XLA compiles for GPUs on JAX, so that it is compiled "
        "once; empty for none.",
        **to,
    )
    flags.DEFINE_integer(
        "sample_epochs", 5, "Epochs between two sample grids.", **to
    )
    flags.DEFINE_integer(
        "checkpoint_epochs", 5, "Epochs between two checkpoints.", **to
    )
    flags.DEFINE_integer(
        "keep_checkpoints",
        2,
        "Newest checkpoints that are kept; the best is kept beside them.",
        **to,
    )
    flags.DEFINE_integer(
        "max_skipped_steps",
        10,
        "Updates in a row that are skipped, as something in them is not "
        "finite, before the run stops.",
        **to,
    )
    flags.DEFINE_list(
        "profile_batches",
        None,
        "First and last step of this run to profile for TensorBoard, such as "
        "50,60; none by default.",
        **to,
    )
    flags.DEFINE_integer(
        "num_sampling_steps", 50, "Sampling steps for the grids.", **to
    )
    flags.DEFINE_enum(
        "sampler", "ddim", list(SAMPLER_NAMES), "Of samples.png.", **to
    )


def _define_optimizer_flags(to):
    flags.DEFINE_string(
        "optimizer", "adam", "Name of a Keras optimizer, such as lion.", **to
    )
    flags.DEFINE_float("learning_rate", 2e-3, "Of the optimizer.", **to)
    flags.DEFINE_float("weight_decay", 0.0, "Of the optimizer.", **to)
    flags.DEFINE_enum(
        "learning_rate_schedule",
        "constant",
        ["constant", "cosine", "inverse_root"],
        "What becomes of the learning rate after the warm-up.",
        **to,
    )
    flags.DEFINE_integer(
        "warmup_steps", 100, "Updates until the full learning rate.", **to
    )
    flags.DEFINE_float(
        "decay_steps",
        None,
        "Updates after which inverse_root lets the learning rate fall.",
        **to,
    )
    flags.DEFINE_float("ema_decay", 0.995, "Decay of the average.", **to)
    flags.DEFINE_integer(
        "half_life_images",
        None,
        "Images after which a weight counts half in the average, in place of "
        "--ema_decay.",
        **to,
    )
    flags.DEFINE_list(
        "power_averages",
        None,
        "Relative deviations of further averages, such as 0.05,0.1, stored "
        "with each checkpoint, of which any other can be made later.",
        **to,
    )
