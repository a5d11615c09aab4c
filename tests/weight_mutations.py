"""Ways to get another project's network wrong on purpose.

Each function returns a `how`: given the name of a fixture and inputs, a `how`
makes the outputs of its network with one mistake in it.
"""

import contextlib
import functools
from unittest import mock

import numpy as np
from keras import ops
from test_weight_fixtures import imported, order_of
from weight_fixtures import MemoryCheckpoint, checkpoint_of

from keras_unet_diffusion import UNet
from keras_unet_diffusion.layers import filtering
from keras_unet_diffusion.unet_graph import UNetGraph
from keras_unet_diffusion.weights import load_checkpoint_into


def copy_of(case, **changes):
    """A network like the one of a case, with new weights."""
    config = imported(case).get_config()
    return UNet.from_config(config | changes)


@functools.cache
def _spare(case):
    """A copy whose weights may be overwritten: building is what takes long."""
    return copy_of(case)


def arguments(**changes):
    """Other arguments for `UNet`, of which the weights do not tell."""

    def how(case, inputs):
        network = copy_of(case, **changes)
        network.set_weights(imported(case).get_weights())
        return network(inputs)

    return how


def loaded(qkv_order=None, layout=None, **changes):
    """The checkpoint loaded by another order or into other arguments.

    Args:
        qkv_order: str, instead of the right one; None for that.
        layout: class of the layout, to which `qkv_order` is forced.
        **changes: arguments of `UNet`.
    """

    def how(case, inputs):
        network = copy_of(case, **changes) if changes else _spare(case)
        patched = contextlib.nullcontext()
        if layout is not None:
            patched = mock.patch.object(
                layout, "checked_qkv_order", lambda *_: qkv_order
            )
        given = order_of(case) if layout or not qkv_order else qkv_order
        with patched:
            load_checkpoint_into(network, checkpoint_of(case), qkv_order=given)
        return network(inputs)

    return how


def tensors(change):
    """Other numbers in the checkpoint: `change` of its dict of tensors."""

    def how(case, inputs):
        checkpoint = checkpoint_of(case)
        changed = MemoryCheckpoint(
            checkpoint.tensors | change(checkpoint.tensors), checkpoint.config
        )
        network = _spare(case)
        load_checkpoint_into(network, changed, qkv_order=order_of(case))
        return network(inputs)

    return how


def each_tensor(condition, change):
    """Other numbers in those tensors of which the condition is true."""

    def changed(given):
        found = {k: change(x) for k, x in given.items() if condition(k, x)}
        assert found
        return found

    return tensors(changed)


def code(owner, name, wrong):
    """Another method of a layer, `owner.name`."""

    def how(case, inputs):
        with _replaced(owner, name, wrong):
            return imported(case)(inputs)

    return how


def wiring(name, wrong):
    """Another method of `UNetGraph`, by which a network is then built."""

    def how(case, inputs):
        with _replaced(UNetGraph, name, wrong):
            return arguments()(case, inputs)

    return how


def _replaced(owner, name, wrong):
    right = getattr(owner, name)

    # Keras reads the signature of `call`.
    @functools.wraps(right)
    def replacement(*args, **kwargs):
        return wrong(right, *args, **kwargs)

    return mock.patch.object(owner, name, replacement)


def layers(change):
    """`change` of the weights of each layer; it says whether it made one."""

    def how(case, inputs):
        network = _spare(case)
        network.set_weights(imported(case).get_weights())
        assert any([change(layer) for layer in network.layers])
        return network(inputs)

    return how


def inputs(**changes):
    """Functions that change the inputs of these names."""

    def how(case, given):
        changed = {name: f(given[name]) for name, f in changes.items()}
        return imported(case)(given | changed)

    return how


def outputs(change):
    """`change` of the outputs `(batch, height, width, channels)`."""
    return lambda case, given: change(np.asarray(imported(case)(given)))


# What takes the place of a function: the right one is the first argument.


def unchanged(right, *args, **kwargs):
    return right(*args, **kwargs)


def residual_block(
    bias_after_norm=False,
    raw_embedding=False,
    resample_last=False,
    shortcut_first=False,
):
    """A residual block, right without any of these."""

    def transform(_, block, images, embedding, seed):
        if not raw_embedding:
            embedding = ops.silu(embedding)
        hidden = ops.silu(block.norm_1(images))
        if resample_last:
            hidden = block.resample(block.conv_1(hidden))
        else:
            hidden = block.conv_1(block.resample(hidden))
        if block.scale_shift:
            hidden = block.norm_2(hidden, embedding)
        else:
            bias = block.injection(embedding)[:, None, None]
            hidden = (
                block.norm_2(hidden) + bias
                if bias_after_norm
                else block.norm_2(hidden + bias)
            )
        resample_and_convolve = [block.resample]
        if block.shortcut is not None:
            resample_and_convolve.append(block.shortcut)
        if shortcut_first:
            resample_and_convolve.reverse()
        shortcut = images
        for step in resample_and_convolve:
            shortcut = step(shortcut)
        hidden = shortcut + block.conv_2(ops.silu(hidden))
        return hidden * block.residual_scale

    return transform


