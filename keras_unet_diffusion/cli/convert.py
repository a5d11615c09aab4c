"""The command that converts checkpoints: `kud-convert`."""

from pathlib import Path

from absl import flags

from keras_unet_diffusion.cli.command import (
    check_given,
    check_place,
    load_diffusion_model,
    run_command,
)
from keras_unet_diffusion.cli.train_flags import (
    FLAG_FILE,
    PREDICTIONS,
    SCHEDULES,
)
from keras_unet_diffusion.diffusion import DiffusionProcess
from keras_unet_diffusion.model import DiffusionModel
from keras_unet_diffusion.training import save_model
from keras_unet_diffusion.unet import UNet
from keras_unet_diffusion.weights import (
    find_layout,
    guided_arguments,
    open_checkpoint,
    save_checkpoint,
)

DESCRIPTION = """Converts checkpoints of other projects to Keras, and back.

From a checkpoint of diffusers, guided-diffusion, improved-diffusion, EDM or
the original DDPM, or from a model of ours. To a .keras file, which kud-sample
and kud-export take, or, with --layout, to another project's.
"""
EMA = {"auto": None, "averaged": True, "raw": False}


def define_flags(values):
    """Defines the flags of the command on a `FlagValues`."""
    to = {"flag_values": values}
    flags.DEFINE_string(
        "checkpoint",
        None,
        "What to convert: a .safetensors, .pt, .pth or .npz file, a folder of "
        "diffusers, a TensorFlow 1 checkpoint, a work directory or a .keras "
        "file.",
        **to,
    )
    flags.DEFINE_string(
        "out",
        None,
        "What to write: NAME.keras; or NAME.pt, NAME.safetensors, NAME.npz or "
        "a folder for diffusers.",
        **to,
    )
    flags.DEFINE_enum(
        "layout",
        None,
        ["diffusers", "guided_diffusion", "edm", "ddpm"],
        "Whose names to write, unless out is a .keras file.",
        **to,
    )
    flags.DEFINE_string(
        "preset", None, "Preset that the checkpoint is of, if known.", **to
    )
    flags.DEFINE_enum(
        "qkv_order",
        None,
        ["legacy", "new"],
        "Order of queries, keys and values in a checkpoint of guided- or "
        "improved-diffusion.",
        **to,
    )
    for name, what in (
        ("num_heads", "Attention heads"),
        ("num_head_channels", "Channels of one head"),
        ("image_size", "Pixels; by default any size"),
        ("super_resolution_factor", "Of an upsampler, 4 for 64 to 256 pixels"),
    ):
        flags.DEFINE_integer(
            name, None, f"{what}, where the checkpoint does not tell.", **to
        )
    flags.DEFINE_enum(
        "ema",
        "auto",
        list(EMA),
        "Which weights to read; auto prefers averaged ones.",
        **to,
    )
    flags.DEFINE_enum(
        "schedule",
        "linear",
        list(SCHEDULES),
        "Schedule that the network was trained with, for a .keras file.",
        **to,
    )
    flags.DEFINE_enum(
        "prediction",
        "noise",
        list(PREDICTIONS),
        "What the network predicts, for a .keras file.",
        **to,
    )


def convert(values):
    """Converts as the flags say; the command without its error handling."""
    check_given(values, "checkpoint", "out")
    check_place("out", Path(values.out).parent)
    if Path(values.out).suffix == ".keras":
        if values.layout or _is_ours(values.checkpoint):
            raise ValueError(
                "A .keras file is made from another project's checkpoint, in "
                f"one layout. Received: --checkpoint={values.checkpoint}, "
                f"--layout={values.layout} and --out={values.out}. Leave "
                "--layout out, or choose another --out."
            )
        _write_keras(values)
        return
    check_given(values, "layout")
    network = _read_network(values)
    order = values.qkv_order if values.layout == "guided_diffusion" else None
    save_checkpoint(network, values.out, values.layout, qkv_order=order)
    print(f"The weights are in {values.out}.")
    if values.layout == "guided_diffusion":
        print("Arguments of the network there:")
        for name, value in guided_arguments(network, order or "new").items():
            print(f"  {name}={value!r}")


def _is_ours(path):
    path = Path(path)
    return path.suffix == ".keras" or (path / FLAG_FILE).exists()


def _write_keras(values):
    network = _read_network(values)
    if find_layout(open_checkpoint(values.checkpoint).shapes).name == "edm":
        save_model(network, values.out)
        print(
            f"The network is in {values.out}. EDM's networks are told a "
            "quarter of the logarithm of the noise level, so this is the "
            "network alone: keras.saving.load_model loads it."
        )
        return
    process = DiffusionProcess(
        SCHEDULES[values.schedule](), PREDICTIONS[values.prediction]()
    )
    save_model(DiffusionModel(network, process), values.out)
    print(
        f"The model is in {values.out}: {network.count_params():,} parameters, "
        f"{values.schedule} schedule, {values.prediction} prediction. "
        "kud-sample and kud-export take it."
    )


def _read_network(values):
    """The network of --checkpoint, ours or another project's."""
    path = Path(values.checkpoint)
    if _is_ours(path):
        network = load_diffusion_model(path).ema_network
        if not isinstance(network, UNet):
            raise ValueError(
                "Only a UNet has counterparts in other projects. Received: "
                f"--checkpoint={path} with a {type(network).__name__}."
            )
        return network
    given = {
        name: values[name].value
        for name in (
            "num_heads",
            "num_head_channels",
            "image_size",
            "super_resolution_factor",
        )
        if values[name].value is not None
    }
    if values.preset:
        return UNet.from_preset(
            values.preset,
            weights=path,
            qkv_order=values.qkv_order,
            ema=EMA[values.ema],
            **given,
        )
    return UNet.from_checkpoint(
        path, qkv_order=values.qkv_order, ema=EMA[values.ema], **given
    )


def main(argv=None):
    """Runs the command; returns its exit status."""
    return run_command(convert, define_flags, DESCRIPTION, argv)
