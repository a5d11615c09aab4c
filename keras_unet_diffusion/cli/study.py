"""The command that runs the studies: `kud-study`."""

import dataclasses
import sys
import time
from pathlib import Path

from absl import flags

from keras_unet_diffusion.cli.command import (
    check_given,
    check_place,
    run_command,
)
from keras_unet_diffusion.studies import (
    accumulation,
    alignment,
    attention_study,
    conditioning,
    gradient_flow,
    plain_cnn_study,
    receptive_field_study,
    resampling_study,
    scales,
    skips,
)
from keras_unet_diffusion.studies.budget import BUDGETS
from keras_unet_diffusion.studies.figures import (
    check_matplotlib,
    save_figure,
)
from keras_unet_diffusion.studies.laboratory import Laboratory
from keras_unet_diffusion.training.hardware import (
    describe_hardware,
    describe_versions,
)

DESCRIPTION = """Shows by experiment why the U-Net is built as it is.

Trains small networks of equal budget, and writes what was measured of them:
STUDY.json, STUDY.png and, on the screen, a table. Trained networks are kept in
OUT/networks and not trained again: after a stop, the same command goes on.
"""
STUDIES = {
    "plain_cnn": plain_cnn_study,
    "receptive_field": receptive_field_study,
    "skips": skips,
    "scales": scales,
    "conditioning": conditioning,
    "attention": attention_study,
    "alignment": alignment,
    "accumulation": accumulation,
    "gradient_flow": gradient_flow,
    "resampling": resampling_study,
}


def define_flags(values):
    """Defines the flags of the command on a `FlagValues`."""
    to = {"flag_values": values}
    flags.DEFINE_enum(
        "study", None, [*STUDIES, "all"], "Which study; all in turn.", **to
    )
    flags.DEFINE_string("out", None, "Folder to write into.", **to)
    flags.DEFINE_enum(
        "budget",
        "digits",
        list(BUDGETS),
        "What networks are given: digits, minutes on a CPU; cifar10, for a "
        "GPU. The flags below change it.",
        **to,
    )
    flags.DEFINE_string(
        "source", None, "Images, such as folder:PATH with train and test.", **to
    )
    flags.DEFINE_list("seeds", None, "Numbers by commas, such as 0,1,2.", **to)
    for name, what in (
        ("image_size", "Pixels."),
        ("image_channels", "1 or 3."),
        ("base_channels", "Channels of the U-Net's finest level."),
        ("train_steps", "Updates of the weights, a multiple of 4."),
        ("batch_size", "Images of an update."),
        ("validation_images", "Held-out images that losses are of."),
    ):
        flags.DEFINE_integer(name, None, what, lower_bound=1, **to)
    flags.DEFINE_float("learning_rate", None, "Of Adam.", **to)
    flags.DEFINE_bool("figure", True, "Whether a figure is drawn.", **to)


def study(values):
    """Runs studies as the flags say; the command without error handling."""
    check_given(values, "study", "out")
    check_place("out", values.out)
    budget = make_budget(values)
    if values.figure:
        check_matplotlib()
    folder = Path(values.out)
    folder.mkdir(parents=True, exist_ok=True)
    laboratory = Laboratory(
        budget,
        lambda line: print(line, flush=True),
        folder=folder / "networks",
    )
    chosen = STUDIES if values.study == "all" else [values.study]
    for name in chosen:
        run_study(name, laboratory, folder, values.figure)


def run_study(name, laboratory, folder, figure=True):
    """Runs one study, writes what it found and prints the table.

    Args:
        name: str, one of `STUDIES`.
        laboratory: a `Laboratory`.
        folder: `pathlib.Path` to write into.
        figure: bool. Whether a figure is drawn too.
    """
    began = time.perf_counter()
    result = STUDIES[name].run(laboratory)
    setting = {
        "budget": dataclasses.asdict(laboratory.budget),
        "seconds": round(time.perf_counter() - began),
        "hardware": describe_hardware(),
        "versions": describe_versions(),
    }
    result = dataclasses.replace(result, setting=setting)
    path = result.save(folder)
    print(f"\n{result.table()}\n")
    if figure:
        path = folder / f"{name}.png"
        save_figure(STUDIES[name].draw(result), path)
    print(f"{path}, {setting['seconds']} s", flush=True)


def make_budget(values):
    """The `Budget` of the flags.

    Raises:
        ValueError: a seed is no whole number, or there is none.
    """
    names = {x.name for x in dataclasses.fields(BUDGETS[values.budget])}
    given = {
        name: values[name].value
        for name in names & set(values)
        if values[name].value is not None
    }
    if "seeds" in given:
        try:
            given["seeds"] = tuple(int(seed) for seed in given["seeds"])
        except ValueError:
            raise ValueError(
                "--seeds are whole numbers by commas. Received: --seeds="
                f"{','.join(values.seeds)}. Pass for example --seeds=0,1,2."
            ) from None
    return dataclasses.replace(BUDGETS[values.budget], **given)


def main(argv=None):
    """Runs the command; returns its exit status."""
    return run_command(study, define_flags, DESCRIPTION, argv)


if __name__ == "__main__":
    sys.exit(main())
