"""One step of DDIM as a function of tensors, for hosts with their own loop."""

import tensorflow as tf

from keras_unet_diffusion.export.signatures import further_images, named
from keras_unet_diffusion.export.step_table import (
    CLEAN_ROW,
    COLUMNS,
    most_steps,
    rounded_down,
    row_of_step,
    step_rows,
)
from keras_unet_diffusion.network_calls import (
    has_null_label,
    network_inputs,
    takes_labels,
)
from keras_unet_diffusion.samplers import DDIM

# Row that no table has: all runtimes refuse to look it up.
_NO_ROW = 2**30
_NOISE = "noise"
_ESTIMATE = "previous_estimate"


def step_function(network, process, batch_shape, as_bits=True):
    """Makes the `tf.function` of the signature `step`.

    A step of `DDIM` on its usual grid, `eta` 0, its numbers float32 and its
    operations those that LiteRT has built in. Steps that do not exist are
    refused by the runtime, as the look-up of a row that does not exist.

    Args:
        network: a float32 `keras.Model`, see `rebuild_in_float32`.
        process: the `DiffusionProcess` that it was trained with. In
            continuous time up to `step_table.MOST_CONTINUOUS_STEPS` steps.
        batch_shape: `(batch, height, width, channels)`, None where dynamic.
        as_bits: see `DDIMStep`.

    Returns:
        A `tf.function` of x_t, step (int32 `()`, from 0), num_steps (int32
        `()`) and what else the network takes: labels, guidance_scale (float32
        `()`, for networks with a null label), low_resolution_images, and
        previous_estimate (the x_0 of the step before, zeros at first). It
        returns a dict of x_next and x_0. Step 0 takes standard normal noise;
        x_next of the last step is the image.

    Raises:
        ValueError: the network says nothing where sampling begins, or the
            schedule has too many steps.
    """
    take_step = DDIMStep(network, process, as_bits)
    specs = {
        "x_t": tf.TensorSpec(batch_shape, tf.float32),
        "step": tf.TensorSpec((), tf.int32),
        "num_steps": tf.TensorSpec((), tf.int32),
    } | _condition_specs(network, batch_shape)

    @tf.function(input_signature=named(specs), autograph=False)
    def step(*values):
        given = dict(zip(specs, values, strict=True))
        x_next, x_0 = take_step(
            given.pop("x_t"), given.pop("step"), given.pop("num_steps"), given
        )
        return {"x_next": x_next, "x_0": x_0}

    return step


def generate_function(network, process, batch_shape, make_noise=None):
    """Makes the `tf.function` of all steps, a loop of built-in operations.

    Args:
        network: see `step_function`.
        process: see `step_function`.
        batch_shape: see `step_function`.
        make_noise: function of an int32 scalar, the seed, to standard normal
            noise of `batch_shape`; None if noise is an input.

    Returns:
        A `tf.function` of noise, or of seed (int32 `()`), and of num_steps and
        what else `step` takes but previous_estimate. It returns a dict of
        images.
    """
    take_step = DDIMStep(network, process)
    specs = (
        {_NOISE: tf.TensorSpec(batch_shape, tf.float32)}
        if make_noise is None
        else {"seed": tf.TensorSpec((), tf.int32)}
    )
    specs["num_steps"] = tf.TensorSpec((), tf.int32)
    specs |= _condition_specs(network, batch_shape)
    remembers = specs.pop(_ESTIMATE, None) is not None

    @tf.function(input_signature=named(specs), autograph=False)
    def generate(*values):
        given = dict(zip(specs, values, strict=True))
        num_steps = given.pop("num_steps")
        if make_noise is None:
            x_t = given.pop(_NOISE)
        else:
            x_t = make_noise(given.pop("seed"))

        def body(i, x_t, *x_0):
            now = given | ({_ESTIMATE: x_0[0]} if remembers else {})
            x_t, estimate = take_step(x_t, i, num_steps, now)
            return (i + 1, x_t, *([estimate] if remembers else []))

        variables = [tf.constant(0), x_t]
        variables += [tf.zeros_like(x_t)] * remembers
        # Once at least: a step of none is refused, which no loop would be.
        _, images, *_ = tf.while_loop(
            lambda i, *_: (i < num_steps) | tf.equal(i, 0),
            body,
            variables,
            parallel_iterations=1,
        )
        return {"images": tf.ensure_shape(images, batch_shape)}

    return generate


def _condition_specs(network, batch_shape):
    """`tf.TensorSpec`s of what a step takes beside images and its number."""
    batch, *image_shape = batch_shape
    specs = {}
    if takes_labels(network):
        specs["labels"] = tf.TensorSpec((batch,), tf.int32)
    if has_null_label(network):
        specs["guidance_scale"] = tf.TensorSpec((), tf.float32)
    for name, shape in further_images(network, image_shape).items():
        specs[name] = tf.TensorSpec((batch, *shape), tf.float32)
    return specs


