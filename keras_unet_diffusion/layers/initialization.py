"""How each family of published networks starts its weights."""

import keras

FAMILIES = ("ddpm", "adm", "diffusers", "edm")


def initializers(family, fan_in, role="hidden"):
    """Initial kernel and bias of a convolution or dense layer.

    Args:
        family: "ddpm" (Glorot uniform, biases 0, last layers almost 0), "adm"
            (PyTorch's own, last layers exactly 0; EDM's version of ADM is the
            same), "diffusers" (PyTorch's own everywhere) or "edm" (DDPM++ and
            NCSN++ as in EDM: as "ddpm", with smaller queries, keys, values).
        fan_in: int, inputs of one output: kernel pixels times channels.
        role: "hidden"; "last", of a residual branch or of the network; or
            "attention", for queries, keys and values.

    Returns:
        Dict of `kernel_initializer` and `bias_initializer`, new objects.

    Raises:
        ValueError: there is no such family.

    Reference:
        Ho et al. 2020 (its code: last layers of scale 1e-10); Dhariwal and
        Nichol 2021; Karras et al. 2022, appendix C. Differences: none.
    """
    check_family(family)
    scaling = keras.initializers.VarianceScaling
    if family in ("ddpm", "edm"):
        # EDM multiplies the Glorot weights of q, k, v by sqrt(0.2), and makes
        # them as one layer of C in and 3C out: 0.2 * 2 / (C + 3C) = 0.1 / C.
        attention_scale = 0.1 if family == "edm" else 1.0
        scales = {"hidden": 1.0, "attention": attention_scale, "last": 1e-10}
        kernel = scaling(scales[role], "fan_avg", "uniform")
        bias = keras.initializers.Zeros()
    elif family == "adm" and role == "last":
        kernel, bias = keras.initializers.Zeros(), keras.initializers.Zeros()
    else:
        limit = fan_in**-0.5
        kernel = keras.initializers.RandomUniform(-limit, limit)
        bias = keras.initializers.RandomUniform(-limit, limit)
    return {"kernel_initializer": kernel, "bias_initializer": bias}


def check_family(family):
    """Raises a `ValueError` unless it is a known family."""
    if family not in FAMILIES:
        raise ValueError(
            "initialization names a family of published networks. Received: "
            f"initialization={family!r}. Choose one of {', '.join(FAMILIES)}."
        )
