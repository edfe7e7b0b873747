"""The gallery page in a real Chromium without a network."""

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from engine.gallery import (
    GalleryItem,
    GalleryNeighbour,
    GallerySection,
    GalleryTag,
    render_gallery,
)
from tests.browsing import CONTRAST, PATIENCE, Offline, chromium

NASTY = (
    "<script>window.hacked=1</script>",
    '"><img src=x onerror="window.hacked=1">',
    "' onmouseover='window.hacked=1",
    "{{ 7 * 7 }}</script><style>body{display:none}</style>",
    "שקיעה \u202eמעל הים",
    "🌊 a & b &amp; c",
    "x" * 300,
)


def jpeg(colour: str, size: tuple[int, int] = (96, 64)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "JPEG")
    return file.getvalue()


def item(
    image_id: str, tags: dict[str, float], truth: tuple[str, ...] | None, size: tuple[int, int]
) -> GalleryItem:
    return GalleryItem(
        image_id=image_id,
        picture=jpeg("teal", size),
        tags=tuple(GalleryTag(tag, score) for tag, score in tags.items()),
        truth=truth,
        neighbours=(
            GalleryNeighbour(f"{image_id}-near", 0.125, jpeg("navy", (32, 32))),
            GalleryNeighbour(f"{image_id}-far", 0.75, None),
        ),
        error=None,
        reason=None,
    )


def failed(image_id: str, code: str, reason: str) -> GalleryItem:
    return GalleryItem(image_id, None, (), None, (), code, reason)


