"""The model card: what a run made, of what, how, on what and in what time."""

import json
import os
import statistics
from pathlib import Path

import keras

from keras_unet_diffusion.data.pixels import save_png
from keras_unet_diffusion.files import written_whole
from keras_unet_diffusion.training.callbacks import EveryEpochs
from keras_unet_diffusion.training.line_plot import line_plot

CARD_FILE = "README.md"
LOSS_PICTURE = "loss.png"
# Of the set that scikit-learn ships, from the UCI repository.
_LICENCES = {
    "digits": "CC BY 4.0 (UCI Optical Recognition of Handwritten "
    "Digits, Alpaydin and Kaynak 1998)"
}


def describe_data(source, name, split, image_size, image_channels):
    """Facts of the images that a model is trained on, for its card.

    Args:
        source: an opened `Source`, see `data.open_source`.
        name: str that it was opened by, such as "folder:photos".
        split: str.
        image_size: int, pixels that the network sees.
        image_channels: 1 or 3.

    Returns:
        Dict of str by name.
    """
    classes = "none"
    if source.class_names:
        names = list(source.class_names)
        shown = names if len(names) <= 20 else [*names[:20], "..."]
        classes = f"{len(names)}: {', '.join(shown)}"
    color = "grey" if image_channels == 1 else "RGB"
    return {
        "source": name,
        "split": split,
        "images": f"{len(source.items):,}",
        "size": f"{image_size} x {image_size} pixels, {color}",
        "classes": classes,
        "licence": _LICENCES.get(
            name, "that of the source, which this program does not know"
        ),
    }


def write_model_card(
    workdir, model, record, data, batch_size, flags=None, preset=None
):
    """Writes the model card, `README.md`, into a work directory.

    The card shows the newest of `samples.png` and the pictures in `samples/`,
    and the loss by steps, which is drawn beside it as `loss.png`. It appears
    whole or not.

    Args:
        workdir: the work directory.
        model: a `DiffusionModel`.
        record: the `RunRecord` of the run.
        data: dict of str by name, see `describe_data`.
        batch_size: int, images per training step.
        flags: dict of the command's flags by name, or None.
        preset: str, name of the network's preset, or None.

    Returns:
        `Path` of the card.

    Example:

    ```python
    source = open_source("folder:photos")
    data = describe_data(source, "folder:photos", "train", 32, 3)
    write_model_card("runs/photos", model, record, data, batch_size=64)
    ```
    """
    workdir = Path(workdir)
    steps = int(model.updates.steps_taken.numpy())
    parts = [
        f"# {workdir.absolute().name}\n",
        _introduction(model, data, steps),
        _pictures(workdir, record),
        f"## Data\n\n{_table(data)}",
        _network(model, preset),
        _training(model, steps, batch_size, flags),
        f"## Figures\n\n{_table(_figures(model, record, steps))}",
        _time(record),
        _hardware(record),
        _use(model),
        _limits(data),
    ]
    with written_whole(workdir / CARD_FILE) as temporary:
        temporary.write_text("\n".join(parts), encoding="utf-8")
    return workdir / CARD_FILE


class WriteModelCard(EveryEpochs):
    """Writes the model card now and then, see `write_model_card`.

    Put it after what saves checkpoints and makes samples.

    Args:
        workdir: the work directory.
        record: the `RunRecord` of the run.
        every_epochs: int >= 1.
        **facts: `data`, `batch_size`, `flags` and `preset`.
    """

    def __init__(self, workdir, record, every_epochs=1, **facts):
        super().__init__(every_epochs, batches_done=0)
        self.workdir = workdir
        self.record = record
        self.facts = facts

    def act(self, epoch, step):
        write_model_card(self.workdir, self.model, self.record, **self.facts)


def _introduction(model, data, steps):
    process = model.process
    return (
        f"A diffusion model of the images of `{data['source']}` "
        f"({data['images']} images, {data['size']}), trained for {steps:,} "
        f"steps with keras_unet_diffusion. It predicts the "
        f"{_kind(process.prediction, 'Prediction')} along the "
        f"{_kind(process.schedule, 'Schedule')} schedule.\n"
    )


def _kind(component, suffix):
    return type(component).__name__.removesuffix(suffix).lower()


def _pictures(workdir, record):
    """The newest samples and the curve of the losses."""
    lines = []
    found = [*workdir.glob("samples/*.png"), *workdir.glob("samples.png")]
    if found:
        newest = max(found, key=lambda path: path.stat().st_mtime_ns)
        where = newest.relative_to(workdir).as_posix()
        lines.append(f"![Samples of the averaged weights]({where})\n")
    names = {"training": "loss", "validation": "val_loss"}
    curves = {n: record.history(log) for n, log in names.items()}
    curves = {n: curve for n, curve in curves.items() if len(curve[0]) > 1}
    if curves:
        positive = all(min(y) > 0 for _, y in curves.values())
        picture = line_plot(curves, "steps", "loss", log_y=positive)
        save_png(workdir / LOSS_PICTURE, picture)
        lines.append(f"![Loss by steps]({LOSS_PICTURE})\n")
    return "\n".join(lines)


