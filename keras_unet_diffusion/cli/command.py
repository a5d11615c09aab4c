"""What all commands share: flags of their own, help, errors in one line."""

import os
import re
import sys
from pathlib import Path

import tensorflow as tf
from absl import flags, logging

from keras_unet_diffusion.model import DiffusionModel
from keras_unet_diffusion.training import Diverged, Stopped, load_model

# Exit status of a run that was told to stop and goes on by the same command;
# sysexits.h: "temporary failure, the user is invited to retry".
STOPPED = 75
# What a user can cause and mend; anything else is our bug and keeps its
# traceback.
USER_ERRORS = (
    ValueError,
    OSError,
    tf.errors.FailedPreconditionError,
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
    tf.errors.ResourceExhaustedError,
)


def parse_flags(define_flags, argv):
    """Parses a command line by flags that are the command's alone.

    Args:
        define_flags: function that defines flags on a `FlagValues`.
        argv: list of str, the program's name first.

    Returns:
        The parsed `FlagValues`.

    Raises:
        absl.flags.Error: a flag is unknown or its value is not valid.
    """
    values = flags.FlagValues()
    define_flags(values)
    flags.DEFINE_bool(
        "help", False, "Show the flags.", short_name="h", flag_values=values
    )
    rest = values(argv)[1:]
    if rest:
        raise flags.Error(
            f"Arguments are given as --name=value. Received: {' '.join(rest)}"
        )
    return values


def run_command(run, define_flags, description, argv=None):
    """Runs a command and turns a user's errors into one clear line.

    Args:
        run: function of the parsed flags.
        define_flags: function that defines flags on a `FlagValues`.
        description: str, first lines of the help.
        argv: list of str, the program's name first; None for `sys.argv`.

    Returns:
        Exit status: 0, 1 after an error of the user's, 75 if training was
        stopped by a signal and saved, 130 if interrupted otherwise.
    """
    argv = sys.argv if argv is None else argv
    logging.use_absl_handler()
    logging.set_verbosity(logging.WARNING)
    logging.get_absl_handler().setFormatter(None)
    # Else absl warns that something was logged before its own flags were.
    flags.FLAGS.mark_as_parsed()
    try:
        values = parse_flags(define_flags, argv)
    except flags.Error as error:
        reason = str(error).removeprefix("ERROR:: ").rstrip(".")
        return _complain(f"{reason}. See --help.")
    if values.help:
        print(f"{description}\n{_help(values)}")
        return 0
    try:
        run(values)
    except USER_ERRORS as error:
        return _complain(_message(error))
    except Diverged as diverged:
        return _complain(str(diverged))
    except Stopped as stopped:
        sys.stdout.flush()
        print(f"{stopped} The same command goes on.", file=sys.stderr)
        return STOPPED
    except KeyboardInterrupt:
        return _complain("Interrupted.", status=130)
    return 0


def check_given(values, *names):
    """Raises a `ValueError` if a flag without a default was left out.

    Not by absl's own mark, which refuses --help without those flags.
    """
    missing = [f"--{name}" for name in names if not values[name].value]
    if missing:
        raise ValueError(
            "Some flags have no default. Received: no "
            f"{' and no '.join(missing)}. Pass them as --name=value; --help "
            "explains them."
        )


def check_place(name, path):
    """Raises a `ValueError` if nothing can be written at a flag's path."""
    path = Path(path).absolute()
    nearest = next(p for p in (path, *path.parents) if p.exists())
    if not nearest.is_dir():
        raise ValueError(
            f"A folder cannot be made where a file is. Received: --{name}="
            f"{path}, and {nearest} is a file. Choose another --{name}."
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(
            f"There is no right to write there. Received: --{name}={path}, "
            f"and {nearest} is read-only. Choose another --{name}, or change "
            "its permissions."
        )


def load_diffusion_model(path):
    """Loads what --checkpoint names; a `ValueError` if it is no such model."""
    try:
        model = load_model(path)
    except (KeyError, TypeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            "The file cannot be loaded as a Keras model. Received: "
            f"--checkpoint={path} ({reason}). Pass a work directory of train, "
            "or a .keras file from one."
        ) from error
    if not isinstance(model, DiffusionModel):
        raise ValueError(
            "The file holds another kind of model. Received: --checkpoint="
            f"{path} with a {type(model).__name__}. Pass a work directory of "
            "train, or a .keras file from one."
        )
    return model


def _complain(message, status=1):
    sys.stdout.flush()
    print(f"Error: {message}", file=sys.stderr)
    return status


def _message(error):
    """One paragraph for the user, also from errors that are not ours."""
    if isinstance(error, tf.errors.OpError):
        # TensorFlow puts the name of the operation before, in {{ }}.
        reason = re.sub("{{.*?}} ?", "", error.message.partition("\n")[0])
    elif isinstance(error, OSError) and error.errno is not None:
        where = f": {error.filename}" if error.filename else ""
        reason = os.strerror(error.errno) + where
    else:
        return str(error)
    return f"{reason.rstrip('.')}. Mend that, then run the command again."


def _help(values):
    """The command's flags; those of absl itself are left out."""
    lines = []
    for name in sorted(values):
        flag = values[name]
        if name != flag.name or name in ("flagfile", "undefok"):
            continue
        default = "" if flag.default is None else f" [{flag.default}]"
        lines.append(f"  --{name}{default}\n      {flag.help}")
    lines.append(
        "  --flagfile\n      Read flags from a file, one on each line; lines "
        "that begin with # are comments."
    )
    return "\n".join(lines)
