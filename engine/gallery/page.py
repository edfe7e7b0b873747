"""Render annotated pictures as one HTML page that asks nothing of a network or a server."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class GalleryTag:
    """A tag given to a picture; `score` in [0, 1] is shown in per cent."""

    tag: str
    score: float


@dataclass(frozen=True)
class GalleryNeighbour:
    """A training picture whose tags were transferred; `thumbnail` is a small JPEG, if any."""

    image_id: str
    distance: float
    thumbnail: bytes | None


@dataclass(frozen=True)
class GalleryItem:
    """One picture: `tags` best first, `truth` None where unknown, `error` None where tagged.

    `picture` holds the bytes of an encoded image and goes into the page as it is, so callers
    send a small one.
    """

    image_id: str
    picture: bytes | None
    tags: tuple[GalleryTag, ...]
    truth: tuple[str, ...] | None
    neighbours: tuple[GalleryNeighbour, ...]
    error: str | None
    reason: str | None

    @property
    def right(self) -> int:
        """How many of the tags are in the truth; 0 where the truth is unknown."""
        return sum(tag.tag in self.truth for tag in self.tags) if self.truth else 0


@dataclass(frozen=True)
class GallerySection:
    """Pictures annotated by one bundle, under a title and a note in words."""

    title: str
    note: str
    bundle_id: str
    items: tuple[GalleryItem, ...]

    @property
    def failed(self) -> int:
        """How many of the pictures carry an error."""
        return sum(item.error is not None for item in self.items)


@dataclass(frozen=True)
class _Summary:
    """The page's counts; `judged` are tags, and `true` truths, of pictures whose truth is known."""

    pictures: int
    failed: int
    judged: int
    right: int
    true: int

    @classmethod
    def of(cls, sections: Sequence[GallerySection]) -> "_Summary":
        items = [item for section in sections for item in section.items]
        known = [item for item in items if item.truth is not None and item.error is None]
        return cls(
            pictures=len(items),
            failed=sum(section.failed for section in sections),
            judged=sum(len(item.tags) for item in known),
            right=sum(item.right for item in known),
            true=sum(len(item.truth or ()) for item in known),
        )


def render_gallery(title: str, sections: Sequence[GallerySection]) -> str:
    """Render the sections as one HTML document, to be written as UTF-8.

    Every string is escaped. The page's policy admits its own script and style by their hashes
    and pictures from data URIs, and nothing else, so that no string in it can reach a network.
    A picture in a format that browsers do not draw is shown as missing.
    """
    here = resources.files("engine.gallery")
    style = (here / "page.css").read_text(encoding="utf-8")
    script = (here / "page.js").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_source(style)}; "
        f"script-src {_source(script)}; base-uri 'none'; form-action 'none'"
    )
    return _template().render(
        title=title,
        sections=sections,
        summary=_Summary.of(sections),
        policy=policy,
        style=Markup(style),
        script=Markup(script),
    )


@cache
def _template() -> Template:
    """Compile the page's template once in a process."""
    environment = Environment(
        loader=PackageLoader("engine.gallery", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = _data_uri
    environment.filters["percent"] = _percent
    return environment.get_template("page.html.j2")


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


def _percent(share: float) -> str:
    """Write a share in per cent; small ones keep a decimal, for they would all read as 0."""
    return f"{share:.0%}" if share >= 0.0995 else f"{share:.1%}"
