"""What an optimizer must leave to the model."""

import keras

from keras_unet_diffusion.replicas import num_replicas


def check_optimizer(optimizer):
    """Refuses an optimizer that does what `Updates` does.

    Args:
        optimizer: a `keras.optimizers.Optimizer`.

    Raises:
        ValueError: it scales losses, averages weights or accumulates gradients
            itself, or clips them where several devices train.
    """
    instead = None
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        instead = "the optimizer inside it"
    elif optimizer.use_ema:
        instead = "use_ema=False, and averages= to the model"
    elif optimizer.gradient_accumulation_steps:
        instead = "accumulation_steps= to the model"
    elif optimizer.loss_scale_factor:
        instead = "loss_scale_factor=None"
    elif num_replicas() > 1 and _clips(optimizer):
        # Keras would clip what single replicas found.
        instead = "clip_norm= to the model"
    if instead is not None:
        raise ValueError(
            "The model itself averages, accumulates, clips and scales, in "
            "the right order and on every device. Received: optimizer="
            f"{optimizer.name} that does so too. Pass {instead}."
        )


def _clips(optimizer):
    return bool(
        optimizer.clipnorm or optimizer.clipvalue or optimizer.global_clipnorm
    )
