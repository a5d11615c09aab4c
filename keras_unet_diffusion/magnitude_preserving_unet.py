"""The magnitude-preserving U-Net of EDM2."""

import keras

from keras_unet_diffusion.functional_network import FunctionalNetwork
from keras_unet_diffusion.magnitude_preserving_graph import (
    MagnitudePreservingGraph,
)
from keras_unet_diffusion.magnitude_preserving_presets import (
    MAGNITUDE_PRESERVING_PRESETS,
)
from keras_unet_diffusion.unet_arguments import (
    check_counts,
    check_image_size,
    check_levels,
    with_tuples,
)
from keras_unet_diffusion.weights import (
    infer_arguments,
    load_checkpoint_into,
    opened,
)


@keras.saving.register_keras_serializable(package="keras_unet_diffusion")
class MagnitudePreservingUNet(FunctionalNetwork):
    """A U-Net in which activations, weights and updates keep their size.

    The same encoder, middle and decoder with skips as `UNet`, but without
    group normalisation and without biases: kernels are normalised whenever
    they are used, and each operation is scaled so that inputs of mean square
    1 give outputs of mean square 1. Stored kernels are renormalised after
    each update of the optimizer (by a Keras constraint), so that a learning
    rate means the same relative change from the first step to the last; let
    it decay like the inverse square root of the steps.

    Use it as the network of a `DiffusionModel`, or alone, where training is
    long and quality counts. It costs a little more time than a `UNet` of the
    same number of parameters, and has no published use below 31 million.
    Inputs should have a mean square near 1.

    Args:
        image_size: int, height and width of the images in pixels, or None for
            any size (also oblong) that the total stride divides. The total
            stride is `2 ** (len(channel_multipliers) - 1)`.
        image_channels: int >= 1. Channels in and out; 3 RGB, 4 latents.
        base_channels: int >= 1. Channels at the first level, and length of
            the Fourier features of the noise level.
        channel_multipliers: one int per level; channels at level `i` are
            `base_channels * channel_multipliers[i]`. Each further level
            halves the resolution.
        num_residual_blocks: int >= 1. Residual blocks per level of the
            encoder, beside the one that halves; the decoder has one more.
        attention_resolutions: heights in pixels of the feature maps whose
            blocks have self-attention; the first of the middle always has.
            Must be empty where `image_size` is None: give `attention_levels`.
        attention_levels: levels (0 is the finest) whose blocks have
            self-attention, in addition to `attention_resolutions`.
        num_head_channels: int >= 1. Channels of one attention head; must
            divide the channels of every level with attention.
        dropout: float in [0, 1), in every residual block.
        num_classes: int >= 1 for a network conditioned on labels, or None.
        null_label: bool. Whether the label `num_classes` is allowed, which
            stands for no label.
        dtype: dtype policy of all layers, None for the global one. The last
            convolution is always float32.
        name: str, name of the model.
        **kwargs: of `keras.Model`.

    Call arguments:
        inputs: dict of `noisy_images` `(batch, height, width, channels)`,
            `noise_level` `(batch,)` (the paper's is `log(sigma) / 4`), and,
            with `num_classes`, integer `labels` `(batch,)`.
        training: bool. Whether dropout is active.

    Returns:
        Prediction of shape `(batch, height, width, channels)`, float32; a new
        network predicts 0.

    Raises:
        ValueError: sizes or heads that do not fit together; the message says
            which and what to do.

    Example:

    ```python
    network = MagnitudePreservingUNet.from_preset("edm2_xs")
    prediction = network(
        {
            "noisy_images": latents,
            "noise_level": np.array([-1.0, 0.5]),
            "labels": np.array([207, 1]),
        }
    )
    ```

    Reference:
        Karras et al. 2024, "Analyzing and Improving the Training Dynamics of
        Diffusion Models", config G and appendix B. Differences:
        when stored kernels are renormalised, see `ForcedWeightNormalization`;
        preconditioning and the learned loss weight are not the network's.
    """

    PRESETS = MAGNITUDE_PRESERVING_PRESETS

    def __init__(
        self,
        image_size=64,
        image_channels=4,
        base_channels=192,
        channel_multipliers=(1, 2, 3, 4),
        num_residual_blocks=3,
        attention_resolutions=(16, 8),
        attention_levels=(),
        num_head_channels=64,
        dropout=0.0,
        num_classes=None,
        null_label=False,
        dtype=None,
        name="magnitude_preserving_unet",
        **kwargs,
    ):
        arguments = with_tuples(
            {
                "image_size": image_size,
                "image_channels": image_channels,
                "base_channels": base_channels,
                "channel_multipliers": channel_multipliers,
                "num_residual_blocks": num_residual_blocks,
                "attention_resolutions": attention_resolutions,
                "attention_levels": attention_levels,
                "num_head_channels": num_head_channels,
                "dropout": dropout,
                "num_classes": num_classes,
                "null_label": null_label,
            }
        )
        check_counts(
            image_channels=image_channels,
            base_channels=base_channels,
            num_residual_blocks=num_residual_blocks,
            num_classes=num_classes,
            num_head_channels=num_head_channels,
            image_size=image_size,
            **{"len(channel_multipliers)": len(channel_multipliers)},
        )
        check_levels(**arguments)
        check_image_size(**arguments)
        policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        graph = MagnitudePreservingGraph(policy, **arguments).build()
        super().__init__(graph, arguments, policy, name=name, **kwargs)

    @classmethod
    def from_preset(cls, preset, weights=None, ema=None, **overrides):
        """Builds a published network, with new weights or published ones.

        Args:
            preset: str, one of `presets()`.
            weights: path of a checkpoint, as for `from_checkpoint`; None for
                new weights. No weights come with the library.
            ema: see `from_checkpoint`.
            **overrides: constructor arguments that replace the preset's.

        Returns:
            A `MagnitudePreservingUNet`.

        Raises:
            ValueError: no preset of that name, or the file is damaged or of
                another network.
        """
        network = cls(**(cls._preset(preset) | overrides))
        if weights is not None:
            checkpoint = opened(weights, ema)
            load_checkpoint_into(network, checkpoint, layout="edm2")
        return network

    @classmethod
    def from_checkpoint(cls, path, ema=None, **arguments):
        """Builds the network that a checkpoint of EDM2 is of, and loads it.

        EDM2 publishes pickles that contain code; convert one by PyTorch,
        where its code is trusted, to a `.safetensors` file of its tensors.

        Args:
            path: see `UNet.from_checkpoint`.
            ema: likewise.
            **arguments: constructor arguments that the file does not tell
                (`dropout`, `null_label`, `dtype`), or that shall be others.

        Returns:
            A `MagnitudePreservingUNet`.

        Raises:
            ValueError: the file is damaged or of another network.

        Example:

        ```python
        network = MagnitudePreservingUNet.from_checkpoint("edm2-s.safetensors")
        ```
        """
        checkpoint = opened(path, ema)
        inferred = infer_arguments(checkpoint, layout="edm2", **arguments)
        network = cls(**inferred)
        load_checkpoint_into(network, checkpoint, layout="edm2")
        return network
