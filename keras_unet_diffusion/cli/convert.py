"""The command that converts checkpoints: `kud-convert`."""

import json
import sys
from pathlib import Path

from absl import flags

from keras_unet_diffusion.cli.command import (
    check_given,
    check_place,
    run_command,
)
from keras_unet_diffusion.cli.process_choices import PREDICTIONS, SCHEDULES
from keras_unet_diffusion.cli.train_flag_file import FLAG_FILE
from keras_unet_diffusion.diffusion import (
    CosineSchedule,
    DiffusionProcess,
    EDMWeighting,
    LinearSchedule,
    LogNormalTimes,
    UniformTimes,
    UniformWeighting,
)
from keras_unet_diffusion.functional_network import FunctionalNetwork
from keras_unet_diffusion.magnitude_preserving_unet import (
    MagnitudePreservingUNet,
)
from keras_unet_diffusion.model import DiffusionModel
from keras_unet_diffusion.network_calls import check_inputs
from keras_unet_diffusion.published import PUBLISHED
from keras_unet_diffusion.training import load_model, save_model
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
# How diffusers names our schedules and predictions.
DIFFUSERS_SCHEDULES = {"linear": "linear", "squaredcos_cap_v2": "cosine"}
DIFFUSERS_PREDICTIONS = {
    "epsilon": "noise",
    "v_prediction": "velocity",
    "sample": "image",
}
# Of continuous time: by the schedule, what networks of EDM's files predict.
CONTINUOUS_LAYOUTS = ("edm", "edm2")
CONTINUOUS_PREDICTIONS = {"edm": "edm", "vp": "noise", "ve": "score"}
# Nichol and Dhariwal 2021: T 4000, the network told steps of 1,000.
IDDPM_TIMESTEPS = dict.fromkeys(
    ("iddpm_cifar10", "iddpm_imagenet64", "iddpm_imagenet64_conditional"), 4000
)
TIME_SCALE = 1000
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
        ["diffusers", "guided_diffusion", "edm", "edm2", "ddpm"],
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
    flags.DEFINE_enum(
        "written_qkv_order",
        "new",
        ["legacy", "new"],
        "The order to write with --layout=guided_diffusion.",
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
    for name, choices in (
        ("schedule", SCHEDULES),
        ("prediction", PREDICTIONS),
    ):
        flags.DEFINE_enum(
            name,
            None,
            list(choices),
            f"The {name} that the network was trained with, for a .keras "
            "file; by default what the preset or a scheduler beside the "
            "weights says.",
            **to,
        )
    flags.DEFINE_integer(
        "num_timesteps",
        None,
        "Steps of a linear or cosine schedule, if not 1000; the network is "
        "told them as if they were.",
        **to,
    )


def convert(values):
    """Converts as the flags say; the command without its error handling."""
    check_given(values, "checkpoint", "out")
    check_place("out", Path(values.out).parent)
    if Path(values.out).suffix != ".keras":
        check_given(values, "layout")
        _write_layout(values)
        return
    if values.layout or _is_ours(values.checkpoint):
        raise ValueError(
            "A .keras file is made from another project's checkpoint, in one "
            f"layout. Received: --checkpoint={values.checkpoint}, --layout="
            f"{values.layout} and --out={values.out}. Leave --layout out, or "
            "choose another --out."
        )
    _write_keras(values)


def _write_layout(values):
    if _is_ours(values.checkpoint):
        network = _our_network(values.checkpoint)
    else:
        network = _their_network(values, _open(values))
    is_guided = values.layout == "guided_diffusion"
    order = values.written_qkv_order if is_guided else None
    save_checkpoint(network, values.out, values.layout, qkv_order=order)
    print(f"The weights are in {values.out}.")
    if is_guided:
        print("Arguments of the network there:")
        for name, value in guided_arguments(network, order).items():
            print(f"  {name}={value!r}")


def _write_keras(values):
    checkpoint = _open(values)
    process = _process(values, find_layout(checkpoint.shapes).name)
    network = _their_network(values, checkpoint)
    if "context" in network.input:
        save_model(network, values.out)
        print(
            f"The network alone is in {values.out}: no DiffusionModel can "
            f"call one of its kind yet. keras.saving.load_model loads it."
        )
        return
    check_inputs(network)
    save_model(DiffusionModel(network, process), values.out)
    print(
        f"The model is in {values.out}: {network.count_params():,} parameters, "
        f"{process.schedule!r}, {process.prediction!r}. kud-sample and "
        "kud-export take it."
    )


def _is_ours(path):
    path = Path(path)
    return path.suffix == ".keras" or (path / FLAG_FILE).exists()


def _our_network(path):
    """The network, averaged if there is an average, of a file of ours."""
    path = Path(path)
    model = load_model(path)
    network = getattr(model, "ema_network", model)
    if not isinstance(network, FunctionalNetwork):
        raise ValueError(
            "Only networks of this library have counterparts in others. "
            f"Received: --checkpoint={path} with a {type(network).__name__}. "
            "Pass a file with a UNet or a model around one."
        )
    return network


def _open(values):
    return open_checkpoint(values.checkpoint, ema=EMA[values.ema])


def _their_network(values, checkpoint):
    """The network of another project's checkpoint."""
    kinds = {"edm2": MagnitudePreservingUNet}
    kind = kinds.get(find_layout(checkpoint.shapes).name, UNet)
    arguments = {
        name: values[name].value
        for name in (
            "num_heads",
            "num_head_channels",
            "image_size",
            "super_resolution_factor",
            "qkv_order",
        )
        if values[name].value is not None
    }
    if values.preset:
        return kind.from_preset(values.preset, weights=checkpoint, **arguments)
    return kind.from_checkpoint(checkpoint, **arguments)


def _process(values, layout):
    """The process that a network was trained with, a `DiffusionProcess`."""
    if layout in CONTINUOUS_LAYOUTS:
        return _continuous_process(values)
    published = PUBLISHED.get(values.preset)
    known = _diffusers_scheduler(values.checkpoint)
    if published is not None and published.schedule is not None:
        known = {"schedule": published.schedule, "prediction": "noise"}
    names = {
        name: values[name].value or known.get(name)
        for name in ("schedule", "prediction")
    }
    missing = [f"--{name}" for name, value in names.items() if not value]
    if missing:
        raise ValueError(
            "Weights do not tell how a network was trained. Received: "
            f"--checkpoint={values.checkpoint} without "
            f"{' and '.join(missing)}. Pass them: DDPM is linear and "
            "noise, ADM at 64x64 cosine and noise."
        )
    steps = values.num_timesteps or IDDPM_TIMESTEPS.get(values.preset)
    return DiffusionProcess(
        _schedule(names["schedule"], steps), PREDICTIONS[names["prediction"]]()
    )


def _schedule(name, num_timesteps):
    """A schedule of so many steps, None for its own number."""
    if num_timesteps is None:
        return SCHEDULES[name]()
    options = {"num_timesteps": num_timesteps, "time_scale": TIME_SCALE}
    if name == "linear":
        return LinearSchedule(scale_betas=True, **options)
    if name == "cosine":
        return CosineSchedule(**options)
    raise ValueError(
        "Only linear and cosine schedules are known with other numbers of "
        f"steps. Received: --num_timesteps={num_timesteps} and --schedule="
        f"{name}. Leave --num_timesteps out."
    )


def _continuous_process(values):
    """Likewise of networks that are told sigma: EDM's unless a flag says."""
    if values.num_timesteps is not None:
        raise ValueError(
            "Networks of EDM's files know no steps. Received: --num_timesteps="
            f"{values.num_timesteps}. Leave it out."
        )
    schedule = values.schedule or "edm"
    prediction = values.prediction or CONTINUOUS_PREDICTIONS.get(schedule)
    if prediction is None:
        raise ValueError(
            "Networks of EDM's files are of continuous time. Received: "
            f"--schedule={schedule} and no --prediction. Pass --schedule=edm, "
            "vp (DDPM++) or ve (NCSN++), or both flags."
        )
    is_edm = prediction == "edm"
    return DiffusionProcess(
        SCHEDULES[schedule](),
        PREDICTIONS[prediction](),
        EDMWeighting() if is_edm else UniformWeighting(),
        LogNormalTimes() if is_edm else UniformTimes(),
    )


def _diffusers_scheduler(path):
    """What a scheduler of diffusers beside the weights says, by flag."""
    for place in (".", "scheduler", "../scheduler"):
        file = Path(path) / place / "scheduler_config.json"
        if not file.is_file():
            continue
        try:
            config = json.loads(file.read_text())
        except ValueError as error:
            raise ValueError(
                "The scheduler's configuration is no JSON. Received: "
                f"{file} ({error}). Mend it, or remove it and pass --schedule "
                "and --prediction."
            ) from None
        usual = {
            "num_train_timesteps": 1000,
            "beta_start": 1e-4,
            "beta_end": 0.02,
        }
        if any(config.get(x, usual[x]) != usual[x] for x in usual):
            return {}
        return {
            "schedule": DIFFUSERS_SCHEDULES.get(
                config.get("beta_schedule", "linear")
            ),
            "prediction": DIFFUSERS_PREDICTIONS.get(
                config.get("prediction_type", "epsilon")
            ),
        }
    return {}


def main(argv=None):
    """Runs the command; returns its exit status."""
    return run_command(convert, define_flags, DESCRIPTION, argv)


if __name__ == "__main__":
    sys.exit(main())
