"""What was published about the presets: size, recipe, quality, source.

Figures are those of the authors, not of this library. FID: Frechet inception
distance, lower is better; NFE: network calls per image.
"""

from typing import NamedTuple


class Published(NamedTuple):
    """What was published about one network.

    Args:
        parameters: int, trained numbers, counted on the original network.
        source: str, paper and table or section.
        recipe: str, how it was trained.
        quality: str, published quality.
        qkv_order: str or None. Row order of queries, keys and values in the
            published checkpoints, where the file itself does not tell.
        schedule: str or None. "linear" or "cosine", of a noise prediction
            over 1,000 steps, where that is how it was trained.
    """

    parameters: int
    source: str
    recipe: str
    quality: str
    qkv_order: str | None = None
    schedule: str | None = None


_DDPM = "Ho et al. 2020, appendix B"
_IDDPM = "Nichol and Dhariwal 2021"
_ADM = "Dhariwal and Nichol 2021"
_EDM = "Karras et al. 2022, table 7"
_DDPM_RECIPE = (
    "linear, T 1000, noise; Adam 2e-4 after 5k steps, clip 1, batch 128, 800k "
    "steps, average 0.9999, flips"
)
_DDPM_256_RECIPE = "as ddpm_cifar10 with Adam 2e-5, batch 64"
_DDPM_256_QUALITY = "FID bedroom 6.36, church 7.89, cat 19.75 (NFE 1000)"
_IDDPM_RECIPE = "cosine, T 4000, hybrid loss; Adam 1e-4, batch 128"
_ADM_RECIPE = "linear, T 1000, hybrid loss; Adam 1e-4, batch 256"
_EDM_RECIPE = (
    "EDM preconditioning; Adam 1e-3 after 10M images, batch 512, 200M images, "
    "half-life 0.5M images, augmentation 0.12"
)
_EDM_64_RECIPE = (
    "EDM preconditioning; Adam 2e-4, batch 256, 200M images, augmentation 0.15"
)
_EDM2 = "Karras et al. 2024"
_EDM2_RECIPE = (
    "ImageNet-512 in latents; EDM preconditioning, learned uncertainty; Adam"
    "{}, decaying after 70k steps, batch 2048, power-function averages"
)
_UNRECORDED = "not recorded here"

