"""What each kind of block does and why it is there, in words."""

from typing import NamedTuple

import keras

from keras_unet_diffusion import layers


class Explanation(NamedTuple):
    """Words about one block.

    Args:
        function: str, what it does.
        formula: str, the same as a formula; h is what comes in, e the
            embedding of the noise level, W weights, ∗ a convolution, GN group
            normalisation.
        reason: str, why the network has it.
        reference: str, where it was published.
    """

    function: str
    formula: str
    reason: str
    reference: str


_DDPM = "Ho et al. 2020, appendix B"
_ADM = "Dhariwal and Nichol 2021, section 3.1"
_NCSNPP = "Song et al. 2021, appendix H"
_EDM2 = "Karras et al. 2024, section 2 and appendix B"

# By the kinds of `anatomy.Block`.
_KINDS = {
    "stem": Explanation(
        "The first convolution: from the colours of each pixel and its eight "
        "neighbours to feature channels.",
        "y = W ∗ x + b",
        "All that follows works on channels. It is also the first skip: the "
        "decoder gets it back at its very end, next to the pixels.",
        _DDPM,
    ),
    "residual block": Explanation(
        "Two 3×3 convolutions, each after normalisation and SiLU. Between "
        "them the embedding is added to every pixel; what came in is added to "
        "the result.",
        "y = S h + W₂ ∗ SiLU(GN(W₁ ∗ SiLU(GN(h)) + W e))",
        "The workhorse. The sum with the input lets gradients pass, so that "
        "dozens of blocks train; the embedding tells each of them how much "
        "noise it has to look through.",
        f"{_DDPM}; He et al. 2016 for the shortcut",
    ),
    "self-attention": Explanation(
        "Every pixel looks at all others and takes a mean of their values, "
        "weighted by how well its query fits their keys.",
        "y = h + W · softmax(Q Kᵀ / √d) V",
        "Convolutions reach only their neighbours. Attention connects distant "
        "parts of the image in one step; its cost grows with the square of "
        "the number of pixels, so it stands at coarse levels.",
        f"Vaswani et al. 2017, Eq. 1; {_DDPM}",
    ),
    "cross-attention": Explanation(
        "Every pixel looks at a sequence from outside, such as the words of a "
        "text, and takes a mean of its values.",
        "y = h + W · softmax(Q(h) K(c)ᵀ / √d) V(c)",
        "By it a description steers the image, pixel by pixel.",
        "Rombach et al. 2022, section 3.3",
    ),
    "downsampling": Explanation(
        "Halves height and width.",
        "y[i, j] = Σ W[a, b] h[2i + a, 2j + b]",
        "On the coarser grid a 3×3 convolution sees twice as far and costs a "
        "quarter. Coarse levels see through strong noise, as they take means "
        "over many pixels.",
        f"Ronneberger et al. 2015, section 2; {_DDPM}",
    ),
    "upsampling": Explanation(
        "Doubles height and width.",
        "y = up(h)",
        "The prediction has a value for every pixel: what was seen at the "
        "coarse levels is brought back to the fine ones.",
        f"Ronneberger et al. 2015, section 2; {_DDPM}",
    ),
    "skip": Explanation(
        "Takes back what a block of the encoder put out, and puts its "
        "channels beside those that come from below.",
        "y = [h, s]",
        "Noise is fine detail, and the coarse levels have lost it. The skip "
        "brings it across at full resolution, so that the way below needs to "
        "carry only what is coarse.",
        f"Ronneberger et al. 2015, section 2; {_DDPM}",
    ),
    "embedding": Explanation(
        "Makes a vector, of fixed length for the whole image, of what the "
        "network is told beside the image.",
        "y = W e + b",
        "One network serves all noise levels, and what it has to do differs "
        "from one to the next; so every block is told.",
        _DDPM,
    ),
    "pyramid": Explanation(
        "A second, short way beside the network: the image itself, made "
        "smaller, enters each level, or each level contributes to the output.",
        "y = W ∗ resample(x)",
        "Each scale sees the image directly, and gradients reach it directly.",
        _NCSNPP,
    ),
    "normalization": Explanation(
        "Shifts and scales groups of channels to mean 0 and variance 1, then "
        "by learned numbers.",
        "y = γ (h − μ) / √(σ² + ε) + β",
        "What follows finds features of the same size, whatever the noise "
        "level. The mean and variance are those of the whole image.",
        "Wu and He 2018, Eqs. 1 to 7",
    ),
    "output": Explanation(
        "From features, normalised and through SiLU, to the prediction: one "
        "value for each colour of each pixel, in float32.",
        "y = W ∗ SiLU(GN(h)) + b",
        "The prediction is as large as the image. This convolution starts at "
        "zero or nearly so: a new network predicts nothing.",
        _DDPM,
    ),
    "convolution": Explanation(
        "Each pixel becomes a weighted sum of the square around it.",
        "y = W ∗ h + b",
        "The same weights everywhere: what is learned at one place holds at "
        "all. But a pixel sees no further than the squares of all layers "
        "before it, put together.",
        "Dumoulin and Visin 2016",
    ),
}