def _network(model, preset):
    network = model.network
    facts = {
        "class": type(network).__name__,
        "preset": preset or "none",
        "parameters": f"{network.count_params():,}",
        "dtype policy": network.dtype_policy.name,
    }
    arguments = {
        name: value
        for name, value in network.get_config().items()
        if name not in ("name", "trainable", "dtype", "layers")
    }
    return (
        f"## Network\n\n{_table(facts)}\n"
        f"{_folded('Arguments', _json(arguments), 'json')}"
    )


def _training(model, steps, batch_size, flags):
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    process = model.process
    facts = {
        "images seen": f"{steps * batch_size:,}",
        "steps": f"{steps:,} of {batch_size:,} images",
        "schedule": f"`{process.schedule!r}`",
        "prediction": f"`{process.prediction!r}`",
        "loss weights": f"`{process.weighting!r}`",
        "times": f"`{process.times!r}`",
        "optimizer": type(optimizer).__name__,
    }
    config = {
        name: value
        for name, value in model.get_config().items()
        if name not in ("name", "network", "process")
    }
    text = f"## Training\n\n{_table(facts)}\n"
    text += _folded("Arguments of the trainer", _json(config), "json")
    if flags:
        lines = [f"--{name}={_flag(flags[name])}" for name in sorted(flags)]
        text += "\n" + _folded("Flags", "\n".join(lines), "text")
    return text


def _flag(value):
    is_list = isinstance(value, list | tuple)
    return ",".join(map(str, value)) if is_list else value


def _figures(model, record, steps):
    figures = {}
    for title, name in (("loss", "loss"), ("validation loss", "val_loss")):
        at, values = record.history(name)
        if values:
            best = min(range(len(values)), key=values.__getitem__)
            figures[f"{title}, last"] = f"{values[-1]:.4g} at step {at[-1]:,}"
            figures[f"{title}, best"] = (
                f"{values[best]:.4g} at step {at[best]:,}"
            )
    quartiles = [record.history(f"loss_quartile_{k}")[1] for k in (1, 2, 3, 4)]
    if all(quartiles):
        figures["loss by quarter of t, from little noise to much"] = ", ".join(
            f"{values[-1]:.4g}" for values in quartiles
        )
    _, rates = record.history("images_per_second")
    if rates:
        figures["training images per second, median of the epochs"] = (
            f"{statistics.median(rates):,.0f}"
        )
    skipped = int(model.updates.skipped_steps.numpy())
    figures["steps skipped, not finite"] = f"{skipped:,} of {steps:,}"
    return figures


def _time(record):
    seconds = record.seconds()
    rows = {"all": sum(seconds.values())} | {
        part: seconds[part]
        for part in sorted(seconds, key=seconds.get, reverse=True)
    }
    rows = {p: _duration(spent) for p, spent in rows.items() if spent >= 0.05}
    count = len(record.sessions)
    return (
        f"## Time\n\n{_table(rows)}\n{count} "
        f"{'process' if count == 1 else 'processes'} worked on the run. What "
        "one that was killed did after its last checkpoint is not in the "
        "model and not in these times.\n"
    )


def _duration(seconds):
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    hours = f"{minutes // 60} h " if minutes >= 60 else ""
    return f"{hours}{minutes % 60} min ({seconds:,.0f} s)"


def _hardware(record):
    text, before = "## Hardware and versions\n", None
    for session in record.sessions:
        facts = session["hardware"] | session["versions"]
        if facts != before:
            text += (
                f"\nFrom step {session['first_step']:,}, "
                f"{session['started']}:\n\n{_table(facts)}"
            )
        before = facts
    return text


def _use(model):
    num_classes = getattr(model.network, "num_classes", None)
    labels = ", labels=0" if model.is_conditional and num_classes else ""
    return f"""## Use

In this folder, with keras_unet_diffusion installed:

```python
from keras_unet_diffusion.data import save_grid
from keras_unet_diffusion.training import load_model

model = load_model(".")
images = model.generate(16{labels}, num_steps=50, seed=0)
save_grid("more.png", images, scale=4)
```

`kud-sample` and `kud-export` take this folder as `--checkpoint`. A model file
is a program: load it only if you trust whom it comes from.
"""


def _limits(data):
    return f"""## Limits

- It knows the images of `{data["source"]}` alone, with their biases and their
  mistakes, at {data["size"]}.
- It may repeat images that it was trained on, small sets above all. Nobody
  has searched its samples for such copies.
- The losses above depend on the prediction type and the loss weights; they
  are no measure of the quality of samples, which was not measured here.
- Licence of the data: {data["licence"]}. Whether the model may be used or
  passed on depends on it.
"""


def _table(facts):
    lines = ["| | |", "|---|---|"]
    for name, value in facts.items():
        value = os.fspath(value) if isinstance(value, Path) else str(value)
        lines.append(f"| {name} | {value.replace('|', '&#124;')} |")
    return "\n".join(lines) + "\n"


def _folded(title, text, language):
    return (
        f"<details><summary>{title}</summary>\n\n```{language}\n{text}\n```\n\n"
        "</details>\n"
    )


def _json(arguments):
    plain = keras.saving.serialize_keras_object(arguments)
    return json.dumps(plain, indent=1, default=str)