PUBLISHED = {
    "ddpm_cifar10": Published(
        35_746_307,
        _DDPM,
        _DDPM_RECIPE,
        "FID 3.17, IS 9.46 (NFE 1000)",
        schedule="linear",
    ),
    "ddpm_256": Published(
        113_673_219,
        _DDPM,
        _DDPM_256_RECIPE,
        _DDPM_256_QUALITY,
        schedule="linear",
    ),
    "iddpm_cifar10": Published(
        52_546_438,
        _IDDPM,
        f"{_IDDPM_RECIPE}, 500k steps, average 0.9999, flips",
        "FID 3.19",
        "legacy",
        schedule="cosine",
    ),
    "iddpm_imagenet64": Published(
        121_063_942,
        _IDDPM,
        f"{_IDDPM_RECIPE}, 1.5M steps, average 0.9999",
        "FID 19.2",
        "legacy",
        schedule="cosine",
    ),
    "iddpm_imagenet64_conditional": Published(
        273_049_350,
        _IDDPM,
        "cosine, T 4000, hybrid loss; Adam 3e-4, batch 2048, 250k steps, "
        "average 0.9999",
        "FID 2.92 (NFE 250)",
        "legacy",
        schedule="cosine",
    ),
    "iddpm_lsun_bedroom256": Published(
        113_676_678, _IDDPM, "hybrid loss", _UNRECORDED, "legacy"
    ),
    "iddpm_upsampler_64_256": Published(
        279_792_390, _IDDPM, "hybrid loss", _UNRECORDED, "legacy"
    ),
    "adm_imagenet64": Published(
        295_904_454,
        _ADM,
        "cosine, T 1000, hybrid loss; Adam 3e-4, batch 2048, average 0.9999",
        "FID 2.07 (NFE 250)",
        "new",
        schedule="cosine",
    ),
    "adm_imagenet128": Published(
        421_529_606,
        _ADM,
        f"{_ADM_RECIPE}, average 0.9999",
        "FID 5.91, guided 2.97",
        "legacy",
        schedule="linear",
    ),
    "adm_imagenet256": Published(
        553_838_086,
        _ADM,
        f"{_ADM_RECIPE}, average 0.9999",
        "FID 10.94, guided 4.59, with upsampler 3.94",
        "legacy",
        schedule="linear",
    ),
    "adm_imagenet256_unconditional": Published(
        552_814_086,
        _ADM,
        _ADM_RECIPE,
        _UNRECORDED,
        "legacy",
        schedule="linear",
    ),
    "adm_lsun256": Published(
        552_814_086,
        _ADM,
        f"{_ADM_RECIPE}, dropout 0.1, average 0.9999",
        "FID bedroom 1.90, cat 5.57, horse 2.57",
        "legacy",
        schedule="linear",
    ),
    "adm_imagenet512": Published(
        558_997_638,
        _ADM,
        f"{_ADM_RECIPE}, average 0.9999",
        "FID 23.24, guided 7.72, with upsampler 3.85",
        "legacy",
        schedule="linear",
    ),
    "adm_upsampler_64_256": Published(
        311_795_910,
        _ADM,
        "linear, T 1000, hybrid loss, average 0.9999",
        "FID 7.49 after an unguided base",
        "legacy",
        schedule="linear",
    ),
    "adm_upsampler_128_512": Published(
        308_835_270,
        _ADM,
        "linear, T 1000, hybrid loss",
        _UNRECORDED,
        "legacy",
        schedule="linear",
    ),
    "edm_cifar10_ddpmpp": Published(
        55_733_891, _EDM, _EDM_RECIPE, "FID 1.97 (NFE 35)"
    ),
    "edm_cifar10_ddpmpp_conditional": Published(
        55_735_299, _EDM, _EDM_RECIPE, "FID 1.79 (NFE 35)"
    ),
    "edm_cifar10_ncsnpp": Published(56_397_827, _EDM, _EDM_RECIPE, _UNRECORDED),
    "edm_cifar10_ncsnpp_conditional": Published(
        56_400_643, _EDM, _EDM_RECIPE, _UNRECORDED
    ),
    "edm_ffhq64_ddpmpp": Published(
        61_805_571, _EDM, _EDM_64_RECIPE, _UNRECORDED
    ),
    "edm_ffhq64_ncsnpp": Published(
        62_761_091, _EDM, _EDM_64_RECIPE, _UNRECORDED
    ),
    "edm_afhqv2_64_ddpmpp": Published(
        61_805_571, _EDM, _EDM_64_RECIPE, _UNRECORDED
    ),
    "edm_afhqv2_64_ncsnpp": Published(
        62_761_091, _EDM, _EDM_64_RECIPE, _UNRECORDED
    ),
    "edm_imagenet64_adm": Published(
        295_899_267,
        _EDM,
        "EDM preconditioning; Adam 1e-4, batch 4096, 2500M images, half-life "
        "50M images",
        "FID 1.36 (NFE 511)",
    ),
    "edm2_xxs": Published(
        31_308_901, _EDM2, _EDM2_RECIPE.format(""), _UNRECORDED
    ),
    "edm2_xs": Published(
        124_713_125,
        _EDM2,
        _EDM2_RECIPE.format(" 0.012"),
        "FID 3.53, guided 2.91",
    ),
    "edm2_s": Published(
        280_212_709,
        _EDM2,
        _EDM2_RECIPE.format(""),
        "FID 2.56, guided 2.23, with autoguidance 1.34",
    ),
    "edm2_m": Published(
        497_807_653,
        _EDM2,
        _EDM2_RECIPE.format(""),
        "FID 2.25, guided 2.01",
    ),
    "edm2_l": Published(
        777_497_957,
        _EDM2,
        _EDM2_RECIPE.format(""),
        "FID 2.06, guided 1.88",
    ),
    "edm2_xl": Published(
        1_119_283_621,
        _EDM2,
        _EDM2_RECIPE.format(""),
        "FID 1.96, guided 1.85",
    ),
    "edm2_xxl": Published(
        1_523_164_645,
        _EDM2,
        _EDM2_RECIPE.format(" 0.0065"),
        "FID 1.91, guided 1.81, with autoguidance 1.25",
    ),
    "diffusers_ddpm_cifar10": Published(
        35_746_307,
        "google/ddpm-cifar10-32",
        "the weights of ddpm_cifar10",
        "see ddpm_cifar10",
        schedule="linear",
    ),
    "diffusers_ddpm_256": Published(
        113_673_219,
        "google/ddpm-{bedroom,cat,celebahq,church}-256",
        "the weights of ddpm_256",
        "see ddpm_256",
        schedule="linear",
    ),
    "diffusers_unet2d": Published(
        274_056_163, "UNet2DModel() of diffusers 0.42.1", "none", _UNRECORDED
    ),
    "diffusers_train_example": Published(
        113_673_219,
        "train_unconditional.py of diffusers 0.42.1",
        "linear, T 1000, noise",
        _UNRECORDED,
        schedule="linear",
    ),
    "consistency_imagenet64": Published(
        295_899_267,
        "Song et al. 2023, in diffusers' layout",
        "consistency distillation or training",
        _UNRECORDED,
    ),
}


def published_table():
    """The facts of all published presets as a Markdown table, a str."""
    lines = [
        "| preset | parameters | recipe | published quality | source |",
        "|---|---|---|---|---|",
    ]
    for name, facts in PUBLISHED.items():
        lines.append(
            f"| `{name}` | {facts.parameters:,} | {facts.recipe} | "
            f"{facts.quality} | {facts.source} |"
        )
    return "\n".join(lines) + "\n"
