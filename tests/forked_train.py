"""The command that trains, in processes that start in no time.

To import TensorFlow and to trace a U-Net takes half a minute; a test that
kills thirty processes cannot wait for that. `run` is called in processes that
are forked from one which has imported this module, and its network is as small
as one can be; all the rest is the command.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import sklearn.datasets  # noqa: E402, F401

from keras_unet_diffusion import UNet  # noqa: E402
from keras_unet_diffusion.cli import train, train_model  # noqa: E402


def build_network(values, source):
    """One block on the way down and two on the way up; dropout, labels."""
    return UNet(
        image_size=8,
        image_channels=1,
        base_channels=4,
        channel_multipliers=(1,),
        num_residual_blocks=1,
        attention_resolutions=(),
        num_groups=2,
        num_classes=10,
        null_label="learned",
        dropout=0.2,
    )


def run(arguments, output, eagerly):
    """Runs the command with its output in a file; ends the process.

    Args:
        arguments: list of str, flags.
        output: path of the file, which is appended to.
        eagerly: bool. Whether to leave out tracing too.
    """
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(descriptor, stream.fileno())
        stream.reconfigure(line_buffering=True)
    train.build_network = build_network
    if eagerly:
        train.execution = lambda values: {"run_eagerly": True}
        train_model.execution = train.execution
    sys.exit(train.main(["kud", *arguments]))
