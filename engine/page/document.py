"""Render a page that asks nothing of a network: style, script and pictures lie in it."""

import base64
import hashlib
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

_SIGNATURES = (
    (b"\xff\xd8\xff", 0, "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", 0, "image/png"),
    (b"GIF8", 0, "image/gif"),
    (b"BM", 0, "image/bmp"),
    (b"WEBP", 8, "image/webp"),
)
"""First bytes, their offset and the media type of what every browser draws; TIFF is not there."""


def render_page(package: str, **context: object) -> str:
    """Render `page.html.j2` of a package as one HTML document, to be written as UTF-8.

    The template gets `style` and `script`, the package's page.css and page.js behind those that
    all pages share, the `policy` that admits these by their hashes, pictures from data URIs and
    nothing else, and the filters `data_uri` and `percent`. Every other string is escaped, so that
    none can reach a network.
    """
    style = _text("engine.page", "base.css") + _text(package, "page.css")
    script = _text("engine.page", "theme.js") + _text(package, "page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_source(style)}; "
        f"script-src {_source(script)}; base-uri 'none'; form-action 'none'"
    )
    return _template(package).render(
        policy=policy, style=Markup(style), script=Markup(script), **context
    )


def _percent(share: float) -> str:
    """Write a share in per cent; small ones keep a decimal, for they would all read as 0."""
    return f"{share:.0%}" if share >= 0.0995 else f"{share:.1%}"


@cache
def _template(package: str) -> Template:
    """Compile a page's template once in a process."""
    environment = Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = _data_uri
    environment.filters["percent"] = _percent
    return environment.get_template("page.html.j2")


def _text(package: str, name: str) -> str:
    return (resources.files(package) / name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    """Name an inline script or style by its hash, as a content security policy wants it."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _data_uri(picture: bytes | None) -> str | None:
    """Return an encoded picture as a data URI; None where a browser could not draw it."""
    for signature, offset, media_type in _SIGNATURES:
        if picture is not None and picture.startswith(signature, offset):
            return f"data:{media_type};base64,{base64.b64encode(picture).decode()}"
    return None
