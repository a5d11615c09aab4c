"""LiteRT files with weights of 8 bits and arithmetic in float32."""

import contextlib
import importlib.util
import io

_PACKAGE = "ai_edge_quantizer"


def can_quantize_weights():
    """Whether the package that does it is installed, bool."""
    return importlib.util.find_spec(_PACKAGE) is not None


def quantize_weights(data):
    """Stores the weights of a LiteRT file as int8, with scales of channels.

    Smaller than float16 and slower to load; the images are never rounded.
    Needs `ai-edge-quantizer` (`pip install keras_unet_diffusion[export]`).

    Args:
        data: bytes of a float32 file.

    Returns:
        Bytes of the file, signatures and shared weights as they were.

    Raises:
        ValueError: `ai-edge-quantizer` is not installed.
    """
    if not can_quantize_weights():
        raise ValueError(
            "Weights of 8 bits are made by ai-edge-quantizer. Received: an "
            "environment without it. Install it: pip install "
            "'keras_unet_diffusion[export]'."
        )
    from ai_edge_quantizer import quantizer, recipe

    made = quantizer.Quantizer(bytearray(data), recipe.weight_only_wi8_afp32())
    # It prints bars and sizes.
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        return bytes(made.quantize().quantized_model)
