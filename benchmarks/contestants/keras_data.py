"""Images to train on, as this library reads them."""


def image_batches(source, image_shape, batch_size, data_dir=None, **options):
    """An endless `tf.data.Dataset` of batches, shuffled and mirrored.

    Args:
        source: str, see `image_dataset`; or "synthetic": one batch of random
            images again and again.
        image_shape: height, width and channels.
        batch_size: int.
        data_dir: folder of tensorflow-datasets.
        **options: of `image_dataset`.
    """
    import tensorflow as tf

    from keras_unet_diffusion.data import image_dataset

    if source == "synthetic":
        images = random_images(batch_size, image_shape)
        return tf.data.Dataset.from_tensors(images).repeat().prefetch(2)
    return image_dataset(
        source,
        image_size=image_shape[0],
        image_channels=image_shape[2],
        batch_size=batch_size,
        data_dir=data_dir,
        flip=True,
        repeat=True,
        **options,
    )


def random_images(batch_size, image_shape):
    """One batch of random images, a float32 array."""
    import numpy as np

    shape = (batch_size, *image_shape)
    return np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")
