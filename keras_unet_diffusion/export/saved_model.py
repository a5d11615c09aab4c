"""SavedModel: the denoiser and the whole sampling loop, for TensorFlow."""

import functools

import tensorflow as tf

from keras_unet_diffusion import noise as random_numbers
from keras_unet_diffusion.export.checks import (
    check_steps,
    checked,
    generate_checks,
    network_checks,
    number_of,
    step_checks,
)
from keras_unet_diffusion.export.plain_gradients import (
    save_with_plain_gradients,
)
from keras_unet_diffusion.export.signatures import (
    LOW_RESOLUTION,
    SharedNetwork,
    decode_function,
    denoise_function,
    encode_function,
    further_images,
    named,
)
from keras_unet_diffusion.export.step import step_function
from keras_unet_diffusion.export.step_table import most_steps
from keras_unet_diffusion.files import written_whole
from keras_unet_diffusion.generation_request import Task
from keras_unet_diffusion.guidance import ClassifierFreeGuidance
from keras_unet_diffusion.network_calls import (
    has_null_label,
    network_image_shape,
    num_labels,
    takes_labels,
)
from keras_unet_diffusion.samplers import Path, start
from keras_unet_diffusion.sampling_loop import LOOP_DTYPE, sampling_loop


def write_saved_model(path, network, process, samplers, image_shape, xla=False):
    """Writes a SavedModel with all signatures.

    They are `denoise`, `step`, `generate`, `encode_image` and `decode_image`.
    Nothing of this package is needed to load it. Batch sizes are dynamic;
    each weight is stored once, and so is the network's graph, which all
    signatures call. See `export/README.md` at the top of the repository.

    Args:
        path: folder to write; it appears whole or not at all.
        network: a float32 `keras.Model`, see `rebuild_in_float32`.
        process: the `DiffusionProcess` that it was trained with.
        samplers: dict of the `Sampler`s of `generate`, by name.
        image_shape: `(height, width, channels)` of `generate`; the others
            take whatever the network does.
        xla: bool. Whether XLA compiles the network where it is loaded, once
            for each batch size and image size that it is called with.

    Returns:
        Dict by signature of a pair, inputs and outputs: dicts by name of the
        shape, None where dynamic, and the name of the dtype.
    """
    module = tf.Module()
    # Only the variables, not the Keras network: it would bring them again.
    module.network_weights = [weight.value for weight in network.weights]
    batch_shape = (None, *network_image_shape(network))
    function = _network_function(network, xla)
    shared = SharedNetwork(network, function)
    upper_label = num_labels(network)
    most = most_steps(process.schedule)

    def check_denoise(given):
        return network_checks(given, "noisy_images", network, upper_label)

    def check_step(given):
        checks = network_checks(given, "x_t", network, upper_label)
        return checks + step_checks(given, most)

    signatures = {
        "denoise": checked(
            denoise_function(shared, batch_shape), check_denoise
        ),
        "step": checked(
            step_function(shared, process, batch_shape, as_bits=False),
            check_step,
        ),
        "generate": _generate_function(
            network, process, samplers, image_shape, function
        ),
        "encode_image": encode_function(image_shape[-1]),
        "decode_image": decode_function(image_shape[-1]),
    }
    # Traced here, once: whoever asks a `tf.function` traces it again.
    traced = {
        name: signature.get_concrete_function()
        for name, signature in signatures.items()
    }
    for name, signature in traced.items():
        setattr(module, name, signature)
    with written_whole(path) as temporary:
        save_with_plain_gradients(module, temporary, traced)
    return {
        name: _tensors(signatures[name].input_signature, signature)
        for name, signature in traced.items()
    }


def _tensors(specs, traced):
    """Shapes and dtypes of a function's inputs and outputs, by name."""

    def described(tensor):
        return tuple(tensor.shape), tensor.dtype.name

    outputs = traced.structured_outputs
    return (
        {spec.name: described(spec) for spec in specs},
        {name: described(output) for name, output in outputs.items()},
    )


def _network_function(network, xla):
    """The network as one function, which is put into no other.

    All loops call it. If each had a copy of its own, the first call of
    `generate` would take twice as long, and more memory.
    """
    return tf.function(
        lambda inputs: network(inputs, training=False),
        autograph=False,
        jit_compile=xla or None,
        experimental_attributes={"_noinline": True},
    ).get_concrete_function(
        tf.nest.map_structure(
            lambda x: tf.TensorSpec(x.shape, x.dtype), network.input
        )
    )


class _GuidanceIfAsked(ClassifierFreeGuidance):
    """Guidance that is computed where its scale is not 1.

    In each call of the network, so that a sampler's loop is in the file once
    and not with guidance and without.
    """

    def guided(self, calls, x_t, point, scale):
        return tf.cond(
            tf.equal(scale, 1.0),
            lambda: calls.conditional(x_t, point),
            lambda: ClassifierFreeGuidance.guided(
                self, calls, x_t, point, scale
            ),
        )


def _generate_function(network, process, samplers, image_shape, function):
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
    num_timesteps = process.schedule.num_timesteps

    guidance = _GuidanceIfAsked() if has_null_label(network) else None

    def run(sampler, given):
        """All steps of one sampler."""
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

    @tf.function(input_signature=named(specs), autograph=False)
    def generate(*values):
        given = dict(zip(specs, values, strict=True))
        number = number_of(given["sampler"], samplers)
        checks = generate_checks(given, num_labels(network))
        if num_timesteps is not None:
            checks.append(
                check_steps(given["num_steps"], num_timesteps, samplers, number)
            )
        with tf.control_dependencies(checks):
            given["num_steps"] = tf.identity(given["num_steps"])
        images = tf.switch_case(
            number,
            [
                functools.partial(run, sampler, given)
                for sampler in samplers.values()
            ],
        )
        return {"images": tf.ensure_shape(images, (None, *image_shape))}

    return generate
