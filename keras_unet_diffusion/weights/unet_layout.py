"""Layouts of the projects whose networks are a `UNet`, part by part."""

import abc
from dataclasses import dataclass

from keras_unet_diffusion.weights.layout import Layout
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


class UNetLayout(Layout):
    """How a project names each part of a `UNet`.

    A subclass says what a part is called (`place`) and what the layers
    inside it are called (the tables); the rest follows.
    """

    style = TensorStyle()
    # Names of the layers of a residual block, and of self-attention: either
    # of "query", "key", "value" or of "qkv".
    block_names = {}
    attention_names = {}
    # Dimensions of a fused projection: 3 for Conv1D, 4 for Conv2D.
    qkv_dimensions = None

    @abc.abstractmethod
    def place(self, part, network):
        """Name of a `Part` of the network, without the prefix."""

    def entries(self, network, qkv_order=None):
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
