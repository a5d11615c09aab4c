"""Trains as one of several processes: `python worker_case.py OUT NUMBER PORTS`.

With KERAS_BACKEND as wanted; without ports alone. Not a test.
"""

import contextlib
import json
import os
import sys

import keras
import numpy as np


def scope(number, ports):
    """Context of one worker."""
    if not ports:
        return contextlib.nullcontext()
    workers = [f"127.0.0.1:{port}" for port in ports]
    if keras.backend.backend() == "jax":
        keras.distribution.initialize(",".join(workers), len(ports), number)
        devices = keras.distribution.list_devices()
        return keras.distribution.DataParallel(devices=devices).scope()
    task = {"type": "worker", "index": number}
    cluster = {"cluster": {"worker": workers}, "task": task}
    os.environ["TF_CONFIG"] = json.dumps(cluster)
    import tensorflow as tf

    return tf.distribute.MultiWorkerMirroredStrategy().scope()


def main(out, number, *ports):
    with scope(int(number), ports):
        # Only now: it brings up TensorFlow.
        import replica_cases

        make_optimizer, arguments = replica_cases.CASES["clipped"]
        model = replica_cases.make_model(make_optimizer, **arguments)
        history = model.fit(
            replica_cases.dataset(replica_cases.IMAGES),
            verbose=0,
            shuffle=False,
        ).history
    weights = [np.ravel(w) for w in model.network.get_weights()]
    np.savez(out, weights=np.concatenate(weights), loss=history["loss"])


if __name__ == "__main__":
    main(*sys.argv[1:])
