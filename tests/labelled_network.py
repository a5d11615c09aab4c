"""A network with labels, guided, that is traced in a second."""

import keras
from conftest import randomize

from keras_unet_diffusion import layers

ESTIMATE = "previous_estimate"


def labelled_network(
    channels=8, image_size=8, remembers=False, marked=None, classes=4
):
    """Two convolutions between which noise level and label are added.

    Args:
        channels: int, between the convolutions.
        image_size: int or None.
        remembers: bool. Whether it is told its previous estimate.
        marked: layer of images that is put in front; None for none.
        classes: int. There is a null label beside them.
    """
    images = keras.Input((image_size, image_size, 1), name="noisy_images")
    level = keras.Input((), name="noise_level")
    labels = keras.Input((), dtype="int32", name="labels")
    inputs = {"noisy_images": images, "noise_level": level, "labels": labels}
    hidden = images if marked is None else marked(images)
    if remembers:
        last = keras.Input((image_size, image_size, 1), name=ESTIMATE)
        inputs[ESTIMATE] = last
        hidden = keras.layers.Concatenate()([hidden, last])
    told = layers.NoiseLevelEmbedding(channels, 16)(level)
    told = told + keras.layers.Embedding(classes + 1, channels)(labels)
    hidden = keras.layers.Conv2D(channels, 3, padding="same")(hidden)
    hidden = hidden + keras.layers.Reshape((1, 1, channels))(told)
    hidden = keras.layers.Conv2D(channels, 3, padding="same")(
        keras.ops.silu(hidden)
    )
    outputs = keras.layers.Conv2D(1, 3, padding="same")(keras.ops.silu(hidden))
    network = keras.Model(inputs, outputs)
    network.num_classes, network.null_label = classes, "learned"
    return randomize(network)
