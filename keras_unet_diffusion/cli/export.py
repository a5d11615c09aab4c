"""The command that exports: `kud-export`, `python -m export`."""

import functools
import sys
from pathlib import Path

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
    missing_packages,
)
from keras_unet_diffusion.export.manifest import MANIFEST_FILE, file_sha256
from keras_unet_diffusion.files import check_new_folder
from keras_unet_diffusion.samplers import SAMPLER_NAMES

DESCRIPTION = """Writes a trained model as files for other applications.

A SavedModel for TensorFlow, LiteRT files for phones, devices and browsers, ONNX
files where tf2onnx and onnxruntime are installed, the weights alone, a card and
a manifest. Each is loaded back in another process and compared with the Keras
model.
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
    flags.DEFINE_bool(
        "xla", False, "XLA compiles the SavedModel where it is loaded.", **to
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
        xla=values.xla,
        report=functools.partial(print, flush=True),
    )
    print(format_parity_table(rows))
    for what, packages in missing_packages().items():
        print(
            f"Left out: {what}, for want of {' and '.join(packages)}. To have "
            "it, pip install 'keras_unet_diffusion[export]' and export again."
        )
    manifest = Path(values.out, MANIFEST_FILE)
    print(
        f"The artifacts are in {values.out}. SHA-256 of {MANIFEST_FILE}: "
        f"{file_sha256(manifest)}"
    )


def main(argv=None):
    """Runs the command; returns its exit status."""
    return run_command(export, define_flags, DESCRIPTION, argv)


if __name__ == "__main__":
    sys.exit(main())
