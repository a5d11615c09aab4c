"""What a checkpoint claims to be, bounded by what it holds.

Names, and a config even more, can describe a network of any size in a few
bytes. To build it, only to see that nothing fits, could take all memory.
"""

import math

# A residual block has at least two convolutions, and weights by which it
# reads the embedding and scales it.
_TENSORS_PER_BLOCK = 4


def check_shapes(checkpoint):
    """Raises a `ValueError` for arrays without numbers.

    Their other sizes cost nothing, so that a file could claim any of them.

    Args:
        checkpoint: `Checkpoint`.
    """
    empty = [name for name, shape in checkpoint.shapes.items() if 0 in shape]
    if empty:
        raise ValueError(
            "No network has weights without numbers. Received: "
            f"{checkpoint.path} with {empty[0]!r} of the shape "
            f"{tuple(checkpoint.shapes[empty[0]])}, and {len(empty) - 1} more. "
            "Use an undamaged file."
        )


def check_size(arguments, checkpoint):
    """Raises a `ValueError` for a network that a checkpoint cannot hold.

    Args:
        arguments: dict, as `Layout.arguments` returns it.
        checkpoint: `Checkpoint`.
    """
    shapes = checkpoint.shapes.values()
    numbers = sum(math.prod(shape) for shape in shapes)
    blocks = num_blocks(arguments)
    least = (
        ("tensors", len(shapes), _TENSORS_PER_BLOCK * blocks),
        ("numbers", numbers, least_weights(arguments)),
    )
    for what, held, needed in least:
        if held < needed:
            raise ValueError(
                "The checkpoint is too small for the network that it is said "
                f"to be of. Received: {checkpoint.path} with {held} {what}, "
                f"where that network has at least {needed}. Check that the "
                "file is whole, and that a config.json beside it or the "
                "arguments that you pass belong to it."
            )


def num_blocks(arguments):
    """Residual blocks that do not resample: on all levels, in the middle."""
    per_level = 2 * arguments["num_residual_blocks"] + 1
    return per_level * len(arguments["channel_multipliers"]) + 2


def least_weights(arguments):
    """A number of weights that a network has in any case, int.

    Every width counts, and every product of two widths that a matrix has, so
    that memory is bounded by it too: the network has a few times as many.

    Args:
        arguments: dict of arguments of `UNet` or `MagnitudePreservingUNet`.
    """
    base = arguments["base_channels"]
    channels = [round(base * x) for x in arguments["channel_multipliers"]]
    per_level = 2 * arguments["num_residual_blocks"] + 1
    images = arguments["image_channels"]
    stem = arguments.get("stem_channels") or channels[0]
    outputs = arguments.get("output_channels") or images
    waves = arguments.get("noise_channels") or base
    if "embedding_channels" in arguments:
        embedding = arguments["embedding_channels"] or 4 * base
        dense_2 = embedding**2
    else:  # A magnitude-preserving network has no second projection.
        embedding, dense_2 = max(channels), 0
    # The second convolution of each block and one first one; in the middle
    # both of each block.
    convolutions = per_level * sum(x * x for x in channels)
    convolutions += stem * channels[0] + 4 * channels[-1] ** 2
    # Of the stem and of the output.
    convolutions += images * stem + channels[0] * outputs
    injections = embedding * (per_level * sum(channels) + 2 * channels[-1])
    is_one_hot = arguments.get("label_embedding") == "one_hot"
    label_channels = waves if is_one_hot else embedding
    return (
        9 * convolutions
        + injections
        + waves * embedding
        + dense_2
        + (arguments.get("num_classes") or 0) * label_channels
        + (arguments.get("augmentation_channels") or 0) * waves
    )
