"""SavedModel: the denoiser and the whole sampling loop, for TensorFlow."""

import tensorflow as tf

from keras_unet_diffusion import noise as random_numbers
from keras_unet_diffusion.files import written_whole
from keras_unet_diffusion.generation import sampling_loop
from keras_unet_diffusion.network_calls import (
    network_image_shape,
    network_inputs,
    takes_labels,
)


def write_saved_model(path, network, process, sampler, image_shape):
    """Writes a SavedModel with the signatures `denoise` and `generate`.

    Nothing of this package is needed to load it. Batch sizes are dynamic;
    each weight is stored once. See `export/README.md` at the top of the
    repository for the signatures.

    Args:
        path: folder to write; it appears whole or not at all.
        network: a float32 `keras.Model`, see `rebuild_in_float32`.
        process: the `DiffusionProcess` that it was trained with.
        sampler: the `Sampler` of `generate`.
        image_shape: `(height, width, channels)` of `generate`; `denoise`
            takes whatever the network does.
    """
    module = tf.Module()
    # Only the variables, not the Keras network: it would bring them again.
    module.network_weights = [weight.value for weight in network.weights]
    batch_shape = (None, *network_image_shape(network))
    module.denoise = denoise_function(network, batch_shape)
    module.generate = _generate_function(network, process, sampler, image_shape)
    signatures = {"denoise": module.denoise, "generate": module.generate}
    with written_whole(path) as temporary:
        tf.saved_model.save(module, str(temporary), signatures)


def denoise_function(network, batch_shape):
    """Makes the `tf.function` of the signature `denoise`.

    Args:
        network: a float32 `keras.Model`.
        batch_shape: `(batch, height, width, channels)`, None where dynamic.

    Returns:
        A `tf.function` of noisy_images, noise_level[, labels].
    """
    specs = [
        tf.TensorSpec(batch_shape, tf.float32, name="noisy_images"),
        tf.TensorSpec(batch_shape[:1], tf.float32, name="noise_level"),
    ]
    if takes_labels(network):
        specs.append(tf.TensorSpec(batch_shape[:1], tf.int32, name="labels"))

    @tf.function(input_signature=specs)
    def denoise(noisy_images, noise_level, labels=None):
        inputs = network_inputs(network, noisy_images, noise_level, labels)
        return {"prediction": network(inputs, training=False)}

    return denoise


def _generate_function(network, process, sampler, image_shape):
    """Makes the `tf.function` of the signature `generate`."""
    specs = [
        tf.TensorSpec((), tf.int32, name="num_images"),
        tf.TensorSpec((), tf.int32, name="num_steps"),
        tf.TensorSpec((), tf.int64, name="seed"),
    ]
    if takes_labels(network):
        specs.append(tf.TensorSpec((None,), tf.int32, name="labels"))
    loop = sampling_loop(network, process, sampler)
    grid_steps = process.schedule.num_timesteps

    @tf.function(input_signature=specs)
    def generate(num_images, num_steps, seed, labels=None):
        checks = [
            tf.debugging.assert_positive(
                num_images, "num_images must be at least 1."
            ),
            tf.debugging.assert_positive(
                num_steps, "num_steps must be at least 1."
            ),
            tf.debugging.assert_less_equal(
                num_steps, grid_steps, f"num_steps is at most {grid_steps}."
            ),
        ]
        if labels is not None:
            checks.append(
                tf.debugging.assert_equal(
                    tf.shape(labels)[0],
                    num_images,
                    "labels must hold num_images numbers.",
                )
            )
        with tf.control_dependencies(checks):
            x_1 = random_numbers.normal_images(seed, 0, num_images, image_shape)
        return {"images": loop(x_1, num_steps, seed, 0, labels)}

    return generate