class DDIMStep:
    """A step of DDIM, ready to be put into graphs.

    Args:
        network: see `step_function`.
        process: see `step_function`.
        as_bits: bool. Whether tables are stored as the bits of their numbers,
            so that no converter rounds them to float16: where almost all is
            noise, `1 - alpha` of that is 0, and all images are NaN.
    """

    def __init__(self, network, process, as_bits=True):
        self.network = network
        self.schedule = process.schedule
        self.rows = step_rows(process)
        self.as_bits = as_bits
        self.thresholding = DDIM().thresholding
        # Variance-preserving schedules start with noise as it is.
        self.scales_noise = (self._column("deviation") != 1).any()
        self.scales_input = (self._column("input_scale")[1:] != 1).any()

    def _column(self, name):
        return self.rows[:, COLUMNS.index(name)]

    def __call__(self, x_t, number, num_steps, given):
        """Goes from one point to the next.

        Args:
            x_t: float32 images; standard normal noise at step 0.
            number: of the step, int32 scalar.
            num_steps: int32 scalar.
            given: dict of the other inputs of `step_function`.

        Returns:
            `(x_next, x_0)`, of the shape of x_t.
        """
        exists = (number >= 0) & (number < num_steps)
        exists = exists & (num_steps <= most_steps(self.schedule))
        now, after = (
            self._point(tf.where(exists, self._row(i, num_steps), _NO_ROW))
            for i in (number, number + 1)
        )
        if self.scales_noise:
            x_t = now["deviation"] * x_t
        seen = now["input_scale"] * x_t if self.scales_input else x_t
        prediction = self._prediction(seen, now["noise_level"], given)
        channels = x_t.shape[-1]
        if prediction.shape[-1] > channels:  # learned variances come last
            prediction = prediction[..., :channels]
        x_0 = now["x_share"] * x_t + now["prediction_share"] * prediction
        x_0 = self.thresholding.apply(x_0)
        # Song et al. 2021, Eq. 12, with the noise that makes x_t of x_0.
        share = after["sigma"] / now["sigma"]
        x_next = after["alpha"] * x_0 + share * (x_t - now["alpha"] * x_0)
        return x_next, x_0

    def _point(self, row):
        """The numbers of a row of the tables, scalars by name."""
        if self.as_bits:
            table = tf.constant(self.rows.view("int32"))
            numbers = tf.bitcast(tf.gather(table, row), tf.float32)
        else:
            numbers = tf.gather(tf.constant(self.rows), row)
        return dict(zip(COLUMNS, tf.unstack(numbers), strict=True))

    def _row(self, number, num_steps):
        """The row of the point where a step begins."""
        if self.schedule.num_timesteps is None:
            row = 1 + num_steps * (num_steps - 1) // 2 + number
            return tf.where(tf.equal(number, num_steps), CLEAN_ROW, row)
        steps = self.schedule.num_timesteps
        row = row_of_step(number, num_steps, steps)
        down = tf.constant(rounded_down(steps))
        is_down = tf.reduce_any(tf.equal(down, num_steps * steps + number))
        return row - tf.cast(is_down, tf.int32)

    def _prediction(self, images, level, given):
        """What the network predicts, guided if it has a null label."""
        given = dict(given)
        labels = given.pop("labels", None)
        scale = given.pop("guidance_scale", None)
        if _ESTIMATE in given:
            # Bounded as in training.
            given[_ESTIMATE] = tf.clip_by_value(given[_ESTIMATE], -1.0, 1.0)

        def call(images, labels, others):
            levels = tf.fill((tf.shape(images)[0],), level)
            inputs = network_inputs(
                self.network, images, levels, labels, **others
            )
            return self.network(inputs, training=False)

        if scale is None:
            return call(images, labels, given)
        labels = labels, tf.fill(tf.shape(labels), self.network.num_classes)
        if images.shape[0] is None:
            return _guided_in_one_call(call, images, labels, scale, given)
        channels = self.network.output_shape[-1]
        return _guided_in_two_calls(
            call, images, labels, scale, given, channels
        )


def _guided_in_one_call(call, images, labels, scale, others):
    """Guidance by one call of up to twice the images.

    As predictions are linear in the image, they are combined in its place.
    Ho and Salimans 2022, Eq. 6, with scale = 1 + w.
    """
    # Nothing is computed twice where the scale is 1.
    extra = tf.where(tf.equal(scale, 1.0), 0, tf.shape(images)[0])

    def twice(x, again=None):
        again = x if again is None else again
        return tf.concat([x, again[:extra]], axis=0)

    both = call(
        twice(images),
        twice(*labels),
        {name: twice(x) for name, x in others.items()},
    )
    unconditional = both[extra:]
    conditional = both[: tf.shape(images)[0]]
    return unconditional + scale * (conditional - unconditional)


def _guided_in_two_calls(call, images, labels, scale, others, channels):
    """Guidance by a loop of one or two calls: shapes stay static, and the
    network is in the file once."""
    labels, null = labels
    predicted_shape = (*images.shape[:-1], channels)
    calls = tf.where(tf.equal(scale, 1.0), 1, 2)

    def body(k, prediction):
        is_first = tf.equal(k, 0)
        new = call(images, tf.where(is_first, labels, null), others)
        weight = tf.where(is_first, 0.0, scale)
        return k + 1, new + weight * (prediction - new)

    _, prediction = tf.while_loop(
        lambda k, _: k < calls,
        body,
        (tf.constant(0), tf.zeros(predicted_shape)),
        parallel_iterations=1,
    )
    return prediction