def explain(kind, layer):
    """Explains a block.

    Args:
        kind: str, see `anatomy.Block`.
        layer: the Keras layer.

    Returns:
        An `Explanation`, of its class if that has words of its own, else of
        its kind.

    Raises:
        ValueError: nothing is known of the kind.

    Example:

    ```python
    explain("stem", network.get_layer("stem")).function
    ```
    """
    for layer_class, words in _CLASSES.items():
        if isinstance(layer, layer_class):
            return words(layer)
    if kind not in _KINDS:
        raise ValueError(
            f"There are no words for blocks of that kind. Received: {kind!r}. "
            f"Choose one of {', '.join(_KINDS)}."
        )
    return _KINDS[kind]


def _residual_block(layer):
    resampled = layer.resampling or ""
    first = f"{resampled}(SiLU(GN(h)))" if resampled else "SiLU(GN(h))"
    shortcut = f"S {resampled}(h)" if resampled else "S h"
    inner = f"SiLU(GN(W₁ ∗ {first} + W e))"
    words = _KINDS["residual block"]
    function, reference = words.function, words.reference
    if layer.scale_shift:
        inner = f"SiLU((1 + a(e)) GN(W₁ ∗ {first}) + b(e))"
        function = (
            "Two 3×3 convolutions, each after normalisation and SiLU. The "
            "embedding scales and shifts the second normalisation; what came "
            "in is added to the result."
        )
        reference = _ADM
    if resampled:
        does = {"down": "halved", "up": "doubled"}[resampled]
        function = (
            f"{function} Inside, before the first convolution and in the "
            f"shortcut, height and width are {does}."
        )
        kind = {"down": "downsampling", "up": "upsampling"}[resampled]
        words, reference = _KINDS[kind], _ADM
    scale = "" if layer.residual_scale == 1 else f"{layer.residual_scale:.3g} "
    formula = f"{shortcut} + W₂ ∗ {inner}"
    if scale:
        formula, reference = f"{scale}({formula})", f"{reference}; {_NCSNPP}"
    return Explanation(function, f"y = {formula}", words.reason, reference)


def _noise_level_embedding(layer):
    return Explanation(
        "Makes a vector of the noise level: sines and cosines of many "
        "frequencies, then two dense layers.",
        "y = W₂ SiLU(W₁ [sin ωₖt, cos ωₖt])",
        "What the network has to do differs with the noise: at much noise it "
        "invents shapes, at little it cleans detail. By the waves it can tell "
        "levels apart that are close to each other.",
        f"Vaswani et al. 2017, section 3.5; {_DDPM}",
    )


def _label_embedding(layer):
    return Explanation(
        "Looks up a vector for the class that the image is to show.",
        "y = E[label]",
        "Added to the embedding of the noise level it reaches every block: "
        "the network draws what it is asked for.",
        "Nichol and Dhariwal 2021, appendix A",
    )


def _magnitude_preserving_embedding(layer):
    return Explanation(
        "Makes a vector of the noise level, and of the class if there is one: "
        "cosines of random frequencies and a row of a table, blended.",
        "y = mp_silu(mp_sum(W √2 cos(ωₖt + φₖ), E[label], ½))",
        _noise_level_embedding(layer).reason,
        "Karras et al. 2024, config G and Eq. 88",
    )


def _magnitude_preserving_convolution(layer):
    if layer.learned_gain:
        return _KINDS["output"]._replace(
            function="From features to the prediction: one value for each "
            "colour of each pixel, in float32.",
            formula="y = g W ∗ h",
            reason="The prediction is as large as the image. The learned gain "
            "g starts at zero: a new network predicts nothing.",
            reference=_EDM2,
        )
    return _KINDS["stem"]._replace(
        formula="y = W ∗ [x, 1]",
        reason=f"{_KINDS['stem'].reason} The channel of ones stands for the "
        "biases, of which this network has none.",
        reference=_EDM2,
    )


