"""Memory and time of a training step with and without `rematerialize`.

    python benchmarks/rematerialization.py --preset=ddpm_cifar10 --batch_size=16

Each variant runs in a process of its own: forward, backward, no optimizer.
Memory is what the step takes beyond the weights: on a GPU by TensorFlow's
allocator, on a CPU by the process's resident set.
"""

import argparse
import json
import os
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def measure(preset, batch_size, dtype, jit_compile, rematerialize, num_steps):
    """Runs a few steps in this process; prints one line of JSON."""
    import keras
    import numpy as np
    import tensorflow as tf

    from keras_unet_diffusion import UNet

    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    keras.utils.set_random_seed(0)
    network = UNet.from_preset(
        preset,
        dtype=dtype,
        rematerialize=rematerialize,
        # Last layers of zero would hide the gradients of the others.
        initialization="diffusers",
    )
    random = np.random.default_rng(0)
    shape = (batch_size, *network.input["noisy_images"].shape[1:])
    inputs = {
        "noisy_images": random.standard_normal(shape).astype("float32"),
        "noise_level": np.linspace(0, 999, batch_size, dtype="float32"),
    }
    if network.num_classes is not None:
        inputs["labels"] = np.arange(batch_size) % network.num_classes
    variables = network.trainable_variables

    @tf.function(jit_compile=jit_compile)
    def step():
        with tf.GradientTape() as tape:
            prediction = network(inputs, training=True)
            loss = tf.reduce_mean(tf.square(prediction))
        return loss, tf.linalg.global_norm(tape.gradient(loss, variables))

    step.get_concrete_function()
    before = _memory_bytes(gpus, peak=False)
    loss, norm = step()
    seconds = []
    for _ in range(num_steps):
        start = time.perf_counter()
        float(step()[1])
        seconds.append(time.perf_counter() - start)
    row = {
        "rematerialize": rematerialize,
        "loss": float(loss),
        "gradient_norm": float(norm),
        "step_mebibytes": round(
            (_memory_bytes(gpus, peak=True) - before) / 2**20
        ),
        "step_seconds": round(min(seconds), 4),
        "device": gpus[0].device_type if gpus else "CPU",
    }
    print(json.dumps(row))


def _memory_bytes(gpus, peak):
    if gpus:
        import tensorflow as tf

        info = tf.config.experimental.get_memory_info("GPU:0")
        return info["peak" if peak else "current"]
    wanted = "VmHWM:" if peak else "VmRSS:"
    with open("/proc/self/status") as status:
        line = next(x for x in status if x.startswith(wanted))
    return int(line.split()[1]) * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="ddpm_cifar10")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--jit_compile", action="store_true")
    parser.add_argument("--num_steps", type=int, default=2)
    parser.add_argument("--only", choices=["with", "without"])
    values = parser.parse_args()
    if values.only:
        measure(
            values.preset,
            values.batch_size,
            values.dtype,
            values.jit_compile,
            values.only == "with",
            values.num_steps,
        )
        return
    for only in ("without", "with"):
        command = [sys.executable, *sys.argv, f"--only={only}"]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
