"""What the layouts of all projects have in common."""

import abc

from keras_unet_diffusion.weights.named_shapes import NamedShapes


class Layout(abc.ABC):
    """How a project names and stores the weights of its U-Net.

    One description serves both directions: `entries` pairs every tensor of
    the project's checkpoints with the variables of our network.
    """

    # What the project is called here, and the class of our network.
    name = None
    network = "UNet"
    # Tensors that every checkpoint of the project has and no other's.
    landmarks = ()
    # What stands before every name in the project's own checkpoints.
    usual_prefix = ""
    # The row order to write a fused projection in, where there is a choice.
    written_qkv_order = None

    def prefix(self, shapes):
        """What stands before every name, or None for another layout's file.

        Args:
            shapes: dict of tensor names; the values are not looked at.
        """
        landmark = self.landmarks[0]
        for name in shapes:
            if name.endswith(landmark):
                prefix = name.removesuffix(landmark)
                if all(prefix + other in shapes for other in self.landmarks):
                    return prefix
        return None

    def matches(self, shapes):
        """Whether these names are those of a checkpoint of the project."""
        return self.prefix(shapes) is not None

    def ignores(self, name):
        """Whether a tensor of the file is no part of the network, bool."""
        return False

    def named_shapes(self, checkpoint):
        """The `NamedShapes` of a checkpoint, without prefix."""
        prefix = self.prefix(checkpoint.shapes) or ""
        return NamedShapes(checkpoint.shapes, prefix, self.current_name)

    def current_name(self, name):
        """The name that the project gives today to what was `name` once."""
        return name

    @abc.abstractmethod
    def arguments(self, checkpoint, qkv_order=None, **given):
        """The `UNet` arguments of the network that a checkpoint is of.

        What leaves no trace in the file stays at the default: `dropout`, and
        `image_size` unless it is found (the network then takes any size).

        Args:
            checkpoint: `Checkpoint`.
            qkv_order: as for `entries`.
            **given: `UNet` arguments that are known, or wanted otherwise.

        Returns:
            Dict of `UNet` arguments, the given ones among them.

        Raises:
            ValueError: something is neither given nor to be found in the
                file, or no `UNet` can express it.
        """

    @abc.abstractmethod
    def check(self, network):
        """Raises a `ValueError` for what the project cannot express."""

    def check_config(self, network, checkpoint):
        """Raises a `ValueError` if a config beside the tensors disagrees.

        Most projects keep none.
        """
        return

    @abc.abstractmethod
    def entries(self, network, qkv_order=None):
        """Pairs every tensor of a checkpoint with variables of a network.

        Args:
            network: `UNet`.
            qkv_order: str, "legacy" or "new", the order of the rows of fused
                projections where the project has used both; else None.

        Returns:
            List of `TensorEntry` and `ConstantEntry`, names without prefix.

        Raises:
            ValueError: the project cannot express the network, or
                `qkv_order` is needed.
        """

    def refuse_qkv_order(self, qkv_order):
        """Raises a `ValueError` for an order where there is no choice."""
        if qkv_order is not None and self.written_qkv_order is None:
            raise ValueError(
                f"The {self.name} layout has one order of query, key and "
                f"value only. Received: qkv_order={qkv_order!r}. Leave it out."
            )
