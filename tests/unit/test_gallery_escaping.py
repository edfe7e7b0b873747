"""The gallery as text: no string that it is given changes the page's shape."""

from html.parser import HTMLParser

from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.gallery import (
    GalleryItem,
    GalleryNeighbour,
    GallerySection,
    GalleryTag,
    render_gallery,
)


class Shape(HTMLParser):
    """Collects the tags of a page and its text outside of style and script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.starts: list[str] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.starts.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page_of(text: str) -> str:
    near = GalleryNeighbour(text, 0.5, None)
    tagged = GalleryItem(text, None, (GalleryTag(text, 0.5),), (text,), (near,), None, None)
    broken = GalleryItem(text, None, (), None, (), text, text)
    return render_gallery(text, (GallerySection(text, text, text, (tagged, broken)),))


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
@example("<script>window.hacked=1</script>")
@example('"><img src=x onerror="window.hacked=1">')
@example("{{ 7 * 7 }}</script></style></title>")
@example("a & b &amp; c")
def test_no_string_changes_the_shape_of_the_page(text: str) -> None:
    shape = Shape(page_of(text))
    assert shape.starts == Shape(page_of("plain")).starts
    assert text in shape.text


def test_page_names_no_other_file_or_server() -> None:
    page = page_of("plain")
    assert "default-src &#39;none&#39;; img-src data:;" in page
    assert "unsafe" not in page
    for harmless in ("http://www.w3.org/2000/svg", "http-equiv"):
        page = page.replace(harmless, "")
    assert "http" not in page
