"""Moving weights between checkpoints of other projects and a `UNet`."""

import numpy as np

from keras_unet_diffusion.weights.ddpm_tf1 import DDPMLayout
from keras_unet_diffusion.weights.diffusers import DiffusersLayout
from keras_unet_diffusion.weights.edm import EDMLayout
from keras_unet_diffusion.weights.edm2 import EDM2Layout
from keras_unet_diffusion.weights.guided_diffusion import GuidedDiffusionLayout
from keras_unet_diffusion.weights.size_bounds import check_shapes, check_size

LAYOUTS = (
    GuidedDiffusionLayout(),
    DiffusersLayout(),
    EDMLayout(),
    EDM2Layout(),
    DDPMLayout(),
)
# Names that an error spells out before it only counts.
MOST_NAMES = 10


def find_layout(shapes, name=None):
    """The layout of a checkpoint, by its name or by those of the tensors.

    Args:
        shapes: dict of tensor names, as `Checkpoint.shapes`.
        name: str, "guided_diffusion" (improved-diffusion too), "diffusers",
            "edm", "edm2" or "ddpm"; None to recognise it.

    Returns:
        A `Layout`.

    Raises:
        ValueError: no layout of that name, or none that has such tensors.
    """
    if name is not None:
        return _layout_called(name)
    for layout in LAYOUTS:
        if layout.matches(shapes):
            return layout
    raise ValueError(
        "The names of the tensors are of no known project. Received: "
        f"{_first(shapes)}. Known layouts are {_layout_names()}."
    )


def infer_arguments(checkpoint, layout=None, qkv_order=None, **given):
    """The `UNet` arguments of the network that a checkpoint is of.

    What leaves no trace in a file stays at `UNet`'s default: `dropout`, and
    `image_size` is None (any size) unless names or a config tell it.

    Args:
        checkpoint: `Checkpoint`.
        layout: str, see `find_layout`.
        qkv_order: str, "legacy" or "new", for guided- and improved-diffusion
            with more than one head: nothing in the file tells it.
        **given: `UNet` arguments that are known or wanted otherwise. For
            guided- and improved-diffusion `num_heads` or `num_head_channels`
            must be among them, for its upsamplers `super_resolution_factor`.

    Returns:
        Dict of `UNet` arguments.

    Raises:
        ValueError: something is missing that only the caller can know (the
            message lists all of it), or no `UNet` can express the network,
            or it would be larger than the checkpoint.

    Example:

    ```python
    checkpoint = open_checkpoint("64x64_diffusion.pt")
    network = UNet(
        **infer_arguments(checkpoint, qkv_order="new", num_head_channels=64)
    )
    load_checkpoint_into(network, checkpoint, qkv_order="new")
    ```
    """
    layout = find_layout(checkpoint.shapes, layout)
    layout.refuse_qkv_order(qkv_order)
    check_shapes(checkpoint)
    arguments = layout.arguments(checkpoint, qkv_order=qkv_order, **given)
    # Before anyone builds the network, at whatever size a file may claim.
    check_size(arguments, checkpoint)
    return arguments


def load_checkpoint_into(network, checkpoint, layout=None, qkv_order=None):
    """Sets every weight of a network from a checkpoint of another project.

    Each tensor of the file is used exactly once and each weight of the
    network is set exactly once; otherwise nothing is.

    Args:
        network: built `UNet`.
        checkpoint: `Checkpoint`.
        layout: str, see `find_layout`.
        qkv_order: str, see `infer_arguments`.

    Raises:
        ValueError: tensors are missing, left over, of other shapes or not
            finite, or the layout cannot express the network, or diffusers'
            config.json is of another one. The network is then as it was
            before. `checkpoint.config = None` leaves a wrong config.json
            aside.
    """
    layout = find_layout(checkpoint.shapes, layout)
    entries = _entries_of_all_weights(layout, network, qkv_order)
    prefix = layout.prefix(checkpoint.shapes) or ""
    used = [x for x in checkpoint.shapes if not layout.ignores(x)]
    names = {
        prefix + layout.current_name(name.removeprefix(prefix)): name
        for name in used
    }
    _check_names_and_shapes(checkpoint, used, names, entries, prefix)
    layout.check_config(network, checkpoint)
    # Read to the end before anything is assigned: a load either succeeds or
    # leaves the network alone.
    values, not_finite = [], []
    for entry in entries:
        tensor = checkpoint.read(names[prefix + entry.name])
        if not np.isfinite(tensor).all():
            not_finite.append(names[prefix + entry.name])
        values.append(entry.to_keras(tensor))
    if not_finite:
        raise ValueError(
            "The checkpoint has numbers that are not finite. Received: "
            f"{len(not_finite)} such tensors, {_first(not_finite)}. Use an "
            "undamaged file."
        )
    for entry, arrays in zip(entries, values, strict=True):
        for variable, array in zip(entry.variables, arrays, strict=True):
            variable.assign(array)


