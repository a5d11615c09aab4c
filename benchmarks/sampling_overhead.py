"""Time of a sampler's steps against as many calls of the network alone.

    python benchmarks/sampling_overhead.py --preset=ddpm_cifar10

Steps and bare calls alternate in one process, so that other load meets both.
Their ratio is what the sampler, its noise and its loop add. Exit status 1 if
it is above --limit for any sampler.
"""

import argparse
import json
import os
import statistics
import sys
import time

from harness.report import context, save

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="ddpm_cifar10")
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--num_steps", type=int, default=100)
    parser.add_argument("--num_repeats", type=int, default=3)
    parser.add_argument("--samplers", default="ddim,ddpm")
    parser.add_argument("--jit_compile", action="store_true")
    parser.add_argument("--limit", type=float, default=1.1)
    parser.add_argument("--out", help="file for the results, JSON")
    values = parser.parse_args()

    import keras

    from keras_unet_diffusion import UNet
    from keras_unet_diffusion.diffusion import DiffusionProcess
    from keras_unet_diffusion.generation import ImageGenerator

    keras.utils.set_random_seed(0)
    network = UNet.from_preset(values.preset, initialization="diffusers")
    process = DiffusionProcess()
    generator = ImageGenerator(network, process, values.jit_compile)
    print("| sampler | calls | steps, s | calls alone, s | ratio |")
    print("|---|---|---|---|---|")
    rows = []
    for name in values.samplers.split(","):
        row = measure(generator, name, values)
        rows.append(row)
        print(
            f"| {name} | {row['num_calls']} | {row['sampling_seconds']:.2f} | "
            f"{row['network_seconds']:.2f} | {row['ratio']:.3f} |",
            flush=True,
        )
    results = context() | {"settings": vars(values), "rows": rows}
    print(json.dumps(results))
    save(results, values.out)
    if any(row["ratio"] > values.limit for row in rows):
        sys.exit(f"A sampler takes more than {values.limit} times the network.")


def measure(generator, name, values):
    """Times a sampler and its network calls alone, in turns."""
    import tensorflow as tf

    num_calls = count_calls(generator, name, values.num_steps)
    function = network_alone(generator, values)

    def sampling():
        generator.generate(
            values.batch_size,
            num_steps=values.num_steps,
            seed=0,
            sampler=name,
            verbose=0,
        )

    def calls():
        for _ in range(num_calls):
            prediction = function()
        return float(tf.reduce_sum(prediction))  # waits for the device

    sampling(), calls()  # tracing, compiling, first touch of memory
    seconds = [
        (seconds_of(sampling), seconds_of(calls))
        for _ in range(values.num_repeats)
    ]
    return {
        "sampler": name,
        "num_calls": num_calls,
        "sampling_seconds": min(x for x, _ in seconds),
        "network_seconds": min(x for _, x in seconds),
        # Of neighbours in time: a machine that slows down slows both.
        "ratio": statistics.median(x / y for x, y in seconds),
    }


def count_calls(generator, name, num_steps):
    """Network calls of a sampler, counted where its loop runs in Python."""
    import tensorflow as tf

    from keras_unet_diffusion.samplers import make_sampler, sample

    calls = []

    def denoise(x_t, point):
        calls.append(1)
        return x_t, x_t

    noise = tf.zeros((1, 1, 1, 1), tf.float64)
    sample(
        make_sampler(name),
        denoise,
        noise,
        generator.process.schedule,
        num_steps,
        lambda i, k: noise,
    )
    return len(calls)


def network_alone(generator, values):
    """A function that calls the compiled network, as the loops call it."""
    import tensorflow as tf

    from keras_unet_diffusion.network_calls import (
        network_function,
        network_inputs,
    )

    network = generator.network
    labels = None
    if "labels" in network.input:
        labels = tf.zeros((values.batch_size,), tf.int32)
    inputs = network_inputs(
        network,
        tf.random.normal((values.batch_size, *generator.image_shape())),
        tf.fill([values.batch_size], 500.0),
        labels,
    )
    function = network_function(network, values.jit_compile)
    return lambda: function(inputs)


def seconds_of(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
