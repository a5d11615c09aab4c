"""The file that keeps the flags of a run."""

from absl import flags

from keras_unet_diffusion.cli.command import parse_flags
from keras_unet_diffusion.cli.train_flags import define_flags
from keras_unet_diffusion.files import written_whole

FLAG_FILE = "train.flags"
# A run may go on under another value of these.
MAY_CHANGE = (
    "workdir",
    "train_steps",
    "num_devices",
    "keep_checkpoints",
    "max_skipped_steps",
    "profile_batches",
    "compilation_cache",
    "flagfile",
    "help",
    "h",
    "undefok",
)


def write_flags(workdir, values):
    """Writes all flags to `train.flags`, which --flagfile reads."""
    lines = values.flags_into_string().splitlines()
    lines = [line for line in lines if line != "--nohelp"]
    with written_whole(workdir / FLAG_FILE) as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def read_flags(workdir):
    """Returns the flags of the run in a work directory, None if none is."""
    flag_file = workdir / FLAG_FILE
    if not flag_file.exists():
        return None
    try:
        return parse_flags(define_flags, ["", f"--flagfile={flag_file}"])
    except flags.Error as error:
        raise ValueError(
            "The flags of the run in the work directory cannot be read. "
            f"Received: {flag_file} ({error}). Choose another --workdir."
        ) from None


def check_same_flags(workdir, before, values):
    """Raises a `ValueError` if a run would go on with other flags."""
    changed = [
        f"--{name} {before[name].value} -> {values[name].value}"
        for name in values
        if name not in MAY_CHANGE and before[name].value != values[name].value
    ]
    if (
        values.learning_rate_schedule == "cosine"
        and before.train_steps != values.train_steps
    ):
        # The learning rate has its way to the last step.
        changed.append(
            f"--train_steps {before.train_steps} -> {values.train_steps} under "
            "a cosine schedule"
        )
    if changed:
        raise ValueError(
            "The work directory holds a run with other flags. Received: "
            f"--workdir={workdir} with {', '.join(changed)}. Choose another "
            f"--workdir, or pass its flags: --flagfile={workdir / FLAG_FILE}."
        )
