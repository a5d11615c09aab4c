"""What every piece of the theory shares: it is saved by its arguments."""

import dataclasses

import keras


class Component:
    """A frozen dataclass that Keras saves and loads by its fields.

    Abstract. Two components are equal if their class and fields are.
    """

    def get_config(self):
        """Returns the constructor arguments, a dict."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
        }

    @classmethod
    def from_config(cls, config):
        """Builds a component from what `get_config` returned."""
        return cls(
            **{
                name: keras.saving.deserialize_keras_object(value)
                if isinstance(value, dict)
                else value
                for name, value in config.items()
            }
        )
