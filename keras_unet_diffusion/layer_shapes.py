"""What goes into and out of each layer of a network, without computing it."""

import keras


def layer_shapes(network, image_size=None, context_tokens=None):
    """The layers of a network with the shapes of what goes in and out.

    Args:
        network: a functional `keras.Model`.
        image_size: int, height and width in pixels; only for a network of any
            size.
        context_tokens: int, length of the context; only for a network with
            context.

    Returns:
        list of `(layer, input shapes, output shape)` in the order of the
        network, without its inputs; batch first, the batch 1.

    Raises:
        ValueError: a size is missing.

    Example:

    ```python
    for layer, _, shape in layer_shapes(UNet.from_preset("tiny")):
        print(layer.name, shape)
    ```
    """
    found = []

    def noting(operation):
        def run(*args, **kwargs):
            outputs = operation.compute_output_spec(*args, **kwargs)
            tensors = keras.tree.flatten((args, kwargs))
            shapes = [x.shape for x in tensors if hasattr(x, "shape")]
            output = keras.tree.flatten(outputs)[0].shape
            found.append((operation, shapes, output))
            return outputs

        return run

    inputs = [
        keras.KerasTensor(_sized(x, image_size, context_tokens), x.dtype)
        for x in network.inputs
    ]
    # Keras's own walk over the graph; its public ways either make new layers
    # or tell shapes of the size at which the network was built alone.
    network._run_through_graph(inputs, operation_fn=noting)
    return found


def _sized(tensor, image_size, context_tokens):
    """Shape of an input for one image, without unknown sizes."""
    _, *shape = tensor.shape
    size = image_size if len(shape) == 3 else context_tokens
    if None in shape and size is None:
        raise ValueError(
            "The network takes inputs of any size, and the operations depend "
            f"on it. Received: {tensor.name} of shape {tensor.shape}. Pass "
            f"{'image_size' if len(shape) == 3 else 'context_tokens'}."
        )
    if tensor.name == "low_resolution_images" and None in shape:
        raise ValueError(
            "Operations of a super-resolution network of any size cannot be "
            f"counted. Received: {tensor.name} of shape {tensor.shape}. Build "
            "the network with an image_size."
        )
    return (1, *(size if x is None else x for x in shape))
