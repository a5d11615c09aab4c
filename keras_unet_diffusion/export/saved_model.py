"""SavedModel: the denoiser and the whole sampling loop, for TensorFlow."""

import functools

import tensorflow as tf

from keras_unet_diffusion import noise as random_numbers
from keras_unet_diffusion.files import written_whole
from keras_unet_diffusion.generation_request import Task
from keras_unet_diffusion.guidance import ClassifierFreeGuidance
from keras_unet_diffusion.network_calls import (
    has_null_label,
    network_function,
    network_image_shape,
    network_inputs,
    num_labels,
    takes_labels,
)
from keras_unet_diffusion.samplers import Path, start
from keras_unet_diffusion.sampling_loop import LOOP_DTYPE, sampling_loop

LOW_RESOLUTION = "low_resolution_images"


def write_saved_model(path, network, process, samplers, image_shape):
    """Writes a SavedModel with the signatures `denoise` and `generate`.

    Nothing of this package is needed to load it. Batch sizes are dynamic;
    each weight is stored once. See `export/README.md` at the top of the
    repository for the signatures.

    Args:
        path: folder to write; it appears whole or not at all.
        network: a float32 `keras.Model`, see `rebuild_in_float32`.
        process: the `DiffusionProcess` that it was trained with.
        samplers: dict of the `Sampler`s of `generate`, by name.
        image_shape: `(height, width, channels)` of `generate`; `denoise`
            takes whatever the network does.
    """
    module = tf.Module()
    # Only the variables, not the Keras network: it would bring them again.
    module.network_weights = [weight.value for weight in network.weights]
    batch_shape = (None, *network_image_shape(network))
    module.denoise = denoise_function(network, batch_shape)
    module.generate = _generate_function(
        network, process, samplers, image_shape
    )
    signatures = {"denoise": module.denoise, "generate": module.generate}
    with written_whole(path) as temporary:
        tf.saved_model.save(module, str(temporary), signatures)


def denoise_function(network, batch_shape):
    """Makes the `tf.function` of the signature `denoise`.

    Args:
        network: a float32 `keras.Model`.
        batch_shape: `(batch, height, width, channels)`, None where dynamic.

    Returns:
        A `tf.function` of noisy_images, noise_level and, if the network takes
        them, labels, low_resolution_images and previous_estimate.
    """
    batch, *image_shape = batch_shape
    specs = {
        "noisy_images": tf.TensorSpec(batch_shape, tf.float32),
        "noise_level": tf.TensorSpec((batch,), tf.float32),
    }
    if takes_labels(network):
        specs["labels"] = tf.TensorSpec((batch,), tf.int32)
    for name, shape in further_images(network, image_shape).items():
        specs[name] = tf.TensorSpec((batch, *shape), tf.float32)

    @tf.function(input_signature=_named(specs), autograph=False)
    def denoise(*values):
        inputs = network_inputs(
            network, **dict(zip(specs, values, strict=True))
        )
        return {"prediction": network(inputs, training=False)}

    return denoise


