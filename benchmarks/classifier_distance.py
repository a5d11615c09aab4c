"""Distance between sets of images by a small classifier. It is not FID.

Features are those of a small network trained on the reference images
themselves, so distances compare samplers of one model with each other and
with nothing that was published.
"""

import json
from pathlib import Path

import keras
import numpy as np

_BATCH_SIZE = 250


def build_classifier(image_shape, num_classes):
    """A small convolutional classifier whose layer "features" is used."""
    inputs = keras.Input(image_shape)
    x = inputs
    for channels in (32, 64, 128):
        for _ in range(2):
            x = keras.layers.Conv2D(channels, 3, padding="same")(x)
            x = keras.layers.GroupNormalization(8)(x)
            x = keras.layers.Activation("silu")(x)
        x = keras.layers.AveragePooling2D(2, padding="same")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(128, activation="silu", name="features")(x)
    return keras.Model(inputs, keras.layers.Dense(num_classes)(x))


def feature_network(images, labels, folder, about, epochs):
    """Trains the classifier, or loads it from an earlier run.

    Args:
        images: float32 `(num_images, height, width, channels)`.
        labels: ints `(num_images,)`; None for images without: then the task
            is by which of four right angles an image was turned.
        folder: `Path` where the classifier is kept.
        about: dict that must be equal for a kept one to be used.
        epochs: int.

    Returns:
        A `keras.Model` from images to features, and its accuracy in training.
    """
    kept, kept_about = folder / "classifier.keras", folder / "classifier.json"
    if kept.exists() and kept_about.exists():
        before = json.loads(kept_about.read_text())
        if before["about"] == about:
            return _features(keras.saving.load_model(kept)), before["accuracy"]
    if labels is None:
        turns = np.random.default_rng(0).integers(0, 4, len(images))
        images = np.stack(
            [np.rot90(x, k) for x, k in zip(images, turns, strict=True)]
        )
        labels = turns
    keras.utils.set_random_seed(0)
    classifier = build_classifier(images.shape[1:], int(labels.max()) + 1)
    classifier.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = classifier.fit(
        images, labels, batch_size=128, epochs=epochs, verbose=2
    )
    accuracy = history.history["accuracy"][-1]
    classifier.save(kept)
    kept_about.write_text(json.dumps({"about": about, "accuracy": accuracy}))
    return _features(classifier), accuracy


def _features(classifier):
    return keras.Model(
        classifier.input, classifier.get_layer("features").output
    )


def statistics_of(network, images):
    """Mean and covariance of the features of images.

    Images go through bytes, as files would keep them.
    """
    images = np.round((np.clip(images, -1, 1) + 1) * 127.5) / 127.5 - 1
    features = network.predict(
        images.astype("float32"), batch_size=_BATCH_SIZE, verbose=0
    ).astype("float64")
    return features.mean(axis=0), np.cov(features, rowvar=False)


def frechet_distance(first, second):
    """Squared Frechet distance of two normal distributions.

    Args:
        first: mean and covariance.
        second: mean and covariance.

    Reference:
        Dowson and Landau 1982. Differences: the trace of the root of the
        product is the sum of the roots of the eigenvalues of a symmetric
        matrix of the same eigenvalues.
    """
    mean, covariance = first
    mean_2, covariance_2 = second
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    product = np.linalg.eigvalsh(root @ covariance_2 @ root)
    return float(
        np.sum((mean - mean_2) ** 2)
        + np.trace(covariance)
        + np.trace(covariance_2)
        - 2 * np.sqrt(np.maximum(product, 0)).sum()
    )


def images_and_labels(dataset):
    """All of a dataset of batches as two arrays; labels may be None."""
    batches = [
        batch if isinstance(batch, tuple) else (batch, None)
        for batch in dataset.as_numpy_iterator()
    ]
    images = np.concatenate([x for x, _ in batches])
    if batches[0][1] is None:
        return images, None
    return images, np.concatenate([x for _, x in batches])


def make_folder(path):
    """A `Path` of a folder that exists."""
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
