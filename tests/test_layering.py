"""The arrows of the architecture: who may import whom."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "keras_unet_diffusion"
# The parts of the library that each part may import besides itself.
ALLOWED = {
    # Which replica it is on, and which backend, for dropout: see
    # CONTRIBUTING.md.
    "layers": {"backends", "replicas"},
    "presets": set(),
    "diffusion": set(),
    "files": set(),
    "noise": {"backends"},
    "replicas": {"backends"},
    "layer_shapes": set(),
    "flops": {"layer_shapes", "layers"},
    "samplers": {"diffusion"},
    "published": set(),
    "functional_network": set(),
    "unet_arguments": set(),
    "unet_parts": {"layers"},
    "unet_graph": {"layers", "unet_parts"},
    # A network can be asked for with published weights: see CONTRIBUTING.md.
    "weights": {"files"},
    "published_network": {"functional_network", "published", "weights"},
    "unet": {
        "presets",
        "published_network",
        "unet_arguments",
        "unet_graph",
        "unet_parts",
    },
    "magnitude_preserving_presets": set(),
    "magnitude_preserving_graph": {"layers", "unet_parts"},
    "magnitude_preserving_unet": {
        "functional_network",
        "magnitude_preserving_graph",
        "magnitude_preserving_presets",
        "unet_arguments",
        "weights",
    },
    "plain_cnn": {"functional_network", "layers", "unet_arguments"},
    "data": {"files"},
    "backends": set(),
    "network_calls": {"backends", "samplers"},
    "guidance": {"backends", "network_calls", "samplers"},
    "generation_request": {
        "backends",
        "guidance",
        "network_calls",
        "paths",
        "samplers",
    },
    "paths": {"backends", "diffusion", "samplers"},
    "progress": set(),
    "sampling_loop": {"network_calls", "noise", "samplers"},
    "generation": {
        "backends",
        "generation_request",
        "network_calls",
        "noise",
        "paths",
        "progress",
        "samplers",
        "sampling_loop",
    },
    "given_images": {"network_calls", "sampling_loop"},
    "editing": {"given_images", "paths"},
    "inversion": {"given_images", "samplers", "sampling_loop"},
    "generation_methods": {"editing", "generation", "inversion", "likelihood"},
    "likelihood": {"backends", "diffusion", "network_calls", "noise"},
    "objective": {"diffusion", "network_calls", "training"},
    "batches": {"backends", "network_calls"},
    "training": {"files", "data", "diffusion", "layers", "noise", "replicas"},
    "training_steps": {"backends", "batches", "replicas", "training"},
    "model": {
        "diffusion",
        "generation_methods",
        "network_calls",
        "objective",
        "replicas",
        "training",
        "training_steps",
    },
    "cascade": {"model", "network_calls"},
    "export": {
        "backends",
        "files",
        "generation",
        "generation_request",
        "guidance",
        "model",
        "network_calls",
        "noise",
        "samplers",
        "sampling_loop",
    },
}
ALLOWED["studies"] = {PACKAGE, *ALLOWED}
ALLOWED["cli"] = {PACKAGE, *ALLOWED}
ALLOWED[PACKAGE] = set(ALLOWED) - {"cli"}
COMMAND_FOLDERS = ("train", "export")
ANY_BACKEND = (
    "flops",
    "layer_shapes",
    "objective",
    "layers",
    "unet_graph",
    "published_network",
    "unet",
    "magnitude_preserving_graph",
    "magnitude_preserving_unet",
    "plain_cnn",
    "diffusion",
    "samplers",
    "network_calls",
    "guidance",
    "generation_request",
    "sampling_loop",
    "generation",
    "given_images",
    "editing",
    "inversion",
    "generation_methods",
    "likelihood",
    "progress",
    "training.augmentation",
    "training.importance",
    "training.uncertainty",
)


def imported_modules(source, module):
    """Dotted names that a module's source imports, wherever in it.

    Of `from a import b` both `a.b` and `a` count as names, since b may be a
    module; `module` is the dotted name that relative imports start from.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module
            if node.level:
                parts = module.split(".")[: -node.level]
                base = ".".join([*parts, *filter(None, [node.module])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def part_of(name, parts):
    """Part of the library that a dotted name lies in, None if in none."""
    top, *rest = name.split(".")
    if top != PACKAGE:
        return None
    return rest[0] if rest and rest[0] in parts else PACKAGE


def forbidden_imports(source, module, parts):
    """Names that a module of the library must not import, sorted."""
    part = part_of(module, parts)
    return sorted(
        name
        for name in imported_modules(source, module)
        if part_of(name, parts) not in (None, part, *ALLOWED[part])
    )


def library_modules():
    """Dotted name (`__init__` included) and path of every module."""
    paths = sorted((ROOT / PACKAGE).rglob("*.py"))
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in paths
    }


MODULES = library_modules()
PARTS = {name.split(".")[1] for name in MODULES} - {"__init__"}


def test_the_table_names_every_part_of_the_library_and_no_other():
    assert set(ALLOWED) == PARTS | {PACKAGE}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_part_may(module):
    source = MODULES[module].read_text()
    assert forbidden_imports(source, module, PARTS) == []


def runs_on_any_backend(module):
    names = part_of(module, PARTS), module.removeprefix(f"{PACKAGE}.")
    return any(name in ANY_BACKEND for name in names)


@pytest.mark.parametrize("module", filter(runs_on_any_backend, MODULES))
def test_what_runs_on_every_backend_never_imports_tensorflow(module):
    names = imported_modules(MODULES[module].read_text(), module)
    assert not {n for n in names if n.split(".")[0] == "tensorflow"}


@pytest.mark.parametrize("module", MODULES)
def test_jax_which_few_have_is_imported_inside_functions_alone(module):
    tree = ast.parse(MODULES[module].read_text())
    of_module = [
        x for x in tree.body if isinstance(x, ast.Import | ast.ImportFrom)
    ]
    names = imported_modules(ast.unparse(of_module), module)
    assert not {n for n in names if n.split(".")[0] == "jax"}


@pytest.mark.parametrize(
    "path",
    [p for d in COMMAND_FOLDERS for p in sorted((ROOT / d).rglob("*.py"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_the_command_folders_import_the_commands_alone(path):
    names = imported_modules(path.read_text(), path.stem)
    parts = {part_of(name, PARTS) for name in names}
    assert parts <= {None, "cli"}


@pytest.mark.parametrize(
    "module", [m for m in MODULES if m.startswith(f"{PACKAGE}.export.runners")]
)
def test_an_export_runner_never_imports_the_library(module):
    names = imported_modules(MODULES[module].read_text(), module)
    assert {part_of(name, PARTS) for name in names} == {None}


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        (
            "layers.made_up",
            "from keras_unet_diffusion.diffusion import DiffusionProcess",
            "diffusion.DiffusionProcess",
        ),
        ("model", "from keras_unet_diffusion.unet import UNet", "unet.UNet"),
        ("model", "import keras_unet_diffusion.unet as net", "unet"),
        ("model", "from keras_unet_diffusion import unet", "unet"),
        ("model", "from keras_unet_diffusion import UNet", "UNet"),
        ("model", "from . import unet", "unet"),
        ("data.made_up", "from .. import training", "training"),
        ("data.made_up", "from ..training import load_model", "training."),
        (
            "samplers.ddim",
            "def step():\n    import keras_unet_diffusion.model\n",
            "model",
        ),
        (
            "__init__",
            "from keras_unet_diffusion.cli.train import main",
            "cli.train.main",
        ),
        ("presets", "import keras_unet_diffusion", ""),
    ],
)
def test_the_checker_catches_a_forbidden_import(module, source, found):
    names = forbidden_imports(source, f"{PACKAGE}.{module}", PARTS)
    assert len(names) == 1
    assert names[0].startswith(f"{PACKAGE}.{found}".rstrip("."))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("unet_graph", "from keras_unet_diffusion.layers import Downsample"),
        ("unet", "from .presets import PRESETS"),
        ("data.dataset", "from .pixels import to_model_range"),
        ("data.__init__", "from . import pixels"),
        ("layers.attention", "import keras\nfrom tensorflow import nn"),
        ("cli.train", "from keras_unet_diffusion import UNet"),
        ("__init__", "from keras_unet_diffusion.unet import UNet"),
    ],
)
def test_the_checker_lets_an_allowed_import_pass(module, source):
    assert forbidden_imports(source, f"{PACKAGE}.{module}", PARTS) == []
