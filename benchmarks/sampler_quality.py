"""Quality and cost of every sampler, at several numbers of steps.

    python benchmarks/sampler_quality.py --checkpoint=runs/digits \\
        --reference_data=digits --out=runs/sampler_quality

All samplers begin from the same noise and call the network in float32,
whatever it was trained in. Three measures: a Frechet distance to
the reference images in the features of a small classifier that is trained
here (NOT FID, see classifier_distance.py), with held-out real images as the
floor; for deterministic samplers the root mean square distance of pixels to
the solution by 200 steps of Heun; seconds and network calls. Results are
written after each row, so that a run which is stopped loses nothing.
"""

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from classifier_distance import (
    feature_network,
    frechet_distance,
    images_and_labels,
    make_folder,
    statistics_of,
)
from harness.report import context
from sampling_overhead import count_calls

from keras_unet_diffusion.cli.command import load_diffusion_model
from keras_unet_diffusion.data import image_dataset, save_grid
from keras_unet_diffusion.diffusion import FlowSchedule
from keras_unet_diffusion.export.network import rebuild_in_float32
from keras_unet_diffusion.generation import ImageGenerator
from keras_unet_diffusion.samplers import (
    DDIM,
    DDPM,
    LMS,
    DPMSolverPP,
    Euler,
    EulerAncestral,
    FlowEuler,
    FlowHeun,
    Heun,
    KarrasGrid,
    UniPC,
)

SAMPLERS = {
    "DDPM": DDPM(),
    "DDIM": DDIM(),
    "Euler": Euler(),
    "Euler ancestral": EulerAncestral(),
    "Heun": Heun(),
    "Heun, churn 30": Heun(
        churn=30, churn_min=0.01, churn_max=1.0, noise_scale=1.007
    ),
    "DPM-Solver++ 2": DPMSolverPP(order=2),
    "DPM-Solver++ 2, Karras grid": DPMSolverPP(order=2, grid=KarrasGrid()),
    "DPM-Solver++ 3": DPMSolverPP(order=3),
    "DPM-Solver++ 2 SDE": DPMSolverPP(order=2, stochastic=True),
    "UniPC": UniPC(),
    "LMS": LMS(),
}
FLOW_SAMPLERS = {"Flow Euler": FlowEuler(), "Flow Heun": FlowHeun()}
REFERENCE_STEPS = 200


def main():
    values = parse_arguments()
    deadline = time.monotonic() + 60 * values.minutes
    folder = make_folder(values.out)
    model = load_diffusion_model(values.checkpoint)
    # The network is compiled once, for all samplers and numbers of steps.
    generator = ImageGenerator(
        rebuild_in_float32(model.ema_network),
        model.process,
        jit_compile=bool(tf.config.list_physical_devices("GPU")),
    )
    results = context() | {
        "settings": vars(values),
        "num_images": values.num_images,
        "rows": [],
    }
    distance = reference_distance(generator, values, folder, results)
    samplers = SAMPLERS
    if isinstance(model.process.schedule, FlowSchedule):
        samplers = SAMPLERS | FLOW_SAMPLERS
    solution, calls, seconds = solve(generator, values)
    seconds_a_call = seconds / calls * values.num_images / values.batch_size
    grid = {}
    for num_steps in values.steps:
        for name, sampler in samplers.items():
            num_calls = count_calls(generator, sampler, num_steps)
            left = deadline - time.monotonic()
            if num_calls * seconds_a_call > left:
                print(f"Stopped: {left:.0f} s left are too few for {name}.")
                results["stopped_early"] = True
                write(folder, results, values.steps, grid, values.grid_images)
                return
            if num_steps == values.steps[0]:
                # Traces the loop, once for all numbers of steps.
                generate(generator, values, sampler, 2, values.batch_size)
            images, seconds = timed(generator, values, sampler, num_steps)
            row = {
                "sampler": name,
                "num_steps": num_steps,
                "network_calls": num_calls,
                "seconds": round(seconds, 2),
                "frechet_distance": distance(images),
                "distance_to_solution": None
                if sampler.is_stochastic
                else root_mean_square(images[: len(solution)] - solution),
            }
            results["rows"].append(row)
            grid[name, num_steps] = images[: values.grid_images]
            print(json.dumps(row), flush=True)
            write(folder, results, values.steps, grid, values.grid_images)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument(
        "--reference_data", "--reference-data", required=True, help="a source"
    )
    parser.add_argument("--data_dir")
    parser.add_argument("--split", default="train")
    parser.add_argument("--held_out_split", default="test")
    parser.add_argument("--num_images", type=int, default=2000)
    parser.add_argument("--batch_size", type=int, default=500)
    parser.add_argument("--steps", default="5,10,20,50")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--classifier_epochs", type=int, default=8)
    parser.add_argument("--grid_images", type=int, default=4)
    parser.add_argument("--out", required=True)
    values = parser.parse_args()
    values.steps = [int(x) for x in values.steps.split(",")]
    if values.num_images % values.batch_size:
        parser.error(
            "Batches of one size are compiled once. Received: --num_images="
            f"{values.num_images} --batch_size={values.batch_size}. Pass a "
            "multiple of the batch size."
        )
    return values