SEA = item("sea-10", {"sea": 0.9, "boat": 0.5, "cat": 0.004}, ("sea", "boat", "sky"), (96, 64))
HILL = item("hill-9", {"hill": 0.8, "tree": 0.3}, ("hill", "tree"), (64, 96))
PHOTO = item("photo-1", {"beach": 0.95, "sand": 0.2}, None, (96, 64))
BROKEN = failed("cut-2", "truncated", "the file ends after 12 of 90 bytes")
SECTIONS = (
    GallerySection("Held-out pictures", "Never seen before.", "bundle-a", (SEA, BROKEN, HILL)),
    GallerySection("Photos", "", "bundle-b", (PHOTO,)),
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@dataclass
class Opener(Offline):
    """Opens galleries."""

    def __call__(
        self, sections: tuple[GallerySection, ...] = SECTIONS, width: int = 1280, dark: bool = False
    ) -> Page:
        return self.open(render_gallery("A gallery", sections), width, dark)


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[Opener]:
    opener = Opener(browser, tmp_path)
    yield opener
    opener.close()


def slide(page: Page, per_cent: int) -> None:
    page.get_by_label("Threshold").fill(str(per_cent))


def check_cards(page: Page, expected: list[str]) -> None:
    """See that the page shows these cards, in time."""
    deadline = time.monotonic() + PATIENCE
    found: list[str] = []
    while found != expected and time.monotonic() < deadline:
        cards = page.locator(".card:visible")
        found = cards.evaluate_all("cards => cards.map(card => card.dataset.id)")
    assert found == expected


def test_shows_pictures_tags_scores_and_counts(open_page: Opener) -> None:
    page = open_page()
    rows = page.locator("[data-id=sea-10] .tag")
    assert rows.locator(".name").all_inner_texts() == ["sea", "boat", "cat"]
    assert rows.locator(".score").all_inner_texts() == ["90%", "50%", "0.4%"]
    assert page.locator(".summary dd").all_inner_texts() == [
        "4",
        "3",
        "1",
        "80% 4 of 5",
        "80% 4 of 5",
    ]
    expect(page.get_by_role("status")).to_have_text("4 of 4 pictures, 7 of 7 tags, 80% right")
    expect(page.locator("#section-1 .count")).to_have_text("3 pictures, 1 failed")
    picture = page.get_by_alt_text("Picture sea-10")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 96


def test_marks_right_and_missed_tags_not_by_colour_alone(open_page: Opener) -> None:
    page = open_page()
    sea = page.locator("[data-id=sea-10]")
    assert sea.locator(".tag.right .name").all_inner_texts() == ["sea", "boat"]
    icons = sea.locator(".tag use").evaluate_all("nodes => nodes.map(n => n.getAttribute('href'))")
    assert icons == ["#icon-right", "#icon-right", "#icon-wrong"]
    assert sea.locator(".tag .sr").all_inner_texts() == ["right", "right", "not in the truth"]
    assert sea.locator(".chip:visible").all_inner_texts() == ["sky"]
    expect(page.locator("[data-id=hill-9] .missed")).to_be_hidden()
    unknown = page.locator("[data-id=photo-1]")
    assert unknown.locator(".mark, .right, .wrong, .missed, .tally").count() == 0


def test_threshold_hides_tags_and_counts_them_as_missed(open_page: Opener) -> None:
    page = open_page()
    slide(page, 60)
    sea = page.locator("[data-id=sea-10]")
    expect(page.get_by_role("status")).to_have_text("4 of 4 pictures, 3 of 7 tags, 100% right")
    assert sea.locator(".tag:visible .name").all_inner_texts() == ["sea"]
    assert sea.locator(".chip:visible").all_inner_texts() == ["boat", "sky"]
    expect(sea.locator(".tally")).to_have_text("1 of 1 right")
    slide(page, 90)
    expect(sea.locator(".tag:visible")).to_have_count(1)
    slide(page, 100)
    expect(sea.locator(".none")).to_be_visible()


def test_search_and_filters_choose_cards(open_page: Opener) -> None:
    page = open_page()
    search = page.get_by_label("Search by tag")
    search.fill(" SE")
    check_cards(page, ["sea-10"])
    expect(page.locator("#section-2")).to_be_hidden()
    search.fill("sky")
    expect(page.locator(".chip.hit")).to_have_text("sky")
    search.fill("nothing like it")
    expect(page.get_by_text("No picture matches")).to_be_visible()
    page.get_by_role("button", name="Clear the filters").click()
    check_cards(page, ["sea-10", "cut-2", "hill-9", "photo-1"])
    page.get_by_text("With mistakes", exact=True).click()
    check_cards(page, ["sea-10"])
    page.get_by_text("Failed", exact=True).last.click()
    check_cards(page, ["cut-2"])
    page.get_by_text("All", exact=True).first.click()
    page.get_by_role("combobox", name="Section").select_option("Photos")
    check_cards(page, ["photo-1"])


def test_sorts(open_page: Opener) -> None:
    none_right = item("sea-9", {"dog": 0.6}, ("sea",), (64, 64))
    page = open_page((replace(SECTIONS[0], items=(none_right, SEA, BROKEN, HILL)),))
    for order, ids in {
        "Id": ["cut-2", "hill-9", "sea-9", "sea-10"],
        "Best score": ["sea-10", "hill-9", "sea-9", "cut-2"],
        "As given": ["sea-9", "sea-10", "cut-2", "hill-9"],
        "Most right": ["sea-10", "hill-9", "sea-9", "cut-2"],
    }.items():
        page.get_by_label("Sort").select_option(order)
        check_cards(page, ids)


def test_broken_pictures_say_why(open_page: Opener) -> None:
    tiff = replace(SEA, image_id="tiff", picture=b"II*\x00 no browser draws this")
    page = open_page((GallerySection("All", "", "b", (BROKEN, tiff)),))
    expect(page.locator("[data-id=cut-2] code")).to_have_text("truncated")
    expect(page.locator("[data-id=cut-2] .error p")).to_have_text(BROKEN.reason or "")
    expect(page.locator("[data-id=tiff] .picture .sr").first).to_contain_text("no picture to show")
    assert page.locator("[data-id=tiff] .picture img").count() == 0


def test_dialog_by_keyboard_alone(open_page: Opener) -> None:
    page = open_page()
    slide(page, 60)
    picture = page.locator("[data-id=sea-10] .picture")
    picture.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="sea-10")
    expect(dialog).to_be_visible()
    assert dialog.locator(".tag:visible .name").all_inner_texts() == ["sea", "boat", "cat"]
    assert dialog.locator(".chip:visible").all_inner_texts() == ["sky"]
    near = dialog.locator(".detail-neighbours li")
    assert near.locator("bdi").all_inner_texts() == ["sea-10-near", "sea-10-far"]
    expect(near.first).to_contain_text("distance 0.125")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("dialog", name="cut-2")).to_contain_text("truncated")
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_be_hidden()
    expect(picture).to_be_focused()


