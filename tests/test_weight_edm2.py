"""Checkpoints of EDM2 and the magnitude-preserving U-Net."""

import numpy as np
import pytest
from conftest import randomize

from keras_unet_diffusion import MagnitudePreservingUNet, UNet, weights

# Two levels, attention at the lower one, two heads.
ARGUMENTS = {
    "image_size": 8,
    "image_channels": 3,
    "base_channels": 8,
    "channel_multipliers": (1, 2),
    "num_residual_blocks": 1,
    "attention_resolutions": (4,),
    "num_head_channels": 8,
    "num_classes": 5,
}


@pytest.fixture
def network():
    return randomize(MagnitudePreservingUNet(**ARGUMENTS), scale=1.0)


def predictions(network):
    random = np.random.default_rng(0)
    inputs = {
        "noisy_images": random.standard_normal((2, 8, 8, 3)),
        "noise_level": np.array([-0.5, 0.3]),
        "labels": np.array([1, 4]),
    }
    return np.asarray(network(inputs))


def test_the_names_are_those_of_edm2(network):
    names = set(weights.export_tensors(network, "edm2"))
    # Block by block, from the structure that the paper draws for config G.
    block = {"conv_res0.weight", "conv_res1.weight", "emb_linear.weight"}
    block |= {"emb_gain"}
    skip, attention = {"conv_skip.weight"}, {"attn_qkv.weight"}
    attention |= {"attn_proj.weight"}
    blocks = {
        "enc.8x8_block0": block,
        "enc.4x4_down": block,
        "enc.4x4_block0": block | skip | attention,
        "dec.4x4_in0": block | attention,
        "dec.4x4_in1": block,
        "dec.4x4_block0": block | skip | attention,
        "dec.4x4_block1": block | skip | attention,
        "dec.8x8_up": block,
        "dec.8x8_block0": block | skip,
        "dec.8x8_block1": block | skip,
    }
    expected = {f"unet.{x}.{y}" for x, inner in blocks.items() for y in inner}
    expected |= {
        "unet.emb_fourier.freqs",
        "unet.emb_fourier.phases",
        "unet.emb_noise.weight",
        "unet.emb_label.weight",
        "unet.enc.8x8_conv.weight",
        "unet.out_conv.weight",
        "unet.out_gain",
    }
    assert names == expected


def test_kernels_are_those_of_pytorch(network):
    tensors = weights.export_tensors(network, "edm2")
    stem = network.get_layer("stem").kernel
    np.testing.assert_array_equal(
        tensors["unet.enc.8x8_conv.weight"], np.transpose(stem, (3, 2, 0, 1))
    )
    attention = network.get_layer("middle_block_1").attention
    # Rows run over heads, channels of a head, then query, key and value.
    fused = tensors["unet.dec.4x4_in0.attn_qkv.weight"].reshape(2, 8, 3, 16)
    for index, layer in enumerate(
        (attention.query, attention.key, attention.value)
    ):
        rows = np.transpose(layer.kernel).reshape(2, 8, 16)
        np.testing.assert_array_equal(fused[:, :, index], rows)


def test_a_written_checkpoint_comes_back_as_the_same_network(network, tmp_path):
    path = tmp_path / "edm2.safetensors"
    weights.save_checkpoint(network, path, "edm2")
    loaded = MagnitudePreservingUNet.from_checkpoint(path, num_head_channels=8)
    assert loaded.get_config() == network.get_config()
    np.testing.assert_array_equal(predictions(loaded), predictions(network))


def test_what_weighs_the_loss_is_left_aside(network, tmp_path):
    tensors = weights.export_tensors(network, "edm2")
    tensors["logvar_fourier.freqs"] = np.ones(8, "float32")
    tensors["logvar_linear.weight"] = np.ones((1, 8), "float32")
    path = tmp_path / "edm2.npz"
    weights.write_npz(path, tensors)
    loaded = MagnitudePreservingUNet.from_checkpoint(path, num_head_channels=8)
    np.testing.assert_array_equal(predictions(loaded), predictions(network))
    weights.write_npz(path, tensors | {"unet.extra": np.ones(1, "float32")})
    with pytest.raises(ValueError, match="1 unexpected: unet.extra"):
        MagnitudePreservingUNet.from_checkpoint(path, num_head_channels=8)


def test_the_two_classes_of_network_refuse_each_others_files(network, tmp_path):
    path = tmp_path / "edm2.npz"
    weights.save_checkpoint(network, path, "edm2")
    with pytest.raises(ValueError, match="MagnitudePreservingUNet.from_check"):
        UNet.from_checkpoint(path)
    with pytest.raises(ValueError, match="for networks of the class Magn"):
        weights.save_checkpoint(
            UNet(image_size=8, base_channels=32, attention_resolutions=()),
            path,
            "edm2",
        )


def test_an_order_of_rows_is_refused_where_there_is_one_only(network):
    with pytest.raises(ValueError, match="one order.*qkv_order='new'"):
        weights.export_tensors(network, "edm2", qkv_order="new")
