"""What all commands share: flags of their own, help, errors in one line."""

import os
import sys

import tensorflow as tf
from absl import flags, logging

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
        Exit status: 0, 1 after an error of the user's, 130 if interrupted.
    """
    argv = sys.argv if argv is None else argv
    logging.use_absl_handler()
    logging.set_verbosity(logging.WARNING)
    logging.get_absl_handler().setFormatter(None)
    try:
        values = parse_flags(define_flags, argv)
    except flags.Error as error:
        return _complain(f"{error}. See --help.")
    if values.help:
        print(f"{description}\n{_help(values)}")
        return 0
    try:
        run(values)
    except USER_ERRORS as error:
        return _complain(_message(error))
    except KeyboardInterrupt:
        return _complain("Interrupted.", status=130)
    return 0


def _complain(message, status=1):
    sys.stdout.flush()
    print(f"Error: {message}", file=sys.stderr)
    return status


def _message(error):
    """One paragraph for the user, also from errors that are not ours."""
    if isinstance(error, tf.errors.OpError):
        return error.message.splitlines()[0]
    if isinstance(error, OSError) and error.errno is not None:
        where = f": {error.filename}" if error.filename else ""
        return f"{os.strerror(error.errno)}{where}."
    return str(error)


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