def test_neighbours_tell_id_and_distance_on_focus_and_hover(open_page: Opener) -> None:
    page = open_page()
    sea = page.locator("[data-id=sea-10]")
    who = sea.locator(".who")
    expect(who).to_have_text("nearest 0.125")
    sea.get_by_role("button", name="Neighbour sea-10-near, distance 0.125").focus()
    expect(who).to_contain_text("sea-10-near")
    page.keyboard.press("ArrowRight")
    expect(who).to_contain_text("sea-10-far")
    expect(who).to_contain_text("0.750")
    hill = page.locator("[data-id=hill-9]")
    hill.locator(".neighbour").first.hover()
    expect(hill.locator(".who")).to_contain_text("hill-9-near")


def test_no_sideways_scrolling(open_page: Opener) -> None:
    page = open_page((*SECTIONS, nasty_section()), width=360)
    page.get_by_role("button", name="More filters").click()
    page.locator(".card").last.locator(".picture").click()
    for width in (320, 360, 768):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("dialog").evaluate("d => d.scrollWidth <= d.clientWidth")
        for control in page.locator(".controls, .controls > *, #filters > *, .bar select").all():
            box = control.bounding_box()
            if box is not None:
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= width


READ = (
    ".name, .score, .chip:visible, .tally, .who, .label, .error code, .error p, .note, .count",
    ".bundle, dt, dd, small, nav a, #status, .segments span, .legend li, .badge, .pick span",
)


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out(open_page: Opener, dark: bool) -> None:
    page = open_page(dark=dark)
    for selector in READ:
        found = page.locator(selector).all()
        assert found, selector
        for node in found:
            assert node.evaluate(CONTRAST) >= 4.5, selector


def test_theme_button_turns_the_colours(open_page: Opener) -> None:
    page = open_page()
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(ground)
    toggle = page.get_by_role("button", name="Dark colours")
    expect(toggle).to_have_attribute("aria-pressed", "false")
    toggle.click()
    expect(toggle).to_have_attribute("aria-pressed", "true")
    dark = page.evaluate(ground)
    assert dark != light
    toggle.click()
    assert page.evaluate(ground) == light
    assert open_page(dark=True).evaluate(ground) == dark


@pytest.mark.parametrize("sections", [(), (GallerySection("None yet", "", "b", ()),)])
def test_an_empty_gallery_says_so(open_page: Opener, sections: tuple[GallerySection, ...]) -> None:
    page = open_page(sections)
    expect(page.get_by_text("This gallery is empty: no picture was annotated.")).to_be_visible()
    assert page.get_by_role("search").count() == 0


def nasty_section() -> GallerySection:
    items = [
        GalleryItem(
            image_id=text,
            picture=jpeg("olive"),
            tags=(GalleryTag(text, 0.5),),
            truth=(text, f"missed {text}"),
            neighbours=(GalleryNeighbour(text, 0.5, None),),
            error=None,
            reason=None,
        )
        for text in NASTY
    ]
    items += [failed(text, "not_an_image", text) for text in NASTY]
    return GallerySection(NASTY[0], NASTY[1], NASTY[2], tuple(items))


def test_nasty_strings_are_shown_as_they_are_and_do_nothing(open_page: Opener) -> None:
    page = open_page((nasty_section(), SECTIONS[1]))
    cards = page.locator("#section-1 .card")
    names = cards.locator(".name").evaluate_all("nodes => nodes.map(n => n.textContent)")
    assert names == list(NASTY)
    assert [card.get_attribute("data-id") for card in cards.all()] == list(NASTY) * 2
    reasons = cards.locator(".error p").evaluate_all("nodes => nodes.map(n => n.textContent)")
    assert reasons == list(NASTY)
    for position in range(len(NASTY)):
        cards.nth(position).locator(".picture").click()
        assert page.locator("#detail-id").text_content() == NASTY[position]
        page.keyboard.press("Escape")
    assert page.evaluate("window.hacked") is None


def test_policy_stops_what_escaping_might_miss(open_page: Opener) -> None:
    page = open_page()
    with page.expect_event("requestfailed") as blocked:
        page.evaluate(
            """document.body.insertAdjacentHTML("beforeend",
            '<img src="http://127.0.0.1:9/x.png" onerror="window.hacked = 1">')"""
        )
    assert blocked.value.failure == "csp"
    assert page.evaluate("window.hacked") is None
    assert open_page.complaints
    assert all("Content Security Policy" in text for text in open_page.complaints)
    open_page.complaints.clear()
    open_page.requests.remove("http://127.0.0.1:9/x.png")
