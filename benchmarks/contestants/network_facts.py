"""What all contestants must agree on: the network and its arithmetic."""

from harness.worker import serve


def make(settings):
    """Counts operations and weights; describes the network to diffusers."""
    import keras

    from keras_unet_diffusion import UNet
    from keras_unet_diffusion.flops import count_flops, count_training_flops
    from keras_unet_diffusion.weights.diffusers_config import diffusers_config

    keras.config.set_dtype_policy("float32")
    network = UNet.from_preset(settings["preset"], **settings["overrides"])
    try:
        config = diffusers_config(network)
        config.pop("_class_name")
    except ValueError as error:
        config = {"error": str(error)}
    facts = {
        "forward_flops": count_flops(network),
        "training_flops": count_training_flops(network),
        "num_parameters": network.count_params(),
        "image_shape": list(network.input["noisy_images"].shape[1:]),
        "diffusers_config": config,
    }
    return None, facts


if __name__ == "__main__":
    serve(make)
