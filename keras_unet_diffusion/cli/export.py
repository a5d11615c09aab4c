"""The command that exports: `kud-export`, `python -m export`."""

import sys

from absl import flags

from keras_unet_diffusion.cli.command import (
    check_given,
    check_place,
    load_diffusion_model,
    run_command,
)
from keras_unet_diffusion.export import (
    SAMPLERS,
    export_model,
    format_parity_table,
)
from keras_unet_diffusion.files import check_new_folder
from keras_unet_diffusion.samplers import SAMPLER_NAMES

DESCRIPTION = """Writes a trained model as files for other applications.

A SavedModel for TensorFlow, and LiteRT files for phones and devices. Each is
loaded back in another process and compared with the Keras model.
"""


def define_flags(values):
    """Defines the flags of the command on a `FlagValues`."""
    to = {"flag_values": values}
    flags.DEFINE_string(
        "checkpoint", None, "A work directory or a .keras file.", **to
    )
    flags.DEFINE_string("out", None, "Folder to write, new or empty.", **to)
    flags.DEFINE_multi_enum(
        "sampler",
        list(SAMPLERS),
        list(SAMPLER_NAMES),
        "A sampler that generate can choose; give it several times for more.",
        **to,
    )
    flags.DEFINE_integer(
        "image_size", None, "Pixels, for a network of any size.", **to
    )


def export(values):
    """Exports as the flags say; the command without its error handling."""
    check_given(values, "checkpoint", "out")
    check_place("out", values.out)
    check_new_folder(values.out)
    model = load_diffusion_model(values.checkpoint)
    rows = export_model(
        model,
        values.out,
        samplers=values.sampler,
        image_size=values.image_size,
    )
    print(format_parity_table(rows))
    print(f"The artifacts are in {values.out}.")


def main(argv=None):
    """Runs the command; returns its exit status."""
    return run_command(export, define_flags, DESCRIPTION, argv)


if __name__ == "__main__":
    sys.exit(main())
