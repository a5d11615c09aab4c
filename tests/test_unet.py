"""The U-Net: published parameter counts, names, wiring, and files."""

import inspect
import math

import keras
import numpy as np
import pytest
from conftest import SMALL, first_of_each, randomize, without_values
from unet_fixtures import make_inputs, names_of

from keras_unet_diffusion import UNet

# Trained parameters, counted on the original networks; "tiny" by adding up
# its layers.
PARAMETERS = {
    "tiny": 627_433,
    "ddpm_cifar10": 35_746_307,
    "ddpm_256": 113_673_219,
    "iddpm_cifar10": 52_546_438,
    "iddpm_imagenet64": 121_063_942,
    "iddpm_imagenet64_conditional": 273_049_350,
    "iddpm_lsun_bedroom256": 113_676_678,
    "iddpm_upsampler_64_256": 279_792_390,
    "adm_imagenet64": 295_904_454,
    "adm_imagenet128": 421_529_606,
    "adm_imagenet256": 553_838_086,
    "adm_imagenet256_unconditional": 552_814_086,
    "adm_lsun256": 552_814_086,
    "adm_imagenet512": 558_997_638,
    "adm_upsampler_64_256": 311_795_910,
    "adm_upsampler_128_512": 308_835_270,
    "edm_cifar10_ddpmpp": 55_733_891,
    "edm_cifar10_ddpmpp_conditional": 55_735_299,
    "edm_cifar10_ncsnpp": 56_397_827,
    "edm_cifar10_ncsnpp_conditional": 56_400_643,
    "edm_ffhq64_ddpmpp": 61_805_571,
    "edm_ffhq64_ncsnpp": 62_761_091,
    "edm_afhqv2_64_ddpmpp": 61_805_571,
    "edm_afhqv2_64_ncsnpp": 62_761_091,
    "edm_imagenet64_adm": 295_899_267,
    "diffusers_ddpm_cifar10": 35_746_307,
    "diffusers_ddpm_256": 113_673_219,
    "diffusers_unet2d": 274_056_163,
    "diffusers_train_example": 113_673_219,
    "consistency_imagenet64": 295_899_267,
}
# Every argument, at another value than its default; they fit together.
ALL_CHANGED = {
    "image_size": 16,
    "image_channels": 2,
    "output_channels": 4,
    "base_channels": 16,
    "channel_multipliers": (0.5, 1),
    "stem_channels": 12,
    "num_residual_blocks": 1,
    "dropout": 0.1,
    "attention_resolutions": (8,),
    "attention_levels": (0,),
    "decoder_attention": "last",
    "middle_attention": False,
    "middle_attention_norm": False,
    "num_heads": 2,
    "num_head_channels": 4,
    "query_key_norm": True,
    "scale_shift": True,
    "downsampling": "residual_block",
    "downsample_padding": (1, 1),
    "upsampling": "residual_block",
    "resampling_kernel": (1, 3, 3, 1),
    "resampling_shortcut": "conv",
    "skip_connections": "add",
    "skip_scale": 0.5**0.5,
    "residual_scale": 0.5**0.5,
    "encoder_pyramid": "residual",
    "decoder_pyramid": "skip",
    "num_groups": 8,
    "min_group_channels": 4,
    "epsilon": 1e-5,
    "noise_level_embedding": "fourier",
    "embedding_order": "cos_sin",
    "frequency_shift": 0,
    "fourier_scale": 4.0,
    "noise_channels": 10,
    "embedding_channels": 20,
    "num_classes": 3,
    "label_embedding": "one_hot",
    "null_label": "learned",
    "augmentation_channels": 9,
    "super_resolution_factor": 2,
    "self_conditioning": True,
    "context_channels": 6,
    "initialization": "edm",
    "rematerialize": True,
}


def test_every_preset_is_counted():
    assert set(UNet.presets()) == set(PARAMETERS)


# By default one of each family; see test_weight_layouts.py for their forms.
@pytest.mark.parametrize(
    "preset, parameters",
    first_of_each(
        PARAMETERS.items(), lambda preset, parameters: preset.split("_")[0]
    ),
)
def test_presets_have_the_parameters_of_the_originals(preset, parameters):
    with without_values():
        network = UNet.from_preset(preset)
    shapes = [x.shape for x in network.trainable_variables]
    assert sum(math.prod(shape) for shape in shapes) == parameters
    size, channels = network.image_size, network.image_channels
    channels = network.output_channels or channels
    assert network.output_shape == (None, size, size, channels)


def test_fourier_frequencies_are_saved_and_not_trained():
    network = UNet(**SMALL, noise_level_embedding="fourier")
    fixed = [x.path for x in network.non_trainable_variables]
    assert fixed == ["noise_level_embedding/waves/frequencies"]


def test_a_new_network_predicts_zero():
    exactly = UNet(**SMALL, initialization="adm")
    outputs = exactly(make_inputs(exactly))
    np.testing.assert_array_equal(outputs, np.zeros((2, 8, 8, 1)))
    # DDPM's last convolution is a hundred-thousandth of a usual one.
    nearly = UNet(**SMALL)
    assert np.abs(nearly(make_inputs(nearly))).max() < 1e-3


def test_the_noise_level_changes_the_prediction(small_network):
    inputs = make_inputs(small_network)
    other = inputs | {"noise_level": inputs["noise_level"] + 1}
    difference = np.abs(
        np.asarray(small_network(inputs)) - small_network(other)
    )
    assert difference.max(axis=(1, 2, 3)).min() > 1e-3