def further_images(network, image_shape):
    """What images a network takes beside the noisy ones.

    Args:
        network: a `keras.Model`.
        image_shape: `(height, width, channels)` of the noisy images, None
            where dynamic.

    Returns:
        Dict of their shapes by input name.
    """
    shapes = {}
    if "low_resolution_images" in network.input:
        factor = network.super_resolution_factor
        *sizes, channels = image_shape
        sizes = (None if size is None else size // factor for size in sizes)
        shapes["low_resolution_images"] = (*sizes, channels)
    if "previous_estimate" in network.input:
        shapes["previous_estimate"] = tuple(image_shape)
    return shapes


def _named(specs):
    """A dict of `tf.TensorSpec`s as a signature whose inputs have names."""
    return [
        tf.TensorSpec(spec.shape, spec.dtype, name)
        for name, spec in specs.items()
    ]


def _generate_function(network, process, samplers, image_shape):
    """Makes the `tf.function` of the signature `generate`."""
    specs = {
        "num_images": tf.TensorSpec((), tf.int32),
        "num_steps": tf.TensorSpec((), tf.int32),
        "seed": tf.TensorSpec((), tf.int64),
        "sampler": tf.TensorSpec((), tf.string),
    }
    if takes_labels(network):
        specs["labels"] = tf.TensorSpec((None,), tf.int32)
    if has_null_label(network):
        specs["guidance_scale"] = tf.TensorSpec((), tf.float32)
    low_resolution = further_images(network, image_shape).get(LOW_RESOLUTION)
    if low_resolution is not None:
        specs[LOW_RESOLUTION] = tf.TensorSpec(
            (None, *low_resolution), tf.float32
        )
    function = network_function(network)
    num_timesteps = process.schedule.num_timesteps

    def run(sampler, guidance, given):
        """All steps of one sampler, with guidance or without."""
        shape, first = image_shape, tf.constant(0, tf.int32)
        path = Path(process.schedule, sampler, given["num_steps"], LOOP_DTYPE)
        ratios = path(tf.range(given["num_steps"] + 1)).noise_ratio
        are_apart = tf.debugging.assert_less(
            ratios[1:],
            ratios[:-1],
            "Two steps of the grid coincide: pass fewer num_steps.",
        )
        noise = random_numbers.normal_images(
            given["seed"], 0, given["num_images"], shape
        )
        with tf.control_dependencies([are_apart]):
            num_steps = tf.identity(given["num_steps"])
        x_t = sampler.initial(tf.cast(noise, LOOP_DTYPE), path)
        inputs = {
            "variables": start(sampler, x_t),
            "first": first,
            "last": num_steps,
            "num_steps": given["num_steps"],
            "seed": given["seed"],
            "first_image": first,
            "guidance_scale": tf.cast(
                given.get("guidance_scale", 1.0), LOOP_DTYPE
            ),
        }
        if "labels" in given:
            inputs["labels"] = given["labels"]
        if LOW_RESOLUTION in given:
            inputs["others"] = {LOW_RESOLUTION: given[LOW_RESOLUTION]}
        loop = sampling_loop(
            network, process, Task(sampler, guidance), lambda _: function
        )
        return tf.cast(loop(inputs)[0], tf.float32)

    def with_guidance(sampler, given):
        if "guidance_scale" not in given:
            return run(sampler, None, given)
        return tf.cond(
            tf.equal(given["guidance_scale"], 1.0),
            lambda: run(sampler, None, given),
            lambda: run(sampler, ClassifierFreeGuidance(), given),
        )

    @tf.function(input_signature=_named(specs), autograph=False)
    def generate(*values):
        given = dict(zip(specs, values, strict=True))
        number = _number_of(given["sampler"], samplers)
        checks = _checks(given, num_labels(network))
        if num_timesteps is not None:
            checks.append(
                _check_steps(
                    given["num_steps"], num_timesteps, samplers, number
                )
            )
        with tf.control_dependencies(checks):
            given["num_steps"] = tf.identity(given["num_steps"])
        images = tf.switch_case(
            number,
            [
                functools.partial(with_guidance, sampler, given)
                for sampler in samplers.values()
            ],
        )
        return {"images": tf.ensure_shape(images, (None, *image_shape))}

    return generate


def _number_of(name, samplers):
    """Place of a sampler's name among those exported."""
    is_it = tf.equal(tf.constant(list(samplers)), name)
    check = tf.debugging.assert_equal(
        tf.reduce_any(is_it),
        True,
        f"sampler must be one of {', '.join(samplers)}.",
    )
    with tf.control_dependencies([check]):
        return tf.argmax(tf.cast(is_it, tf.int32), output_type=tf.int32)


def _check_steps(num_steps, num_timesteps, samplers, number):
    """Assertion that the schedule has the steps of the sampler chosen."""
    # As without a last step to the clean image, one is left for the end.
    most = [num_timesteps - (not x.final_denoising) for x in samplers.values()]
    return tf.debugging.assert_less_equal(
        num_steps,
        tf.constant(most)[number],
        f"num_steps is at most {num_timesteps}, or one less for samplers "
        "without final_denoising.",
    )


def _checks(given, upper_label):
    """Assertions about what `generate` was given."""
    checks = [
        tf.debugging.assert_positive(
            given["num_images"], "num_images must be at least 1."
        ),
        tf.debugging.assert_positive(
            given["num_steps"], "num_steps must be at least 1."
        ),
        tf.debugging.assert_non_negative(
            given["seed"], "seed must be at least 0."
        ),
    ]
    if "labels" in given:
        labels = given["labels"]
        upper = upper_label or tf.int32.max
        checks.append(
            tf.debugging.assert_equal(
                tf.reduce_all((labels >= 0) & (labels < upper)),
                True,
                f"labels must be numbers from 0 to {upper - 1}.",
            )
        )
    if "guidance_scale" in given:
        scale = given["guidance_scale"]
        checks.append(
            tf.debugging.assert_equal(
                tf.math.is_finite(scale) & (scale >= 0),
                True,
                "guidance_scale must be a number, at least 0.",
            )
        )
    for name, what in (("labels", "numbers"), (LOW_RESOLUTION, "images")):
        if name in given:
            checks.append(
                tf.debugging.assert_equal(
                    tf.shape(given[name])[0],
                    given["num_images"],
                    f"{name} must hold num_images {what}.",
                )
            )
    return checks