def reference_distance(generator, values, folder, results):
    """A function of images to their distance from the reference's."""
    height, _, channels = generator.image_shape()

    def read(split):
        return images_and_labels(
            image_dataset(
                values.reference_data,
                image_size=height,
                image_channels=channels,
                split=split,
                data_dir=values.data_dir,
                shuffle=True,
                seed=0,
            )
        )

    images, labels = read(values.split)
    held_out = read(values.held_out_split)[0][: values.num_images]
    about = {
        "source": values.reference_data,
        "split": values.split,
        "num_images": len(images),
        "image_shape": list(images.shape[1:]),
        "epochs": values.classifier_epochs,
    }
    network, accuracy = feature_network(
        images, labels, folder, about, values.classifier_epochs
    )
    reference = statistics_of(network, images)

    def distance(images):
        return frechet_distance(statistics_of(network, images), reference)

    results["reference"] = about | {
        "classifier_accuracy": round(accuracy, 4),
        "num_held_out_images": len(held_out),
        "frechet_distance_of_held_out_images": distance(held_out),
    }
    print(json.dumps(results["reference"]), flush=True)
    return distance


def solve(generator, values):
    """Images of one batch by many steps, network calls, and seconds."""
    sampler = Heun()
    # The first call also traces and compiles.
    generate(generator, values, sampler, 2, values.batch_size)
    start = time.perf_counter()
    images = generate(
        generator, values, sampler, REFERENCE_STEPS, values.batch_size
    )
    seconds = time.perf_counter() - start
    calls = count_calls(generator, sampler, REFERENCE_STEPS)
    print(f"Solution of {len(images)} images: {seconds:.1f} s.", flush=True)
    return images, calls, seconds


def timed(generator, values, sampler, num_steps):
    """Images, and the seconds they take."""
    start = time.perf_counter()
    images = generate(generator, values, sampler, num_steps, values.num_images)
    return images, time.perf_counter() - start


def generate(generator, values, sampler, num_steps, num_images):
    return generator.generate(
        num_images,
        num_steps=num_steps,
        seed=values.seed,
        sampler=sampler,
        batch_size=values.batch_size,
        verbose=0,
    )


def root_mean_square(x):
    return float(np.sqrt(np.mean(np.square(x, dtype="float64"))))


def describe(results):
    """Hardware and versions in words."""
    machine = results["hardware"]
    devices = machine["gpus"] or [f"{machine['cores']} cores, {machine['cpu']}"]
    versions = [f"{name} {x}" for name, x in results["versions"].items() if x]
    return ", ".join([*map(str, devices), *versions])


def write(folder, results, steps, grid, num_columns):
    """Writes all that is known so far: results.json, README.md, grid.png."""
    (folder / "results.json").write_text(json.dumps(results, indent=2))
    reference = results["reference"]
    names = list(dict.fromkeys(name for name, _ in grid))
    lines = [
        "# Samplers compared",
        "",
        f"`{results['command']}`",
        "",
        f"{describe(results)}. {results['num_images']} images from "
        "the same seeds by each; sorted by network calls. The distance "
        "is a Frechet distance in the features of a small classifier "
        f"of {reference['source']}: **not FID**, and comparable only within "
        f"this table. {reference['num_held_out_images']} real images that it "
        "has not seen are at "
        f"{reference['frechet_distance_of_held_out_images']:.3f}. Distance to "
        f"the solution: root mean square over pixels in [-1, 1] from "
        f"{REFERENCE_STEPS} steps of Heun; samplers that clip estimated "
        "images, as DDIM does, solve a slightly different equation.",
        "",
        "| network calls | steps | sampler | distance | to the solution | s |",
        "|---|---|---|---|---|---|",
    ]
    for row in sorted(results["rows"], key=lambda x: x["network_calls"]):
        solution = row["distance_to_solution"]
        lines.append(
            f"| {row['network_calls']} | {row['num_steps']} | {row['sampler']}"
            f" | {row['frechet_distance']:.3f} | "
            f"{'random' if solution is None else f'{solution:.4f}'} | "
            f"{row['seconds']} |"
        )
    lines += [
        "",
        f"grid.png, from the top: {'; '.join(names)}. From the left: "
        f"{', '.join(str(x) for x in steps)} steps, {num_columns} images each, "
        "the same seeds in each block; grey where nothing was made.",
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n")
    if not grid:
        return
    blank = np.zeros_like(next(iter(grid.values())))
    rows = [grid.get((n, k), blank) for n in names for k in steps]
    save_grid(
        folder / "grid.png",
        np.concatenate(rows),
        len(steps) * num_columns,
        scale=max(1, 32 // blank.shape[1]),
    )


if __name__ == "__main__":
    main()