def test_the_label_changes_the_prediction(labelled_network):
    inputs = make_inputs(labelled_network)
    first = labelled_network(inputs | {"labels": np.array([1, 1])})
    second = labelled_network(inputs | {"labels": np.array([1, 2])})
    np.testing.assert_array_equal(first[0], second[0])
    assert np.abs(np.asarray(first[1]) - second[1]).max() > 1e-3


def test_images_of_a_batch_do_not_see_each_other(small_network):
    inputs = make_inputs(small_network, batch=4)
    together = small_network(inputs)
    alone = small_network({k: v[2:3] for k, v in inputs.items()})
    # Other batch sizes may take other convolution kernels: float32 rounding.
    np.testing.assert_allclose(together[2:3], alone, atol=1e-5)


def test_every_encoder_feature_is_concatenated_into_the_decoder():
    network = UNet.from_preset("tiny")
    skips = [
        layer
        for layer in network.layers
        if isinstance(layer, keras.layers.Concatenate)
    ]
    taken = {layer.input[1].name for layer in skips}
    produced = {
        layer.output.name
        for layer in network.layers
        if layer.name == "stem" or layer.name.startswith("encoder")
    }
    # A block that attention follows hands on what attention made of it.
    followed = {
        layer.input.name
        for layer in network.layers
        if layer.name.startswith("encoder") and "attention" in layer.name
    }
    assert taken == produced - followed
    assert len(skips) == 3 * (1 + 1)


def test_removing_a_skip_changes_the_output(small_network):
    inputs = make_inputs(small_network)
    before = np.asarray(small_network(inputs))
    block = small_network.get_layer("decoder_8x8_block_2")
    kernel, bias = block.conv_1.get_weights()
    kernel[:, :, 8:] = 0  # the half that comes from the stem
    block.conv_1.set_weights([kernel, bias])
    assert np.abs(before - small_network(inputs)).max() > 1e-3


def test_layers_are_called_after_where_they_are():
    network = UNet(**SMALL | {"num_residual_blocks": 2})
    assert network.level_names == ("8x8", "4x4")
    names = [layer.name for layer in network.layers]
    plain = [x for x in names if "attention" not in x and "skip" not in x]
    assert sorted(plain) == sorted(
        [
            "noisy_images",
            "noise_level",
            "noise_level_embedding",
            "stem",
            "encoder_8x8_block_1",
            "encoder_8x8_block_2",
            "encoder_8x8_downsample",
            "encoder_4x4_block_1",
            "encoder_4x4_block_2",
            "middle_block_1",
            "middle_block_2",
            "decoder_4x4_block_1",
            "decoder_4x4_block_2",
            "decoder_4x4_block_3",
            "decoder_4x4_upsample",
            "decoder_8x8_block_1",
            "decoder_8x8_block_2",
            "decoder_8x8_block_3",
            "output_norm",
            "output_silu",
            "output_conv",
        ]
    )
    summary = []
    network.summary(print_fn=summary.append, line_length=120)
    assert "encoder_4x4_block_2" in "".join(summary)


def test_attention_lies_where_it_was_asked_for():
    network = UNet(
        **SMALL | {"attention_resolutions": (8,), "attention_levels": (1,)}
    )
    assert names_of(network, "attention") == [
        "encoder_8x8_attention_1",
        "encoder_4x4_attention_1",
        "middle_attention",
        "decoder_4x4_attention_1",
        "decoder_4x4_attention_2",
        "decoder_8x8_attention_1",
        "decoder_8x8_attention_2",
    ]


def test_a_size_that_does_not_fit_is_refused_when_called():
    free = UNet(**SMALL | {"image_size": None, "attention_resolutions": ()})
    with pytest.raises(ValueError, match="7x8 pixels. Crop, pad or resize"):
        free(make_inputs(free) | {"noisy_images": np.zeros((2, 7, 8, 1))})


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'ddpm'.*tiny, ddpm_cifar10"):
        UNet.from_preset("ddpm")


def test_config_round_trip_keeps_every_argument():
    parameters = inspect.signature(UNet).parameters
    defaults = {
        name: parameter.default
        for name, parameter in parameters.items()
        if name not in ("dtype", "name", "kwargs")
    }
    assert set(ALL_CHANGED) == set(defaults)
    assert all(ALL_CHANGED[name] != defaults[name] for name in defaults)
    network = UNet(**ALL_CHANGED, dtype="mixed_bfloat16", name="changed")
    copy = UNet.from_config(network.get_config())
    assert copy.get_config() == network.get_config()
    for name, value in ALL_CHANGED.items():
        assert getattr(copy, name) == value
        # JSON, in which a file is written, knows no tuples.
        assert isinstance(getattr(copy, name), type(value))
    assert copy.dtype_policy.name == "mixed_bfloat16"
    assert copy.name == "changed"


# One with most defaults goes through a file in test_layers_conformance.py.
@pytest.mark.parametrize(
    "arguments",
    [pytest.param(SMALL, marks=pytest.mark.slow), ALL_CHANGED],
    ids=["small", "all_changed"],
)
def test_keras_file_round_trip_is_exact(arguments, tmp_path):
    network = randomize(UNet(**arguments))
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    assert loaded.get_config() == network.get_config()
    inputs = make_inputs(network)
    np.testing.assert_array_equal(loaded(inputs), network(inputs))


def test_stopping_the_noise_level_at_bfloat16_is_avoided():
    network = randomize(UNet(**SMALL, dtype="mixed_bfloat16"), scale=0.3)
    inputs = make_inputs(network) | {"noise_level": np.array([998.0, 998.0])}
    other = inputs | {"noise_level": np.array([999.0, 999.0])}
    assert np.abs(np.asarray(network(inputs)) - network(other)).max() > 1e-3
