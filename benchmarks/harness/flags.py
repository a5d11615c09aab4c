"""The command lines of the benchmarks: flags that several have, and checks."""

import argparse
import json


def make_parser(description):
    """A parser with the flags of each benchmark that starts processes.

    Args:
        description: str, the benchmark's docstring.

    Returns:
        An `argparse.ArgumentParser`.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--preset", default="ddpm_cifar10")
    add(
        "--overrides",
        type=json.loads,
        default={},
        help="arguments other than the preset's, JSON",
    )
    add("--minutes", type=float, default=60.0, help="no longer than that")
    add("--log_dir", help="for what the processes print")
    add("--out", help="file for the results, JSON")
    return parser


def add_execution_flags(parser):
    """Adds how networks run: batch sizes, dtype, and compiled or not."""
    add = parser.add_argument
    add("--batch_size", default="256", help="or several, by commas")
    add("--dtype", default="bfloat16", help="bfloat16, float16, float32")
    add("--jit_compile", default="auto", choices=("auto", "true", "false"))


def add_contest_flags(parser, contestants):
    """Adds who takes part, how often, and how each side compiles."""
    add = parser.add_argument
    add("--contestants", default=",".join(contestants))
    add("--rounds", type=int, default=3)
    add("--xla_flags", default="", help="for Keras on both backends")
    add("--compile_mode", default="default", help="of torch.compile")


def add_training_flags(parser, steps, steps_help, steps_per_execution):
    """Adds how long training goes on, and at which learning rate.

    Args:
        parser: of `make_parser`.
        steps: int, default of `--steps`.
        steps_help: str, what those steps are for.
        steps_per_execution: int, default.
    """
    add = parser.add_argument
    add("--steps", type=int, default=steps, help=steps_help)
    add(
        "--steps_per_execution",
        type=int,
        default=steps_per_execution,
        help="of Keras",
    )
    add("--learning_rate", type=float, default=2e-4)


def check_names(parser, kind, names, known):
    """Ends the command if there are names that mean nothing.

    Args:
        parser: of `make_parser`.
        kind: str, what they are names of.
        names: iterable of str.
        known: tuple of str.
    """
    unknown = sorted(set(names) - set(known))
    if unknown:
        parser.error(
            f"There is no such {kind}. Received: {', '.join(unknown)}. "
            f"Choose of {', '.join(known)}."
        )


def check_steps(parser, values):
    """Ends the command if Keras cannot take exactly `--steps` steps."""
    if values.steps % values.steps_per_execution:
        parser.error(
            "Keras takes --steps_per_execution steps at once. Received: "
            f"--steps={values.steps} --steps_per_execution="
            f"{values.steps_per_execution}. Make --steps a multiple of it."
        )


def batch_sizes(values):
    """The ints of `--batch_size`, a list."""
    return [int(size) for size in values.batch_size.split(",")]
