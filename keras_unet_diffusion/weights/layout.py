"""What the layouts of all projects have in common."""

import abc
from dataclasses import dataclass

from keras_unet_diffusion.weights.named_shapes import NamedShapes
from keras_unet_diffusion.weights.network_parts import (
    attention_heads,
    network_parts,
)
from keras_unet_diffusion.weights.tensor_map import (
    CONV,
    DENSE,
    TensorEntry,
    Transform,
    pointwise,
    qkv_bias,
    qkv_kernel,
    qkv_rows,
)


@dataclass(frozen=True)
class TensorStyle:
    """How a library names and stores the weights of its basic layers.

    The defaults are PyTorch's.
    """

    separator: str = "."
    gamma: str = "weight"
    beta: str = "bias"
    kernel: str = "weight"
    bias: str = "bias"
    conv: Transform = CONV
    dense: Transform = DENSE
    shortcut: Transform = CONV


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
    style = TensorStyle()
    # Names of the layers of a residual block, and of self-attention: either
    # of "query", "key", "value" or of "qkv".
    block_names = {}
    attention_names = {}
    # Dimensions of a fused projection: 3 for Conv1D, 4 for Conv2D.
    qkv_dimensions = None
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
    def place(self, part, network):
        """Name of a `Part` of the network, without the prefix."""

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
        self.refuse_qkv_order(qkv_order)
        self.check(network)
        order = self.checked_qkv_order(network, qkv_order)
        return [
            entry
            for part in network_parts(network)
            for entry in self.part_entries(
                part, self.place(part, network), network, order
            )
        ]

    def checked_qkv_order(self, network, qkv_order):
        """The order to use, or a `ValueError` if it must be given."""
        return None

    def refuse_qkv_order(self, qkv_order):
        """Raises a `ValueError` for an order where there is no choice."""
        if qkv_order is not None and self.written_qkv_order is None:
            raise ValueError(
                f"The {self.name} layout has one order of query, key and "
                f"value only. Received: qkv_order={qkv_order!r}. Leave it out."
            )

    def part_entries(self, part, name, network, qkv_order):
        """Entries of one `Part` of the network that is called `name`."""
        if part.kind == "block":
            return self.block_entries(name, part.layer)
        if part.kind == "attention":
            return self.attention_entries(name, part.layer, qkv_order)
        if part.kind == "norm":
            return self.norm_entries(name, part.layer)
        if part.kind == "conv":
            return self.kernel_entries(name, part.layer, self.style.conv)
        if part.kind == "dense":
            return self.kernel_entries(name, part.layer, self.style.dense)
        if part.kind == "table":
            return self.label_entries(name, part.layer)
        return [TensorEntry(name, part.layer.frequencies)]

    def norm_entries(self, name, norm):
        """Entries of a normalisation."""
        style = self.style
        gamma, beta = (
            self._join(name, style.gamma),
            self._join(name, style.beta),
        )
        return [TensorEntry(gamma, norm.gamma), TensorEntry(beta, norm.beta)]

    def kernel_entries(self, name, layer, transform):
        """Entries of a kernel and, if the layer has one, its bias."""
        kernel = self._join(name, self.style.kernel)
        entries = [TensorEntry(kernel, layer.kernel, transform)]
        if layer.bias is not None:
            bias = self._join(name, self.style.bias)
            entries.append(TensorEntry(bias, layer.bias))
        return entries

    def label_entries(self, name, label):
        """Entries of a table with one row for each label."""
        return [TensorEntry(self._join(name, self.style.kernel), label.table)]

    def block_entries(self, name, block):
        """Entries of a residual block."""
        names = {
            layer: self._join(name, inner)
            for layer, inner in self.block_names.items()
        }
        injection = (
            block.norm_2.modulation if block.scale_shift else block.injection
        )
        style = self.style
        entries = [
            *self.norm_entries(names["norm_1"], block.norm_1),
            *self.kernel_entries(names["conv_1"], block.conv_1, style.conv),
            *self.kernel_entries(names["injection"], injection, style.dense),
            *self.norm_entries(names["norm_2"], block.norm_2),
            *self.kernel_entries(names["conv_2"], block.conv_2, style.conv),
        ]
        if block.shortcut is not None:
            entries += self.kernel_entries(
                names["shortcut"], block.shortcut, style.shortcut
            )
        return entries

    def attention_entries(self, name, attention, qkv_order):
        """Entries of self-attention."""
        names = {
            layer: self._join(name, inner)
            for layer, inner in self.attention_names.items()
        }
        entries = []
        if attention.norm is not None:
            entries += self.norm_entries(names["norm"], attention.norm)
        if "qkv" in names:
            entries += self._fused_entries(names["qkv"], attention, qkv_order)
            output_transform = pointwise(self.qkv_dimensions)
        else:
            output_transform = self.style.dense
            for projection in ("query", "key", "value"):
                entries += self.kernel_entries(
                    names[projection],
                    getattr(attention, projection),
                    self.style.dense,
                )
        return entries + self.kernel_entries(
            names["output"], attention.output_projection, output_transform
        )

    def _fused_entries(self, name, attention, qkv_order):
        layers = (attention.query, attention.key, attention.value)
        rows = qkv_rows(
            qkv_order,
            attention_heads(attention),
            attention.query.kernel.shape[-1],
        )
        return [
            TensorEntry(
                self._join(name, self.style.kernel),
                [layer.kernel for layer in layers],
                qkv_kernel(rows, self.qkv_dimensions),
            ),
            TensorEntry(
                self._join(name, self.style.bias),
                [layer.bias for layer in layers],
                qkv_bias(rows),
            ),
        ]

    def _join(self, name, inner):
        return f"{name}{self.style.separator}{inner}" if inner else name
