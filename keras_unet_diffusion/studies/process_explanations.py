"""What a network predicts and what number it is told, in words."""

from typing import NamedTuple

from keras_unet_diffusion.diffusion import (
    ContinuousCosineSchedule,
    DiscreteSchedule,
    EDMPrediction,
    EDMSchedule,
    FlowPrediction,
    FlowSchedule,
    ImagePrediction,
    NoisePrediction,
    ScorePrediction,
    ShiftedSchedule,
    SigmoidSchedule,
    VelocityPrediction,
    VESchedule,
    VPSchedule,
)


class Predicted(NamedTuple):
    """Words about a prediction type.

    Args:
        name: str, what is predicted.
        formula: str, the same of x₀, the image, and ε, the noise, in
            xₜ = α x₀ + σ ε.
        looks: str, what that looks like, a sentence.
    """

    name: str
    formula: str
    looks: str


_PREDICTIONS = {
    NoisePrediction: Predicted(
        "the noise",
        "ε",
        "Where all is noise, it looks like what the network sees.",
    ),
    ImagePrediction: Predicted(
        "the clean image", "x₀", "It is the estimate of the image itself."
    ),
    VelocityPrediction: Predicted(
        "the velocity",
        "α ε − σ x₀",
        "Where all is noise, it looks like the negative of an image; where "
        "there is little, like noise.",
    ),
    FlowPrediction: Predicted(
        "the way from image to noise",
        "ε − x₀",
        "Where all is noise, it looks like what the network sees, less an "
        "image.",
    ),
    ScorePrediction: Predicted(
        "the score times σ",
        "−ε",
        "Where all is noise, it looks like the negative of what the network "
        "sees.",
    ),
}


def explain_prediction(prediction):
    """Says what a network predicts.

    Args:
        prediction: a `Prediction`.

    Returns:
        A `Predicted`. Of a class that is not of this library it says no more
        than what all have in common.

    Example:

    ```python
    explain_prediction(VelocityPrediction()).formula  # "α ε − σ x₀"
    ```
    """
    if isinstance(prediction, EDMPrediction):
        s = f"{prediction.sigma_data:g}"
        return Predicted(
            "a mix of image and noise of variance one",
            f"(σ x₀ / {s} − α {s} ε) / √(σ² + α² {s}²)",
            "At much noise it looks like an image, at little like noise.",
        )
    for kind, words in _PREDICTIONS.items():
        if isinstance(prediction, kind):
            return words
    return Predicted(type(prediction).__name__, "a x₀ + b ε", "")


def explain_told(process):
    """Says what the number is by which a network is told the noise level.

    Args:
        process: a `DiffusionProcess`.

    Returns:
        str, such as "time step, 0 to 999" or "ln(σ / α) / 4"; empty for a
        schedule that is not of this library.

    Example:

    ```python
    explain_told(DiffusionProcess(VPSchedule()))  # "999 t"
    ```
    """
    if isinstance(process.prediction, EDMPrediction):
        return "ln(σ / α) / 4"
    if isinstance(process.prediction, ScorePrediction):
        return "ln(σ / α / 2)"
    return _told_by(process.schedule)


def _told_by(schedule):
    match schedule:
        case DiscreteSchedule(num_timesteps=steps, time_scale=scale):
            words = f"time step, 0 to {steps - 1}"
            is_plain = scale in (None, steps)
            return words if is_plain else f"{words}, times {scale / steps:g}"
        case ShiftedSchedule():
            return _told_by(schedule.schedule)
        case VPSchedule():
            return "999 t"
        case ContinuousCosineSchedule() | SigmoidSchedule():
            return f"{schedule.time_scale:g} t"
        case FlowSchedule():
            return f"{schedule.time_scale:g} σ"
        case EDMSchedule():
            return "ln(σ) / 4"
        case VESchedule():
            return "ln(σ / 2)"
    return ""