def _added_skip(layer):
    return _KINDS["skip"]._replace(
        function="Takes back what a block of the encoder put out, and adds it "
        "to what comes from below.",
        formula="y = h + s",
    )


def _balanced_skip(layer):
    return _KINDS["skip"]._replace(
        function="Takes back what a block of the encoder put out and puts it "
        "beside what comes from below, both scaled so that neither outweighs "
        "the other by its number of channels.",
        formula="y = √((Nₕ + Nₛ) / (wₕ² + wₛ²)) [wₕ h / √Nₕ, wₛ s / √Nₛ]",
        reference="Karras et al. 2024, Eq. 103",
    )


def _downsample(layer):
    return _KINDS["downsampling"]._replace(
        function="Halves height and width by a 3×3 convolution with stride "
        "two: the network learns what to keep."
    )


def _filtered_downsample(layer):
    return _KINDS["downsampling"]._replace(
        function="Halves height and width by means over neighbours: a fixed "
        "filter, nothing is learned.",
        formula="y[i, j] = Σ k[a, b] h[2i + a, 2j + b]",
        reference=f"Zhang 2019; {_NCSNPP}",
    )


def _upsample(layer):
    if layer.interpolation == "transposed":
        return _KINDS["upsampling"]._replace(
            function="Doubles height and width by a transposed convolution: "
            "every pixel paints a square, and the squares overlap.",
            formula="y[2i + a, 2j + b] += W[a, b] h[i, j]",
            reference="Odena et al. 2016, on its checkerboards",
        )
    return _KINDS["upsampling"]._replace(
        function=f"Doubles height and width ({layer.interpolation}), then a "
        "3×3 convolution: no checkerboards.",
        formula=f"y = W ∗ {layer.interpolation}(h)",
        reference=f"{_DDPM}; Odena et al. 2016",
    )


def _fixed_upsample(layer):
    return _KINDS["upsampling"]._replace(
        function="Enlarges height and width by a fixed filter, nothing is "
        "learned.",
        formula="y = k ∗ up(h)",
        reference=f"{_NCSNPP}; Nichol and Dhariwal 2021, appendix A",
    )


def _magnitude_preserving_block(layer):
    is_encoder = isinstance(layer, layers.MagnitudePreservingEncoderBlock)
    function = (
        "Two 3×3 convolutions with kernels of fixed size; between them the "
        "embedding scales the channels. The result is blended with the input, "
        "3 to 7, so that its size stays."
    )
    kind = "residual block"
    if is_encoder:
        function = f"Normalises every pixel over its channels. {function}"
    if layer.resample:
        does = "halves" if is_encoder else "doubles"
        function = f"First {does} height and width. {function}"
        kind = "downsampling" if is_encoder else "upsampling"
    reason = _KINDS[kind].reason
    if layer.num_head_channels is not None:
        function = f"{function} Then every pixel looks at all others."
        reason = f"{reason} {_KINDS['self-attention'].reason}"
    return Explanation(
        function,
        "y = mp_sum(S h, W₂ ∗ mp_silu((1 + g W e) · (W₁ ∗ mp_silu(h))), 0.3)",
        reason,
        _EDM2,
    )


_CLASSES = {
    keras.layers.Add: _added_skip,
    layers.BilinearUpsample: _fixed_upsample,
    layers.Downsample: _downsample,
    layers.FilteredDownsample: _filtered_downsample,
    layers.FilteredUpsample: _fixed_upsample,
    layers.GroupNormalization: lambda layer: _KINDS["normalization"],
    layers.LabelEmbedding: _label_embedding,
    layers.MagnitudePreservingConv2D: _magnitude_preserving_convolution,
    layers.MagnitudePreservingConcatenate: _balanced_skip,
    layers.MagnitudePreservingDecoderBlock: _magnitude_preserving_block,
    layers.MagnitudePreservingEmbedding: _magnitude_preserving_embedding,
    layers.MagnitudePreservingEncoderBlock: _magnitude_preserving_block,
    layers.NoiseLevelEmbedding: _noise_level_embedding,
    layers.ResidualBlock: _residual_block,
    layers.Upsample: _upsample,
}