def scaled_by_all_channels(attend, attention, query, key, value):
    """Attention whose scores are divided by sqrt(C), not by sqrt(C / H)."""
    heads = query.shape[-1] // attention.num_head_channels
    return attend(attention, query / heads**0.5, key, value)


def skip_first(_, graph, hidden, skip, name):
    return graph._concatenate([skip, hidden], name)


def low_resolution_first(concatenate, graph, parts, name, *dtype):
    if name == "stem_inputs":
        parts = parts[::-1]
    return concatenate(graph, parts, name, *dtype)


def pyramid_raw(scale, graph, hidden, factor, name):
    if name.endswith("_pyramid_scale"):
        return hidden
    return scale(graph, hidden, factor, name)


def attention_not_scaled(run, attention, *given):
    return run(attention, *given) / attention.residual_scale


def enlarged_nearest(_, layer, images):
    rows = ops.repeat(images, layer.factor, axis=1)
    return ops.repeat(rows, layer.factor, axis=2)


def enlarged_by_corners(_, layer, images):
    """Bilinear with the centres of the corner pixels kept in place."""
    size = images.shape[1]
    where = np.linspace(0, size - 1, layer.factor * size)
    distance = np.abs(where[:, None] - np.arange(size))
    weights = ops.convert_to_tensor(np.maximum(0, 1 - distance), "float32")
    return ops.einsum("Hh,Ww,bhwc->bHWc", weights, weights, images)


def enlarged_cubic(_, layer, images):
    size = layer.factor * images.shape[1]
    return ops.image.resize(images, (size, size), interpolation="bicubic")


def edges_repeated(filter_images, images, kernel, padding):
    """A filter that sees pixels repeated, not zeros, beyond the border."""
    if len(kernel) == 1 or padding == "valid":
        return filter_images(images, kernel, padding)
    edge = 2 * [len(kernel) // 2]
    padded = ops.pad(images, ((0, 0), edge, edge, (0, 0)), "symmetric")
    return filter_images(padded, kernel, "valid")


def convolved_then_filtered(_, layer, images):
    """A convolution and a filter with a border of zeros each."""
    hidden = ops.conv(images, layer.kernel, padding="same") + layer.bias
    kernel = layer.resampling_kernel
    return filtering.FilteredDownsample(kernel)(hidden)


# What is done to the weights of a layer.


def leave_alone(layer):
    return True


def swap_scale_and_shift(layer):
    return _change_modulation(
        layer, lambda x: np.roll(x, x.shape[-1] // 2, axis=-1)
    )


def forget_one_plus_scale(layer):
    """scale - 1 as the scale makes 1 + scale the scale itself."""

    def change(x):
        is_scale = np.arange(x.shape[-1]) < x.shape[-1] // 2
        return x - (is_scale if x.ndim == 1 else 0)

    return _change_modulation(layer, change)


def _change_modulation(layer, change):
    if not getattr(layer, "scale_shift", False):
        return False
    for variable in layer.norm_2.modulation.weights:
        variable.assign(change(np.asarray(variable)))
    return True


def change_weight(layer_name, variable_name, change):
    """A change of one weight of one layer; dots lead to inner layers."""

    def change_layer(layer):
        if layer.name != layer_name:
            return False
        variable = layer
        for name in variable_name.split("."):
            variable = getattr(variable, name)
        variable.assign(change(np.asarray(variable)))
        return True

    return change_layer


def rounded(dtype):
    """Numbers that have gone through another type of number."""
    return lambda x: np.asarray(
        ops.cast(ops.cast(x, dtype), "float32"), "float32"
    )


def is_conv(_, x):
    return x.ndim == 4


def is_square_conv(_, x):
    return x.ndim == 4 and x.shape[0] == x.shape[1]


def is_square_matrix(_, x):
    return x.ndim == 2 and x.shape[0] == x.shape[1]


def key_for_value(given):
    """The tensors of keys and of values, the other way round."""
    keys = [name for name in given if ".to_k." in name]
    values = [name.replace(".to_k.", ".to_v.") for name in keys]
    return {k: given[v] for k, v in zip(keys, values, strict=True)} | {
        v: given[k] for k, v in zip(keys, values, strict=True)
    }
