"""What the site adds to the pages of docs: the API and the repository's pages.

mkdocs calls the functions `on_...` by their names. The pages of the repository
(README.md files) get a place under `repository/`, and links that leave the
folder of the docs lead there, or are left out where they lead to code.
"""

import ast
import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
PACKAGE = "keras_unet_diffusion"
# Subpackages that users import from, in the order of a tour.
MODULES = {
    "": "Networks and models",
    "data": "Data",
    "diffusion": "Diffusion process",
    "samplers": "Samplers",
    "training": "Training",
    "export": "Export",
    "weights": "Weights of other projects",
    "layers": "Layers",
    "studies": "Studies",
}
# Of the repository, by what the navigation calls them.
PAGES = {
    "README.md": "Read me",
    "train/README.md": "Recipes for training",
    "export/README.md": "Exported files",
    "examples/README.md": "Applications",
    "benchmarks/README.md": "Benchmarks",
    "CONTRIBUTING.md": "Contributing and design",
    "CHANGELOG.md": "Changelog",
}
# What draws the live figures; its licence goes with every copy.
LIBRARY = ("d3.min.js", "d3.LICENSE")
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def public_names(module):
    """The names that a subpackage offers, by its `__all__`.

    Args:
        module: str, "" for the package itself.

    Returns:
        list of str, sorted without regard to case.
    """
    path = ROOT / PACKAGE / module / "__init__.py"
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__":
            return sorted(ast.literal_eval(node.value), key=str.lower)
    raise ValueError(f"{path} has no __all__. List what it offers there.")


def on_config(config):
    """Fills the navigation with the pages that are made here."""
    for entry in config.nav:
        if "Reference" in entry:
            entry["Reference"] = [
                {title: _reference_page(module)}
                for module, title in MODULES.items()
            ]
        if "Project" in entry:
            entry["Project"] = [
                {title: f"repository/{path}"} for path, title in PAGES.items()
            ]
    return config


def on_files(files, config):
    """Adds the reference, the repository's pages and pictures, and D3."""
    for name in LIBRARY:
        content = (ROOT / PACKAGE / "studies" / "page" / name).read_text()
        place = f"javascripts/{name}"
        files.append(File.generated(config, place, content=content))
    for module, title in MODULES.items():
        files.append(
            File.generated(
                config,
                _reference_page(module),
                content=_reference(module, title),
            )
        )
    for path in PAGES:
        text = (ROOT / path).read_text()
        source = f"repository/{path}"
        files.append(File.generated(config, source, content=text))
        for mark, _, target in LINK.findall(text):
            picture = posixpath.normpath(
                posixpath.join(posixpath.dirname(path), target)
            )
            if mark and not picture.startswith("docs/"):
                _add_picture(files, config, picture)
    return files


def on_page_markdown(markdown, page, config, files):
    """Leads links that leave the docs to where their target is on the site."""
    here = _place_in_repository(page.file.src_uri)
    if here is None:
        return markdown

    def lead(match):
        mark, text, target = match.groups()
        path, hash_, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target) or not path:
            return match[0]
        folder = posixpath.dirname(here)
        place = _place_on_site(posixpath.normpath(f"{folder or '.'}/{path}"))
        if place is None or files.get_file_from_path(place) is None:
            return text
        start = posixpath.dirname(page.file.src_uri) or "."
        place = posixpath.relpath(place, start)
        return f"{mark}[{text}]({place}{hash_}{anchor})"

    return LINK.sub(lead, markdown)


def _place_in_repository(source):
    """Path in the repository of a page of the site, None if made here."""
    if source.startswith("reference/"):
        return None
    if source.startswith("repository/"):
        return source.removeprefix("repository/")
    return f"docs/{source}"


def _place_on_site(path):
    """Path on the site of a file of the repository."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if (ROOT / path).is_dir():
        path = f"{path}/README.md"
    return f"repository/{path}"


def _add_picture(files, config, path):
    source = f"repository/{path}"
    if files.get_file_from_path(source) is None and (ROOT / path).is_file():
        content = (ROOT / path).read_bytes()
        files.append(File.generated(config, source, content=content))


def _reference_page(module):
    return f"reference/{module or 'index'}.md"


def _reference(module, title):
    dotted = f"{PACKAGE}.{module}" if module else PACKAGE
    entries = [f"::: {dotted}.{name}" for name in public_names(module)]
    return "\n\n".join([f"# {title}", f"`import {dotted}`", *entries])
