"""Render annotated pictures as one HTML page that asks nothing of a network or a server."""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.page import render_page


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
    """Render the sections as one HTML document; see `engine.page`.

    A picture in a format that browsers do not draw is shown as missing.
    """
    return render_page(
        "engine.gallery", title=title, sections=sections, summary=_Summary.of(sections)
    )
