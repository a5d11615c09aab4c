"""The command that generates images: `kud-sample`."""

from absl import flags

from keras_unet_diffusion.cli.command import (
    check_given,
    check_place,
    load_diffusion_model,
    run_command,
)
from keras_unet_diffusion.data import save_grid, save_images
from keras_unet_diffusion.files import check_new_folder, written_whole

DESCRIPTION = """Generates images from a trained model.

Writes grid.png and one PNG file for each image.
"""


def define_flags(values):
    """Defines the flags of the command on a `FlagValues`."""
    to = {"flag_values": values}
    flags.DEFINE_string(
        "checkpoint", None, "A work directory or a .keras file.", **to
    )
    flags.DEFINE_string("out", None, "Folder to write, new or empty.", **to)
    flags.DEFINE_integer("num_images", 16, "Images to generate.", **to)
    flags.DEFINE_list(
        "labels",
        None,
        "Class numbers by commas, one for all images or one for each; by "
        "default the classes in turn.",
        **to,
    )
    flags.DEFINE_integer("num_steps", 50, "Sampling steps.", **to)
    flags.DEFINE_integer("seed", 0, "Image k is always the same.", **to)
    flags.DEFINE_enum("sampler", "ddim", ["ddim", "ddpm"], "Sampler.", **to)
    flags.DEFINE_float("eta", 0.0, "Randomness of ddim, 0 to 1.", **to)
    flags.DEFINE_integer("batch_size", 64, "Images made at once.", **to)
    flags.DEFINE_integer(
        "image_size", None, "Pixels, for a network of any size.", **to
    )


def sample(values):
    """Samples as the flags say; the command without its error handling."""
    check_given(values, "checkpoint", "out")
    check_place("out", values.out)
    check_new_folder(values.out)
    labels = _labels(values.labels)
    model = load_diffusion_model(values.checkpoint)
    images = model.generate(
        values.num_images,
        labels=labels,
        num_steps=values.num_steps,
        seed=values.seed,
        sampler=values.sampler,
        eta=values.eta,
        batch_size=values.batch_size,
        image_size=values.image_size,
    )
    with written_whole(values.out) as folder:
        folder.mkdir()
        save_images(folder, images)
        scale = max(1, 64 // images.shape[1])
        save_grid(folder / "grid.png", images, scale=scale)
    print(f"{len(images)} images and grid.png are in {values.out}.")


def _labels(labels):
    if labels is None:
        return None
    try:
        numbers = [int(label) for label in labels]
    except ValueError:
        raise ValueError(
            "--labels are class numbers by commas. Received: "
            f"--labels={','.join(labels)}. Pass for example --labels=3, or "
            "--labels=0,1 for two images."
        ) from None
    return numbers[0] if len(numbers) == 1 else numbers


def main(argv=None):
    """Runs the command; returns its exit status."""
    return run_command(sample, define_flags, DESCRIPTION, argv)
