"""What all networks here are: a functional graph in a class with arguments."""

import difflib
import inspect

import keras


class FunctionalNetwork(keras.Model):
    """A functional Keras model that is made, saved and loaded by arguments.

    Args:
        graph: dict of inputs and the output, of `keras.Input` tensors.
        arguments: dict of the constructor arguments of the subclass; each
            becomes an attribute and an entry of the config.
        policy: dtype policy of the layers.
        **kwargs: `name` and `trainable`, of `keras.Model`.

    Raises:
        ValueError: an argument that the class does not have.
    """

    # Named sets of arguments.
    PRESETS = {}

    def __init__(self, graph, arguments, policy, **kwargs):
        # Keras drops what it does not know: a slip of the pen would be lost.
        for unknown in set(kwargs) - {"name", "trainable"}:
            known = list(inspect.signature(type(self)).parameters)
            similar = difflib.get_close_matches(unknown, known, n=1)
            advice = (
                f"Did you mean {similar[0]}?" if similar else "Leave it out."
            )
            raise ValueError(
                f"{type(self).__name__} has no such argument. Received: "
                f"{unknown}={kwargs[unknown]!r}. {advice}"
            )
        inputs, outputs = graph
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)
        self.dtype_policy = policy
        for argument, value in arguments.items():
            setattr(self, argument, value)
        self._arguments = tuple(arguments)

    @classmethod
    def presets(cls):
        """Returns the names of the presets, a tuple of str."""
        return tuple(cls.PRESETS)

    @classmethod
    def from_preset(cls, preset, **overrides):
        """Builds a network from a named set of arguments, with new weights.

        Args:
            preset: str, one of `presets()`.
            **overrides: constructor arguments that replace the preset's.

        Returns:
            A network of this class.

        Raises:
            ValueError: no preset of that name.
        """
        return cls(**(cls._preset(preset) | overrides))

    @classmethod
    def _preset(cls, preset):
        if preset not in cls.PRESETS:
            choices = ", ".join(cls.presets()) or "none: build it by arguments"
            raise ValueError(
                f"There is no preset of that name. Received: preset="
                f"{preset!r}. Choose one of {choices}."
            )
        return cls.PRESETS[preset]

    @property
    def total_stride(self):
        """Pixels of the image per pixel of the coarsest level, int."""
        return 2 ** (len(getattr(self, "channel_multipliers", (1,))) - 1)

    def call(self, inputs, training=None, mask=None):
        if not isinstance(inputs, dict):
            raise ValueError(
                "The network is called with a dict of its inputs. Received: a "
                f"{type(inputs).__name__}. Pass a dict of "
                f"{', '.join(self.input)}."
            )
        height, width = inputs["noisy_images"].shape[1:3]
        for size in (height, width):
            if size is not None and size % self.total_stride:
                raise ValueError(
                    "Height and width must be multiples of the network's "
                    f"total stride, {self.total_stride}. Received: images of "
                    f"{height}x{width} pixels. Crop, pad or resize them."
                )
        return super().call(inputs, training=training, mask=mask)

    def get_config(self):
        config = {name: getattr(self, name) for name in self._arguments}
        dtype = keras.dtype_policies.serialize(self.dtype_policy)
        return config | {
            "dtype": dtype,
            "name": self.name,
            "trainable": self.trainable,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)
