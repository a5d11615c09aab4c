"""Checkpoints of EDM: DDPM++, NCSN++ and ADM as Karras et al. trained them."""

import numpy as np

from keras_unet_diffusion.weights.limits import (
    COMMON_LIMITS,
    check_limits,
    width_problems,
)
from keras_unet_diffusion.weights.named_shapes import (
    check_heads,
    multiplier,
    unless,
)
from keras_unet_diffusion.weights.network_parts import level_channels
from keras_unet_diffusion.weights.tensor_map import (
    DENSE,
    ConstantEntry,
    TensorEntry,
)
from keras_unet_diffusion.weights.unet_layout import UNetLayout

HALF_ROOT = 0.5**0.5
LIMITS = COMMON_LIMITS | {
    "num_groups": (32,),
    "min_group_channels": (4,),
    "downsampling": ("residual_block",),
    "upsampling": ("residual_block",),
    "encoder_pyramid": ("none", "residual"),
    "middle_attention": (True,),
    "middle_attention_norm": (True,),
    "super_resolution_factor": (None,),
    "null_label": (None, "zero"),
}
# What EDM's ADM takes for heads, unless it was changed there.
HEAD_CHANNELS = 64
# What `UNet` must be told for "SongUNet": DDPM++ and NCSN++.
SONG = {
    "num_heads": 1,
    "num_head_channels": None,
    "scale_shift": False,
    "epsilon": 1e-6,
    "residual_scale": HALF_ROOT,
    "resampling_shortcut": "conv",
    "decoder_attention": "last",
    "embedding_order": "sin_cos",
    "label_embedding": "one_hot",
}
SONG_WAVES = {"noise_level_embedding": "sinusoidal", "frequency_shift": 1}
# And for "DhariwalUNet": ADM.
DHARIWAL = {
    "scale_shift": True,
    "epsilon": 1e-5,
    "residual_scale": 1.0,
    "resampling_shortcut": "identity",
    "decoder_attention": "all",
    "label_embedding": "table",
    "noise_level_embedding": "sinusoidal",
    "embedding_order": "cos_sin",
    "frequency_shift": 0,
}


class EDMLayout(UNetLayout):
    """EDM's networks; blocks are named by the resolution that they work at.

    Attention belongs to its block. A block that resamples is named by the
    resolution at which it arrives, and keeps its filter as a constant. The
    names tell DDPM++ and NCSN++ from ADM, and the size of the images.

    Reference:
        Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based
        Generative Models", appendix F.
    """

    name = "edm"
    landmarks = ("map_layer0.weight", "map_layer1.weight")
    usual_prefix = "model."
    block_names = {
        "norm_1": "norm0",
        "conv_1": "conv0",
        "injection": "affine",
        "norm_2": "norm1",
        "conv_2": "conv1",
        "shortcut": "skip",
    }
    attention_names = {"norm": "norm2", "qkv": "qkv", "output": "proj"}
    qkv_dimensions = 4

    def checked_qkv_order(self, network, qkv_order):
        return "interleaved"

    def place(self, part, network):
        size = network.image_size >> (part.level or 0)
        if part.role in ("encoder", "decoder"):
            side = part.role[:3]
            return f"{side}.{size}x{size}_block{part.number - 1}"
        if part.role == "middle":
            lowest = network.image_size >> len(network.channel_multipliers) - 1
            return f"dec.{lowest}x{lowest}_in{(part.number or 1) - 1}"
        if part.role == "downsample":
            return f"enc.{size // 2}x{size // 2}_down"
        if part.role == "upsample":
            return f"dec.{size * 2}x{size * 2}_up"
        song = _is_song(network)
        return {
            "noise_dense_1": "map_layer0",
            "noise_dense_2": "map_layer1",
            "noise_frequencies": "map_noise.freqs",
            "label": "map_label",
            "augmentation": "map_augment",
            "stem": f"enc.{size}x{size}_conv",
            "encoder_pyramid": f"enc.{size}x{size}_aux_residual",
            "output_norm": f"dec.{size}x{size}_aux_norm"
            if song
            else "out_norm",
            "output_conv": f"dec.{size}x{size}_aux_conv"
            if song
            else "out_conv",
        }[part.role]

    def part_entries(self, part, name, network, qkv_order):
        entries = super().part_entries(part, name, network, qkv_order)
        if part.role in ("downsample", "upsample"):
            filtered = (f"{name}.conv0", f"{name}.skip")
        elif part.role == "encoder_pyramid":
            filtered = (name,)
        else:
            filtered = ()
        constant = _filter(network.resampling_kernel)
        return entries + [
            ConstantEntry(f"{x}.resample_filter", constant) for x in filtered
        ]

    def label_entries(self, name, label):
        # A matrix by which one-hot rows are multiplied, hence transposed.
        entries = [TensorEntry(f"{name}.weight", label.table, DENSE)]
        if label.bias is not None:
            entries.append(TensorEntry(f"{name}.bias", label.bias))
        return entries

    def check(self, network):
        base = network.base_channels
        if _is_song(network):
            kind = dict(SONG)
            if network.noise_level_embedding == "sinusoidal":
                kind |= SONG_WAVES
            problems = width_problems(network, None, 4 * base, base)
        else:
            kind = dict(DHARIWAL)
            first = level_channels(network)[0]
            problems = width_problems(network, base, 4 * base, first)
            if network.num_head_channels is None:
                problems.append("num_head_channels=None (must be a number)")
        limits = LIMITS | {x: (value,) for x, value in kind.items()}
        if network.image_size is None:
            problems.append("image_size=None (must be a number of pixels)")
        check_limits(network, self.name, limits, problems)

    def arguments(self, checkpoint, qkv_order=None, **given):
        shapes = self.named_shapes(checkpoint)
        if "out_norm.weight" in shapes:
            kind = DHARIWAL | {"initialization": "adm"}
            head_channels = given.get("num_head_channels", HEAD_CHANNELS)
            kind["num_head_channels"] = head_channels
            check_heads(head_channels, _attention_channels(shapes))
        else:
            kind = _song_arguments(shapes)
        found = _levels(shapes) | kind
        prefix = self.prefix(checkpoint.shapes) or ""
        found["resampling_kernel"] = _resampling_kernel(
            checkpoint, shapes, prefix
        )
        if "map_label.weight" in shapes:
            found["num_classes"] = shapes.of("map_label.weight", 2)[1]
        if "map_augment.weight" in shapes:
            _, length = shapes.of("map_augment.weight", 2)
            found["augmentation_channels"] = length
        return found | given


