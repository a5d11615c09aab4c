"""One page that explains a network: everything inside, nothing fetched."""

import base64
import hashlib
import html
import json
import string
from pathlib import Path

from keras_unet_diffusion.files import written_whole
from keras_unet_diffusion.studies.page_data import page_data

_FOLDER = Path(__file__).parent / "page"
_LIBRARY = "d3.min.js"
_LICENCE = "d3.LICENSE"
# In the order in which the page runs them.
_SCRIPTS = ("pictures.js", "drawing.js", "details.js", "page.js")


def write_page(path, network, process, subject, about, options=None):
    """Writes the page of a network.

    One HTML file of less than 5 MB, with the drawing library, pictures and
    data inside. It fetches nothing, and its policy lets it fetch nothing.

    Args:
        path: of the `.html` file; replaced if it exists.
        network: and the others, see `page_data`.

    Raises:
        ValueError: see `page_data`.

    Example:

    ```python
    write_page(
        "page.html",
        model.ema_network,
        model.process,
        Subject(image, label=3),
        {"title": "My network", "is_trained": True},
    )
    ```
    """
    text = render(page_data(network, process, subject, about, options))
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def render(data):
    """Puts the parts of the page together.

    Args:
        data: what `page_data` returns.

    Returns:
        str, the page.
    """
    scripts = [_read(name) for name in (_LIBRARY, *_SCRIPTS)]
    style = _read("page.css")
    template = string.Template(_read("page.html"))
    return template.substitute(
        policy=_policy(scripts, style),
        title=html.escape(data["about"]["title"]),
        style=f"<style>{style}</style>",
        # Its licence is to go with every copy.
        licence=f"<!--\n{_LIBRARY}:\n{_read(_LICENCE)}-->",
        data=_json(data),
        scripts="\n".join(f"<script>{text}</script>" for text in scripts),
    )


def _read(name):
    return (_FOLDER / name).read_text(encoding="utf-8")


def _json(data):
    """JSON that cannot end the element that it is in."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c")


def _policy(scripts, style):
    """A content security policy: what is inside the page, and no more."""
    allowed = " ".join(map(_hash, scripts))
    return (
        f"default-src 'none'; img-src data:; script-src {allowed}; "
        f"style-src {_hash(style)}; base-uri 'none'; form-action 'none'"
    )


def _hash(text):
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