def export_tensors(network, layout, qkv_order=None):
    """The weights of a network under another project's names.

    Args:
        network: built `UNet`.
        layout: str, see `find_layout`.
        qkv_order: str, "legacy" or "new", for "guided_diffusion" only; None
            is "new".

    Returns:
        Dict of float32 arrays by name, in the order of the network.

    Raises:
        ValueError: the project cannot express the network; the message names
            every argument that stands in the way.

    Example:

    ```python
    tensors = export_tensors(network, "diffusers")
    config = diffusers_config(network)
    ```
    """
    layout = _layout_called(layout)
    order = qkv_order or layout.written_qkv_order
    entries = _entries_of_all_weights(layout, network, order)
    prefix = layout.usual_prefix
    return {prefix + entry.name: entry.from_keras() for entry in entries}


def _layout_called(name):
    for layout in LAYOUTS:
        if layout.name == name:
            return layout
    raise ValueError(
        f"There is no such layout. Received: layout={name!r}. Choose one of "
        f"{_layout_names()}."
    )


def _layout_names():
    return ", ".join(layout.name for layout in LAYOUTS)


def _entries_of_all_weights(layout, network, qkv_order):
    """Entries with every weight of the network in exactly one of them."""
    # By name: this package does not import the networks.
    if layout.network not in [x.__name__ for x in type(network).__mro__]:
        raise ValueError(
            f"The {layout.name} layout is for networks of the class "
            f"{layout.network}. Received: a {type(network).__name__}. Pass a "
            f"{layout.network}; of a model around it, its network."
        )
    entries = layout.entries(network, qkv_order)
    described = [id(v) for entry in entries for v in entry.variables]
    weights = {id(v): v.path for v in network.weights}
    forgotten = [path for x, path in weights.items() if x not in described]
    if forgotten or len(described) != len(weights):
        raise ValueError(
            "The layout does not describe every weight of the network exactly "
            f"once. Received: {len(weights)} weights, {len(described)} "
            f"described, without {_first(forgotten)}. Use another layout."
        )
    return entries


def _check_names_and_shapes(checkpoint, used, names, entries, prefix):
    """Raises a `ValueError` that tells all differences at once."""
    wanted = {prefix + entry.name: entry.shape for entry in entries}
    missing = [name for name in wanted if name not in names]
    unexpected = [old for name, old in names.items() if name not in wanted]
    # Two old names of one tensor.
    unexpected += [name for name in used if name not in names.values()]
    other_shapes = [
        f"{names[name]} {tuple(checkpoint.shapes[names[name]])} instead of "
        f"{shape}"
        for name, shape in wanted.items()
        if name in names and tuple(checkpoint.shapes[names[name]]) != shape
    ]
    differences = [
        f"{len(found)} {what}: {_first(found)}"
        for what, found in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", other_shapes),
        )
        if found
    ]
    if differences:
        raise ValueError(
            "The checkpoint does not fit the network. Received tensors: "
            f"{'; '.join(differences)}. Build the network by the arguments "
            "that infer_arguments finds in the checkpoint."
        )


def _first(names):
    """The first few of many names, for an error."""
    names = list(names)
    left_out = ", ..." if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + left_out
