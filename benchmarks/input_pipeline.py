"""Images per second of the input pipeline alone.

    python benchmarks/input_pipeline.py --sources=folder,npz,synthetic
    python benchmarks/input_pipeline.py --sources=tfds:cifar10 --data_dir=DIR

`folder` and `npz` are written for the occasion, of random pictures, JPEG files
by class; `folder:PATH`, `npz:PATH` and `tfds:NAME` are read. With --step_ms,
the milliseconds of a training step on synthetic data, the table says what
share of that speed the pipeline can feed; a second column consumes the batches
on the device at that pace.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from contestants.keras_data import image_batches
from harness.report import (
    context,
    least_and_most,
    median_of,
    print_table,
    save,
    shown,
    spread,
)

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

COLUMNS = (
    "source",
    "kept decoded",
    "first batch, s",
    "images/s",
    "least, most",
    "images/s, consumed on the device",
    "of the speed at --step_ms",
)


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--sources", default="folder,npz,synthetic")
    add("--data_dir", help="where tensorflow-datasets looks")
    add("--num_images", type=int, default=10_000, help="of written sources")
    add("--written_size", type=int, default=32, help="their pixels")
    add("--image_size", type=int, default=32)
    add("--image_channels", type=int, default=3)
    add("--batch_size", type=int, default=256)
    add("--batches", type=int, default=200, help="of one round")
    add("--rounds", type=int, default=3)
    add("--step_ms", type=float, help="of training on synthetic data")
    add(
        "--decode",
        default="once,each_epoch",
        help="once: a set is kept decoded; each_epoch: folders alone",
    )
    add("--out", help="file for the results, JSON")
    return parser.parse_args(arguments)


def main(arguments=None):
    """Measures every source of the flags; returns the results, a dict."""
    values = parse(arguments)
    results = context() | {"settings": vars(values), "rows": []}
    with tempfile.TemporaryDirectory(prefix="input_pipeline_") as folder:
        for name in values.sources.split(","):
            source = written(name, Path(folder), values)
            for decode in values.decode.split(","):
                # Only files can be decoded anew; and batches of random
                # numbers are neither.
                if decode == "each_epoch" and not source.startswith("folder:"):
                    continue
                row = {"source": name, "decode": decode}
                row |= measure(source, decode, values)
                results["rows"].append(row)
                save(results, values.out)
    print_table(COLUMNS, map(table_row, results["rows"]))
    return results


def written(name, folder, values):
    """The source of a name; "folder" and "npz" are written first."""
    import numpy as np
    from PIL import Image

    size, count = values.written_size, values.num_images
    shape = (count, size, size, values.image_channels)
    random = np.random.default_rng(0)
    if name == "npz":
        path = folder / "images.npz"
        pixels = random.integers(0, 256, shape, "uint8")
        np.savez(path, images=pixels, labels=np.arange(count) % 10)
        return f"npz:{path}"
    if name != "folder":
        return name
    for k in range(10):
        (folder / "jpeg" / f"class_{k}").mkdir(parents=True)
    for k in range(count):
        # Smooth, as photographs are: noise takes a decoder twice as long.
        small = random.integers(0, 256, (4, 4, 3), "uint8")
        picture = Image.fromarray(small).resize((size, size), Image.BICUBIC)
        path = folder / "jpeg" / f"class_{k % 10}" / f"{k:06}.jpg"
        picture.save(path, quality=90)
    return f"folder:{folder / 'jpeg'}"


def measure(source, decode, values):
    """Reads a source alone, then with each batch consumed on the device."""
    import keras_unet_diffusion.data  # noqa: F401  Not in the first batch.

    start = time.perf_counter()
    dataset = make_dataset(source, decode, values)
    batches = iter(dataset)
    images_of(next(batches))
    row = {"first_batch_seconds": time.perf_counter() - start}
    consume = device_consumer(values)
    alone, consumed = [], []
    for _ in range(values.rounds):  # In turns, so that other load meets both.
        alone.append(read(batches, values, lambda images: None))
        consumed.append(read(batches, values, consume))
    row["images_per_second"] = spread(alone)
    row["consumed_images_per_second"] = spread(consumed)
    if values.step_ms:
        speed = 1000 * values.batch_size / values.step_ms
        row["share_of_training"] = (
            row["consumed_images_per_second"]["median"] / speed
        )
    return row


def make_dataset(source, decode, values):
    """An endless dataset of batches, as training reads it."""
    size = values.image_size
    options = {"max_decoded_bytes": 0} if decode == "each_epoch" else {}
    return image_batches(
        source,
        (size, size, values.image_channels),
        values.batch_size,
        values.data_dir,
        **options,
    )


def images_of(batch):
    return batch[0] if isinstance(batch, tuple) else batch


def read(batches, values, consume):
    """Images per second over some batches."""
    start = time.perf_counter()
    for _ in range(values.batches):
        consume(images_of(next(batches)))
    seconds = time.perf_counter() - start
    return values.batches * values.batch_size / seconds


def device_consumer(values):
    """A function that takes a batch to the device and waits for it there.

    With `step_ms` it lasts as long as a training step, during which the
    pipeline goes on.
    """
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")

    @tf.function
    def total(images):
        return tf.reduce_sum(images)

    def consume(images):
        start = time.perf_counter()
        with tf.device("GPU:0" if gpus else "CPU:0"):
            float(total(tf.identity(images)))
        left = (values.step_ms or 0) / 1000 - (time.perf_counter() - start)
        if left > 0:
            time.sleep(left)

    return consume


def table_row(row):
    """The cells of one source, as in `COLUMNS`."""
    speed = row["images_per_second"]
    return (
        row["source"],
        "no" if row["decode"] == "each_epoch" else "yes",
        shown(row["first_batch_seconds"], ".1f"),
        median_of(speed, ",.0f"),
        least_and_most(speed, ",.0f"),
        median_of(row["consumed_images_per_second"], ",.0f"),
        shown(row.get("share_of_training"), ".1%"),
    )


if __name__ == "__main__":
    main()
