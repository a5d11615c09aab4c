"""How a `UNet` is made by a published name, or of a published file."""

from keras_unet_diffusion.functional_network import FunctionalNetwork
from keras_unet_diffusion.published import PUBLISHED
from keras_unet_diffusion.weights import (
    find_layout,
    infer_arguments,
    load_checkpoint_into,
    opened,
)


class PublishedNetwork(FunctionalNetwork):
    """What `UNet` is besides its arguments: a network that others published.

    Whoever inherits has their arguments: `PRESETS` are named sets of them,
    and a checkpoint tells most of them.
    """

    @classmethod
    def from_preset(
        cls, preset, weights=None, qkv_order=None, ema=None, **overrides
    ):
        """Builds a published network, with new weights or published ones.

        Args:
            preset: str, one of `UNet.presets()`.
            weights: path of a checkpoint, as for `from_checkpoint`, or of a
                `.weights.h5` file; None for new weights. No weights come with
                the library.
            qkv_order: see `from_checkpoint`; None for the order in which the
                preset's weights were published.
            ema: see `from_checkpoint`.
            **overrides: constructor arguments that replace the preset's.

        Returns:
            A `UNet`.

        Raises:
            ValueError: no preset of that name, or the file is damaged or of
                another network.

        Example:

        ```python
        network = UNet.from_preset("tiny", num_classes=10)
        network = UNet.from_preset(
            "adm_imagenet64", weights="64x64_diffusion.pt"
        )
        ```
        """
        arguments = cls._preset(preset) | overrides
        if weights is None:
            return cls(**arguments)
        if str(weights).endswith(".weights.h5"):
            network = cls(**arguments)
            network.load_weights(weights)
            return network
        checkpoint = opened(weights, ema)
        if qkv_order is None and preset in PUBLISHED:
            layout = find_layout(checkpoint.shapes)
            # Other layouts have one order and take no other.
            if layout.written_qkv_order is not None:
                qkv_order = PUBLISHED[preset].qkv_order
        network = cls(**arguments)
        load_checkpoint_into(network, checkpoint, qkv_order=qkv_order)
        return network

    @classmethod
    def from_checkpoint(cls, path, qkv_order=None, ema=None, **arguments):
        """Builds the network that a published checkpoint is of, and loads it.

        The project that wrote the file (diffusers, guided-diffusion,
        improved-diffusion, EDM, the original DDPM) is recognised by the names
        of its tensors, and the arguments are inferred from their shapes.
        Every tensor is used exactly once, or nothing is loaded. No code in
        the file is run.

        Args:
            path: a `.safetensors`, `.pt`, `.pth` or `.npz` file, a folder of
                diffusers, a TensorFlow 1 checkpoint, or a `Checkpoint`.
            qkv_order: "legacy" or "new", the order of rows of queries, keys
                and values in checkpoints of guided- and improved-diffusion:
                nothing in the file tells it. "new" is what was made with
                `use_new_attention_order`, such as ADM at 64x64.
            ema: bool or None. Whether to read averaged weights (True), raw
                ones (False), or averaged ones if the file has them (None).
            **arguments: constructor arguments that the file does not tell
                (for guided- and improved-diffusion `num_heads` or
                `num_head_channels`; `image_size`, `dropout`), or that shall
                be others, unless a config beside the weights says otherwise.

        Returns:
            A `UNet`.

        Raises:
            ValueError: the file is damaged, or of an unknown network, or does
                not tell all that must be known; the message lists it.

        Example:

        ```python
        network = UNet.from_checkpoint("ddpm-cifar10-32/")
        ```
        """
        checkpoint = opened(path, ema)
        if find_layout(checkpoint.shapes).name == "edm2":
            raise ValueError(
                "The checkpoint is of a network of EDM2. Received: "
                f"{path}. Load it by MagnitudePreservingUNet.from_checkpoint."
            )
        # What describes the model, not the network, has no trace in a file.
        names = ("dtype", "name", "rematerialize")
        extra = {x: arguments.pop(x) for x in names if x in arguments}
        inferred = infer_arguments(checkpoint, qkv_order=qkv_order, **arguments)
        network = cls(**inferred, **extra)
        load_checkpoint_into(network, checkpoint, qkv_order=qkv_order)
        return network
