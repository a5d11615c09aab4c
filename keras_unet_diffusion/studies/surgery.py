"""Networks that are cut open: other ways through layers that stay the same."""

import keras
from keras import ops

from keras_unet_diffusion.layers import NoiseLevelEmbedding


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class Roll(keras.layers.Layer):
    """Shifts features along an axis; what leaves at one end enters at the
    other.

    Args:
        shift: int, places.
        axis: int: 0 gives each image the features of another, 1 shifts down,
            2 shifts to the right.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: of any shape.

    Returns:
        Of the same shape.

    Example:

    ```python
    Roll(1, axis=2)(images)
    ```
    """

    def __init__(self, shift, axis, **kwargs):
        super().__init__(**kwargs)
        self.shift = shift
        self.axis = axis

    def call(self, inputs):
        return ops.roll(inputs, self.shift, axis=self.axis)

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        return super().get_config() | {"shift": self.shift, "axis": self.axis}


def rewired(network, call):
    """The same layers with the same weights, called otherwise.

    Args:
        network: a functional `keras.Model`.
        call: function `(layer, *arguments, **options)` that returns what takes
            the place of the layer's output.

    Returns:
        A `keras.Model` that shares all layers.
    """
    return keras.models.clone_model(
        network, clone_function=lambda layer: layer, call_function=call
    )


def with_changed_level(network, level, changed):
    """A U-Net in which what one level brings to the decoder is changed.

    A level brings the skips from its encoder; the coarsest level brings what
    comes up from it, all that went through it. So each piece of information
    comes to the output through exactly one level, or more if it is in several.

    Args:
        network: a `UNet` that concatenates its skips and is more than one
            level high.
        level: int, 0 the finest.
        changed: function of features to features, such as `Roll(1, axis=0)`.

    Returns:
        A `keras.Model` that shares all layers.

    Raises:
        ValueError: there is no such level or no skip in it.
    """
    names = network.level_names
    if network.skip_connections != "concatenate" or not (
        0 <= level < len(names) > 1
    ):
        raise ValueError(
            "Each level of such a network brings something else. Received: "
            f"level={level} of {len(names)}, skip_connections="
            f"{network.skip_connections!r}. Choose a level of the network, "
            "and build it with skip_connections='concatenate' and two levels "
            "or more."
        )
    where = f"decoder_{names[level]}"
    is_coarsest = level == len(names) - 1

    def call(layer, *arguments, **options):
        if is_coarsest:
            outputs = layer(*arguments, **options)
            return (
                changed(outputs)
                if layer.name == f"{where}_upsample"
                else outputs
            )
        if layer.name.startswith(f"{where}_skip"):
            hidden, skip = arguments[0]
            return layer([hidden, changed(skip)])
        return layer(*arguments, **options)

    return rewired(network, call)


def with_shifted_prediction(network):
    """A network whose prediction lies one pixel too far to the right."""
    outputs = Roll(1, axis=2, name="shifted_prediction")(network.output)
    return keras.Model(network.input, outputs)


def without_noise_level(network):
    """A network that is always told the noise level 0."""
    constant = keras.layers.Rescaling(0.0, name="constant_noise_level")

    def call(layer, *arguments, **options):
        if isinstance(layer, NoiseLevelEmbedding):
            return layer(constant(arguments[0]), *arguments[1:], **options)
        return layer(*arguments, **options)

    return rewired(network, call)


def with_noise_level_at_stem(network):
    """A U-Net that is told the noise level after its first layer alone.

    An embedding of its own is added there; the blocks are told a constant.
    """
    inputs = {
        name: keras.Input(x.shape[1:], dtype=x.dtype, name=name)
        for name, x in network.input.items()
    }
    told = without_noise_level(network)
    channels = network.get_layer("stem").filters
    embedded = NoiseLevelEmbedding(
        network.embedding_channels or 4 * network.base_channels,
        network.noise_channels or network.base_channels,
        name="stem_embedding",
    )(inputs["noise_level"])
    embedded = keras.layers.Activation("silu", name="stem_silu")(embedded)
    shift = keras.layers.Dense(channels, name="stem_injection")(embedded)
    shift = keras.layers.Reshape((1, 1, channels), name="stem_shift")(shift)

    def call(layer, *arguments, **options):
        outputs = layer(*arguments, **options)
        if layer.name != "stem":
            return outputs
        return keras.layers.Add(name="stem_sum")([outputs, shift])

    return keras.models.clone_model(
        told,
        input_tensors=inputs,
        clone_function=lambda layer: layer,
        call_function=call,
    )
