"""Assertions in a SavedModel: what its signatures are given, named."""

import tensorflow as tf

from keras_unet_diffusion.export.signatures import LOW_RESOLUTION


def checked(function, check):
    """The same function, which asserts first.

    Args:
        function: a `tf.function` with an input signature of named tensors.
        check: function of the dict of its inputs to a list of assertions.

    Returns:
        A `tf.function` of the same signature.
    """
    specs = function.input_signature

    @tf.function(input_signature=specs, autograph=False)
    def asserting(*values):
        names = (spec.name for spec in specs)
        checks = check(dict(zip(names, values, strict=True)))
        with tf.control_dependencies(checks):
            return function(*(tf.identity(value) for value in values))

    return asserting


def network_checks(given, name, network, upper_label):
    """Assertions about what `denoise` and `step` were given.

    Args:
        given: dict of their inputs.
        name: str, of the noisy images among them.
        network: the `keras.Model`.
        upper_label: int, above all labels; None if it is not known.

    Returns:
        List of assertions.
    """
    images = given[name]
    checks = [
        _holds_as_many(
            value, tf.shape(images)[0], f"{other} must hold one for each image."
        )
        for other, value in given.items()
        if value.shape.rank and value is not images
    ]
    sizes = tf.shape(images)[1:3]
    stride = getattr(network, "total_stride", 1)
    if None in images.shape[1:3]:
        # Else the network ends amid two shapes that cannot be concatenated.
        checks.append(
            tf.debugging.assert_equal(
                tf.reduce_any((sizes % stride != 0) | (sizes < 1)),
                False,
                f"Height and width must be multiples of {stride}.",
            )
        )
    if LOW_RESOLUTION in given and None in given[LOW_RESOLUTION].shape[1:3]:
        factor = network.super_resolution_factor
        checks.append(
            tf.debugging.assert_equal(
                tf.shape(given[LOW_RESOLUTION])[1:3] * factor,
                sizes,
                f"{LOW_RESOLUTION} must be {factor} times smaller.",
            )
        )
    return checks + label_checks(given, upper_label)


def label_checks(given, upper_label):
    """Assertions about the inputs `labels` and `guidance_scale`, if any."""
    checks = []
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
    return checks


def step_checks(given, most):
    """Assertions about the inputs `step` and `num_steps` of `step`.

    Args:
        given: dict of its inputs.
        most: int, the largest number of steps.

    Returns:
        List of assertions.
    """
    step, num_steps = given["step"], given["num_steps"]
    return [
        tf.debugging.assert_equal(
            (step >= 0) & (step < num_steps),
            True,
            "step must be a number from 0 to num_steps - 1.",
        ),
        tf.debugging.assert_less_equal(
            num_steps, most, f"num_steps is at most {most}."
        ),
    ]


def number_of(name, samplers):
    """Place of a sampler's name among those exported."""
    is_it = tf.equal(tf.constant(list(samplers)), name)
    check = tf.debugging.assert_equal(
        tf.reduce_any(is_it),
        True,
        f"sampler must be one of {', '.join(samplers)}.",
    )
    with tf.control_dependencies([check]):
        return tf.argmax(tf.cast(is_it, tf.int32), output_type=tf.int32)


def check_steps(num_steps, num_timesteps, samplers, number):
    """Assertion that the schedule has the steps of the sampler chosen."""
    # As without a last step to the clean image, one is left for the end.
    most = [num_timesteps - (not x.final_denoising) for x in samplers.values()]
    return tf.debugging.assert_less_equal(
        num_steps,
        tf.constant(most)[number],
        f"num_steps is at most {num_timesteps}, or one less for samplers "
        "without final_denoising.",
    )


def generate_checks(given, upper_label):
    """Assertions about what `generate` was given.

    Args:
        given: dict of its inputs.
        upper_label: int, above all labels; None if it is not known.

    Returns:
        List of assertions.
    """
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
        *label_checks(given, upper_label),
    ]
    for name, what in (("labels", "numbers"), (LOW_RESOLUTION, "images")):
        if name in given:
            message = f"{name} must hold num_images {what}."
            checks.append(
                _holds_as_many(given[name], given["num_images"], message)
            )
    return checks


def _holds_as_many(value, count, message):
    return tf.debugging.assert_equal(tf.shape(value)[0], count, message)