def _is_song(network):
    return not network.scale_shift


def _filter(kernel):
    """The two-dimensional filter as the checkpoints keep it."""
    kernel = np.asarray(kernel, "float32")
    return (np.outer(kernel, kernel) / kernel.sum() ** 2)[None, None]


def _song_arguments(shapes):
    """What the names say of DDPM++ and NCSN++."""
    unknown = [
        match.string
        for match in shapes.matching(r".*_aux_(?!residual|norm|conv).*")
    ]
    if unknown:
        raise ValueError(
            "Of the image pyramids only the encoder's residual one is read "
            f"from EDM's checkpoints. Received: {unknown[0]} and "
            f"{len(unknown) - 1} more tensors of other pyramids. Use a "
            "checkpoint of DDPM++ or NCSN++ as EDM published them."
        )
    is_fourier = "map_noise.freqs" in shapes
    pyramids = shapes.matching(r".*_aux_residual\.weight")
    waves = {"noise_level_embedding": "fourier"} if is_fourier else SONG_WAVES
    return (
        SONG
        | waves
        | {
            "encoder_pyramid": "residual" if pyramids else "none",
            "initialization": "edm",
        }
    )


def _levels(shapes):
    """What the names of the blocks say: sizes, levels, blocks, attention."""
    sizes = shapes.numbers(r"enc\.(\d+)x\d+_block0\.norm0\.weight")[::-1]
    image_size = sizes[0] if sizes else 0
    top = f"enc.{image_size}x{image_size}"
    stem_channels, image_channels, _, _ = shapes.of(f"{top}_conv.weight", 4)
    is_song = "out_norm.weight" not in shapes
    embedding_channels, noise_channels = shapes.of("map_layer0.weight", 2)
    base = stem_channels if is_song else noise_channels
    channels = [
        shapes.of(f"enc.{x}x{x}_block0.conv1.weight", 4)[0] for x in sizes
    ]
    output = (
        f"dec.{image_size}x{image_size}_aux_conv" if is_song else "out_conv"
    )
    output_channels = shapes.of(f"{output}.weight", 4)[0]
    blocks = shapes.numbers(top + r"_block(\d+)\.norm0\.weight")
    return {
        "image_size": image_size,
        "image_channels": image_channels,
        "output_channels": unless(output_channels, image_channels),
        "base_channels": base,
        "stem_channels": unless(stem_channels, channels[0]),
        "channel_multipliers": tuple(multiplier(x, base) for x in channels),
        "num_residual_blocks": len(blocks),
        "attention_resolutions": tuple(
            x for x in sizes if f"enc.{x}x{x}_block0.qkv.weight" in shapes
        ),
        "noise_channels": unless(noise_channels, base),
        "embedding_channels": unless(embedding_channels, 4 * base),
        "min_group_channels": 4,
        "downsampling": "residual_block",
        "upsampling": "residual_block",
    }


def _attention_channels(shapes):
    """Channels wherever there is attention, a set of int."""
    projections = shapes.matching(r".*\.qkv\.weight")
    return {shapes.of(match.string, 4)[1] for match in projections}


def _resampling_kernel(checkpoint, shapes, prefix):
    """The kernel that a constant of the file is the outer product of."""
    names = shapes.matching(r".*\.resample_filter")
    if not names:
        return (1, 1)
    name = prefix + names[0].string
    shape = tuple(checkpoint.shapes[name])
    if shape != (1, 1, *2 * shape[-1:]):
        raise ValueError(
            "A resampling filter is a square. Received: "
            f"{name} of the shape {shape}. Use an undamaged file."
        )
    kernel = checkpoint.read(name)[0, 0].sum(axis=0)
    if not (np.isfinite(kernel).all() and kernel[0] > 0):
        raise ValueError(
            "A resampling filter starts with a positive number. Received: "
            f"{name} with the sums {kernel}. Use an undamaged file."
        )
    return tuple(np.rint(kernel / kernel[0]).astype(int).tolist())
